"""What a drift may come from: told when it follows from the facts, and not otherwise."""

from __future__ import annotations

import pytest

from whimbrel_server.domain.attribution import (
    Arrival,
    Companion,
    Facts,
    Happening,
    Peer,
    attribute,
    shared_label,
)

HOUR, DAY, MIN5 = 3_600_000, 86_400_000, 300_000
SINCE = 1_735_689_600_000


def facts(**changes: object) -> Facts:
    usual: dict[str, object] = {
        "device": "lga",
        "labels": {"region": "north"},
        "since_ms": SINCE,
        "at_ms": SINCE + HOUR,
        "raised_ms": SINCE + HOUR + 5_000,
        "window_ms": MIN5,
    }
    return Facts(**{**usual, **changes})  # type: ignore[arg-type]


def peer(name: str, since_ms: int | None = None, region: str = "south") -> Peer:
    return Peer(device=name, labels={"region": region}, since_ms=since_ms)


def test_a_drift_that_no_other_device_has_is_this_device_s_alone() -> None:
    found = attribute(facts(peers=(peer("ewr"), peer("jfk"))))
    assert (found.devices, found.others, found.cohort) == ((), 2, "")


def test_devices_that_drifted_about_then_are_told_apart_from_those_long_before() -> None:
    peers = (peer("ewr", SINCE + 3 * HOUR), peer("jfk", SINCE - 30 * DAY), peer("bos"))
    found = attribute(facts(peers=peers))
    assert (found.devices, found.elsewhere) == (("ewr",), ("jfk",))


def test_a_label_that_the_drifted_share_is_named() -> None:
    peers = (peer("ewr", SINCE, "north"), peer("jfk"), peer("bos"))
    assert attribute(facts(peers=peers)).cohort == "region=north"


@pytest.mark.parametrize(
    ("drifted", "regions", "expected"),
    [
        (["a"], "nns", ""),  # one device is no cohort
        (["a", "b"], "nns", "r=n"),
        (["a", "b"], "nsn", ""),  # they share nothing
        (["a", "b", "c"], "nnn", ""),  # all devices have it: it says nothing
        (["a", "b"], "nnnns", ""),  # most that have it are calm
    ],
)
def test_a_label_is_named_only_where_it_tells_the_drifted_from_the_others(
    drifted: list[str], regions: str, expected: str
) -> None:
    labels = {name: {"r": region} for name, region in zip("abcdefg", regions, strict=False)}
    assert shared_label(drifted, labels) == expected


def test_features_that_drifted_about_then_are_companions() -> None:
    companions = (Companion("wind", SINCE - HOUR), Companion("rain", SINCE - 9 * DAY))
    assert attribute(facts(companions=companions)).features == ("wind",)


def test_a_rollout_shortly_before_is_near_and_an_old_one_is_not() -> None:
    def near(ago_ms: int) -> tuple[bool, int | None]:
        came = SINCE - ago_ms
        arrival = Arrival(version="1.2.0", first_ms=came + MIN5, switched_ms=came, rollout=7)
        found = attribute(facts(arrival=arrival))
        return found.near_rollout, found.served_ms

    assert near(2 * HOUR) == (True, 2 * HOUR)
    assert near(41 * DAY) == (False, 41 * DAY)


def test_what_changed_on_the_device_shortly_before_is_near() -> None:
    happenings = (
        Happening(SINCE - 40 * DAY, "agent", "agent 0.1.0 → 0.1.1"),
        Happening(SINCE - HOUR, "clock", "clock unsynced → synced"),
        Happening(SINCE - 2 * HOUR, "agent", "agent 0.1.1 → 0.2.0"),
        Happening(SINCE + DAY, "label", "label site=x"),
    )
    found = attribute(facts(happenings=happenings))
    assert [one.text for one in found.near] == ["agent 0.1.1 → 0.2.0", "clock unsynced → synced"]


def test_windows_of_another_clock_are_not_put_beside_the_log() -> None:
    arrival = Arrival(version="1.2.0", first_ms=SINCE - 3 * DAY, switched_ms=SINCE + 4000 * DAY)
    happening = Happening(SINCE - HOUR, "agent", "agent 0.1.1 → 0.2.0")
    found = attribute(facts(raised_ms=SINCE + 4000 * DAY, arrival=arrival, happenings=(happening,)))
    assert not found.one_clock
    assert found.near == ()
    assert found.served_ms == 3 * DAY  # by the windows' own times, which are of one clock


def test_without_a_beginning_nothing_is_said_to_be_near_it() -> None:
    found = attribute(
        facts(
            since_ms=None,
            peers=(peer("ewr", SINCE),),
            happenings=(Happening(SINCE, "agent", "agent 0.1.1 → 0.2.0"),),
            arrival=Arrival(version="1.2.0", first_ms=SINCE),
        )
    )
    assert (found.devices, found.near, found.served_ms) == ((), (), None)
    assert found.elsewhere == ("ewr",)
