"""Many alerts are a short list: nothing worse is below, nothing is left out, history is apart."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from whimbrel_server.views.alerts import AlertView
from whimbrel_server.views.devices import DeviceView, SlotView
from whimbrel_server.views.drift import LossView
from whimbrel_server.web import attention, scale

if TYPE_CHECKING:
    from litestar import Litestar
    from litestar.testing import TestClient

    from tests.support.fake_fleet.fleet import FakeFleet

alerts = st.lists(
    st.builds(
        AlertView,
        id=st.integers(1, 10**6),
        at_ms=st.integers(0, 10**6),
        raised_ms=st.integers(0, 10**6),
        kind=st.sampled_from(["drift", "quality", "device", "rollout", "retraining"]),
        severity=st.sampled_from(["notice", "warn", "severe"]),
        message=st.just("m"),
        device=st.sampled_from(["", "ewr", "lga"]),
        model=st.just("flights"),
        version=st.sampled_from(["", "1.0.0", "1.1.0"]),
        feature=st.sampled_from(["", "temp", "dewp", "humid", "wind", "visib"]),
    ),
    max_size=30,
    unique_by=lambda a: a.id,
)


@given(alerts)
def test_every_alert_is_in_one_line_and_lines_are_worst_first(found: list[AlertView]) -> None:
    made = attention.groups(found)
    assert sorted(a.id for g in made for a in g.alerts) == sorted(a.id for a in found)
    ranks = [scale.RANK[g.severity] for g in made]
    assert ranks == sorted(ranks, reverse=True)
    for group in made:
        assert scale.RANK[group.severity] == max(scale.RANK[a.severity] for a in group.alerts)
        assert len({(a.device, a.model, a.version) for a in group.alerts}) == 1
        if len(group.alerts) > 1:
            assert {a.kind for a in group.alerts} == {"drift"}


@given(alerts)
def test_alerts_of_versions_that_nobody_serves_are_history(found: list[AlertView]) -> None:
    slot = SlotView(slot="s", phase="serving", name="flights", version="1.1.0")
    now, before = attention.divided(found, [DeviceView(device="lga", slots=(slot,))])
    assert sorted(a.id for a in (*now, *before)) == sorted(a.id for a in found)
    assert {a.version for a in before} <= {"1.0.0"}
    assert not any(a.kind in {"rollout", "device"} for a in before)
    assert not any(a.version == "1.0.0" and a.kind == "drift" for a in now)
    assert attention.divided(found, []) == (tuple(found), ()), "nothing is known to be served"


def drifting(fleet: FakeFleet, devices: int) -> None:
    """Let four features drift on each of many devices, one of them severely, with new ids."""
    like = next(a for a in fleet._alerts if a.kind == "drift")
    fleet._alerts = [
        msgspec.structs.replace(
            like,
            id=100 + 4 * d + f,
            device=f"till-{d:02}",
            version="1.1.0",
            feature=feature,
            severity="severe" if (d, feature) == (devices - 1, "visib") else "warn",
            message=f"{feature} has drifted on till-{d:02}",
            state="open",
        )
        for d in range(devices)
        for f, feature in enumerate(("temp", "dewp", "humid", "visib"))
    ]


def test_a_fleet_that_drifts_is_a_page_of_lines_and_the_worst_is_on_top(
    client: TestClient[Litestar], fleet: FakeFleet
) -> None:
    drifting(fleet, 20)
    page = client.get("/fleet.json").json()
    assert (page["alerts_open"], len(page["alerts"]), page["alerts_left"]) == (80, 8, 12)
    assert page["alerts"][0]["severity"] == "severe"
    assert (
        page["alerts"][0]["message"]
        == "visib, temp, dewp and humid of flights 1.1.0 have drifted on till-19"
    )
    text = client.get("/").text
    assert "Show 12 more" in text
    assert "humid has drifted on till-19" in text, "every member is in the page"
    assert len(client.get("/fleet.json?alerts=all").json()["alerts"]) == 20
    assert "Show 12 more" not in client.get("/?alerts=all").text


def test_the_alerts_of_a_device_have_a_heading(
    client: TestClient[Litestar], fleet: FakeFleet
) -> None:
    drifting(fleet, 1)
    fleet._alerts = [msgspec.structs.replace(a, device="lga") for a in fleet._alerts]
    text = client.get("/devices/lga").text
    assert 'Open alerts <span class="count">4</span>' in text
    assert "All 4" in text


def test_of_drifts_alike_the_one_that_costs_is_first_and_a_harmless_one_stands_by_its_age() -> None:
    def alert(number: int, severity: str, loss: float, reading: str) -> AlertView:
        cost = LossView(
            measure="AUC",
            reference=0.7,
            current=0.7 - loss,
            se=0.001,
            loss=loss,
            reading=reading,  # type: ignore[arg-type]
            rows=900,
        )
        return AlertView(
            id=number,
            at_ms=number,
            raised_ms=number,
            kind="drift",
            severity=severity,  # type: ignore[arg-type]
            message="m",
            device=f"d{number}",
            feature="x0",
            loss=cost,
        )

    found = [
        alert(1, "warn", 0.002, "harmless"),
        alert(2, "warn", 0.05, "costly"),
        alert(3, "warn", 0.001, "harmless"),
        alert(4, "severe", 0.0, "harmless"),
        alert(5, "warn", 0.09, "costly"),
    ]
    made = attention.groups(found)
    assert [one.alerts[0].id for one in made] == [4, 5, 2, 3, 1]
    assert [one.loss.loss for one in made if one.loss is not None] == [0, 0.09, 0.05, 0.001, 0.002]


def test_the_page_of_an_alert_says_why_and_what_it_costs(client: TestClient[Litestar]) -> None:
    text = client.get("/alerts/3").text
    for words in (
        "Evidence, against the device&#39;s own beginning: log e 54.2",
        "No rollout is near: lga had served 1.0.0 for 41 d by then",
        "look for a common cause",
        "All of them are site=north",
        "agent 0.1.0 → 0.2.0",
        "expected AUC 0.713 → 0.655 (± 0.012): it costs quality",
        "only labels show it",
        "Work it out again",
    ):
        assert words in text, words
    assert "The same to the last bit" not in text
    assert "The same to the last bit" in client.get("/alerts/3?replay=1").text
    assert "Work it out again" not in client.get("/alerts/4").text, "a rollout has no verdict"
    assert client.get("/alerts/999").status_code == 404
    assert client.get("/alerts/x").status_code == 404


def alert(number: int, **more: object) -> AlertView:
    usual = {
        "id": number, "at_ms": 0, "raised_ms": 0, "kind": "drift", "severity": "warn",
        "message": "m", "model": "flights", "version": "1.1.0", "feature": "temp",
        "cause": f"c{number}",
    }  # fmt: skip
    return msgspec.convert({**usual, **more}, AlertView)


def test_what_stands_under_what_stands_under_another_is_inside_the_uppermost() -> None:
    fleet = alert(1, scope="fleet")
    data = alert(2, kind="data", scope="fleet", under="c1", severity="severe")
    ewr = alert(3, kind="data", device="ewr", under="c2")
    (line,) = attention.groups([ewr, data, fleet])
    assert line.alerts == (fleet,)
    assert {a.id for a in line.under} == {2, 3}
    assert [d.device for d in line.devices] == ["ewr"]


@given(st.lists(st.integers(0, 6), min_size=6, max_size=6))
def test_no_way_in_which_alerts_stand_under_one_another_loses_any(under: list[int]) -> None:
    found = [alert(i, under=f"c{above}" if above else "") for i, above in enumerate(under, 1)]
    lines = attention.groups(found)
    shown = [a.id for line in lines for a in (*line.alerts, *line.under)]
    assert sorted(shown) == [1, 2, 3, 4, 5, 6]


def test_alerts_of_devices_are_inside_the_one_that_is_told_in_their_place() -> None:
    figures = {"figures": {"count": 312, "devices": 1000, "gathered": [{"cohort": "site=ewr"}]}}
    found = [
        alert(1, scope="fleet", evidence=figures),
        alert(
            2, scope="fleet", feature="dewp", evidence={"figures": {"count": 9, "devices": 1000}}
        ),
        alert(3, device="ewr", under="c1", severity="severe"),
        alert(4, device="ewr", feature="dewp", under="c2"),
        alert(5, device="lga", under="c1"),
        alert(6, device="jfk", under="gone"),
    ]
    first, second = attention.groups(found)
    assert [a.id for a in first.alerts] == [1, 2]
    assert first.message == (
        "temp and dewp of flights 1.1.0 have drifted on up to 312 of 1,000 devices, most in site=ewr"
    )
    assert [(d.device, d.severity, d.features) for d in first.devices] == [
        ("ewr", "severe", ("dewp", "temp")),
        ("lga", "warn", ("temp",)),
    ]
    # What it stood under is not open any more: it stands by itself.
    assert [a.id for a in second.alerts] == [6]
    assert [a.id for a in attention.standing(found)] == [1, 2, 6]
