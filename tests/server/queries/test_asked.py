"""Alarms about requests, made again from what the device takes as usual and from stored windows."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import pytest
import sqlalchemy as sa

from tests.server.jobs.test_fold import START_MS, Books
from tests.server.tampering import changed
from tests.support import windows
from tests.support.windows import Counter
from whimbrel_agent.telemetry.rate import Turned, detail
from whimbrel_core.profile.watching.rate import RateState, observe
from whimbrel_core.wire import codec
from whimbrel_core.wire.messages import EventMessage
from whimbrel_server.ingest.batch import Incoming
from whimbrel_server.store import judgements, schema

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.house import House
    from tests.support.models import MadeBundle
    from whimbrel_server.views.alerts import AlertView
    from whimbrel_server.views.verdicts import ReplayView

HOUR_MS = 3_600_000
LEARNT = 9 * 24
USUAL, MANY = 150, 900
EPOCH = "00000000000000aa"


def alarm() -> Turned:
    """Return the turn of a device that is asked six times as much for two hours."""
    state, before = RateState(), RateState()
    counts = [USUAL + 7 * (hour % 3) for hour in range(LEARNT)] + [MANY] * 3
    for hour, requests in enumerate(counts):
        before = state
        state, said = observe(
            state, START_MS + hour * HOUR_MS, START_MS + (hour + 1) * HOUR_MS, requests
        )
        if said is not None and said.before != said.now:
            return Turned(said, before)
    raise AssertionError("nothing was told")


class Device:
    """A device that sends the windows of the two busy hours, and its alarm."""

    def __init__(self, books: Books, made: MadeBundle) -> None:
        self.books = books
        self._made, self._counter, self._seq = made, Counter(made, seed=3), 0
        self.turned = alarm()

    def window(self, requests: int, *, slot: str = "churn", minute: int = 0) -> Incoming:
        """Return a window in the hour that the alarm begins with."""
        self._seq += 1
        start = self.turned.rate.start_ms + minute * 60_000
        found = self._counter.window(start, seconds=3600 - minute * 60, rows=requests)
        data = windows.message(
            self._made, found, device="lga", epoch=EPOCH, seq=self._seq, slot=slot
        )
        return Incoming("whimbrel/v1/lga/up/window", data, 0)

    def past(self, first_ms: int) -> list[Incoming]:
        """Return hourly windows up to the alarm's: of one count of requests, whose rows are alike."""
        plain = self._counter.window(0, seconds=3600, rows=USUAL)
        found = []
        for start in range(first_ms, self.turned.rate.start_ms, HOUR_MS):
            self._seq += 1
            window = msgspec.structs.replace(plain, start_ms=start, end_ms=start + HOUR_MS)
            data = windows.message(self._made, window, device="lga", epoch=EPOCH, seq=self._seq)
            found.append(Incoming("whimbrel/v1/lga/up/window", data, 0))
        return found

    def event(self, **changes: str) -> Incoming:
        """Return the alarm."""
        self._seq += 1
        message = EventMessage(
            device="lga",
            epoch=EPOCH,
            seq=self._seq,
            at_ms=self.turned.rate.end_ms + HOUR_MS,
            kind="rate",
            slot="churn",
            digest=self._made.digest,
            detail=detail(self.turned) | changes,
        )
        return Incoming("whimbrel/v1/lga/up/event", codec.encode(message), START_MS)

    def send(self, *sent: Incoming) -> None:
        """Let the server commit and fold messages."""
        self.books.take(list(sent))
        self.books.fold()

    @property
    def alert(self) -> AlertView:
        """The one alert about requests."""
        fleet = self.books.fleet
        (found,) = [one for one in fleet.alerts() if "is asked" in one.message]
        return found

    def replay(self) -> ReplayView:
        """Return the verdict made again."""
        return self.books.fleet.replay(self.alert.id)


@pytest.fixture
def device(house: House, tmp_path: Path) -> Iterator[Device]:
    made = house.publish("1.0.0", window_s=3_600)
    found = Device(Books(house, tmp_path), made)
    yield found
    found.books.fleet.stop()


def test_an_alarm_about_requests_has_a_verdict_that_is_the_same_when_it_is_made_again(
    device: Device,
) -> None:
    device.send(device.window(600), device.window(300, minute=30), device.event())
    evidence = device.alert.evidence
    assert evidence["rule"] == "rate.device"
    assert evidence["policy"]["ratios"] == [1.5, 2.0, 4.0]
    assert evidence["thresholds"] == {
        "sigmas": 4.0,
        "ratio_warn": 2.0,
        "ratio_severe": 4.0,
        "periods": 2,
    }
    assert evidence["figures"]["requests"] == MANY
    assert evidence["history"] == LEARNT + 1, "periods that taught, and the one that is judged"
    found = device.replay()
    assert (found.outcome, found.windows, found.recounted) == ("same", 2, 2), found
    assert "the requests of 2 windows judged by what was usual" in found.sentence
    said = [s for p in device.books.fleet.explain(device.alert.id).paragraphs for s in p.sentences]
    assert any("standard deviations from what the slot's own past lets expect" in s for s in said)
    assert any(s.startswith("Rule rate.device, version 1, over 217 periods") for s in said)
    # What is for machines is kept with the alert, and not shown with the event.
    (event,) = device.books.fleet.events("lga")
    assert "usual" not in event.detail


def test_what_the_device_tells_of_itself_is_held_against_what_was_usual(device: Device) -> None:
    device.send(device.window(MANY), device.event(z="3.5", now="warn"))
    found = device.replay()
    assert found.outcome == "differs"
    assert {one.figure for one in found.differences} == {"z", "severity"}
    device.send(device.event(requests="1234"))
    found = device.replay()
    assert found.outcome == "differs"
    assert found.faults == ("what was usual was told of another period",)


def test_requests_of_another_slot_or_a_later_window_are_not_its_own(device: Device) -> None:
    mine, other, event = device.window(MANY), device.window(200, slot="other"), device.event()
    device.send(mine, other, event, device.window(40, minute=10))
    found = device.replay()
    assert (found.outcome, found.windows) == ("same", 1), found


def test_without_the_journal_what_is_kept_of_the_windows_is_enough_for_one_slot(
    device: Device,
) -> None:
    device.send(device.window(MANY), device.event())
    with changed(device.books, schema.segments, sa.true()) as (_, put):
        put([])
        found = device.replay()
        assert (found.outcome, found.windows, found.recounted) == ("same", 1, 0)
        assert "from what is kept of them" in found.sentence
        device.send(device.window(10, minute=5))  # later: after the alarm
        assert device.replay().outcome == "same"


def test_without_the_journal_two_slots_of_one_version_cannot_be_told_apart(
    device: Device,
) -> None:
    device.send(device.window(MANY), device.window(200, slot="other"), device.event())
    with changed(device.books, schema.segments, sa.true()) as (_, put):
        put([])
        found = device.replay()
    assert found.outcome == "incomplete"
    assert "the journal no longer tells which" in found.sentence


def test_what_never_arrived_leaves_nothing_proved_and_says_how_much(device: Device) -> None:
    device.send(device.event())
    assert "none of the windows of its period is stored" in device.replay().sentence
    device.send(device.window(300))  # of an earlier number by far: it was on its way
    later = device.replay()
    assert later.outcome == "incomplete", "it came after the alarm was told"
    lost = device.event()
    device.send(lost)
    found = device.replay()
    assert found.outcome == "incomplete"
    assert "300 of the 900 requests of its period are stored" in found.sentence


def test_what_is_usual_is_learnt_again_from_stored_windows_and_told_beside(
    device: Device,
) -> None:
    first = START_MS + (LEARNT - 6 * 24) * HOUR_MS
    device.send(*device.past(first), device.window(MANY), device.event())
    found = device.replay()
    assert found.outcome == "same"
    told = round(device.turned.rate.expected)
    assert found.sentence.endswith(
        " Learnt again from 145 stored windows, 150 requests would be expected where the device "
        f"told {told}."
    )
    with changed(device.books, schema.segments, sa.true()) as (_, put):
        put([])
        assert "150 requests would be expected" in device.replay().sentence


def test_more_requests_than_were_told_and_counts_that_were_changed_are_faults(
    device: Device,
) -> None:
    device.send(device.window(MANY), device.window(100, minute=20), device.event())
    found = device.replay()
    assert found.outcome == "differs"
    assert found.faults == ("the windows of its period have 1,000 requests, not 900",)
    where = schema.judgements.c.subject == "d:lga"
    with changed(device.books, schema.judgements, where) as (rows, put):
        for row in rows:
            kept, said = msgspec.msgpack.decode(row["payload"], type=judgements._Payload)
            wrong = msgspec.structs.replace(kept, requests=450)
            row["payload"] = msgspec.msgpack.encode((wrong, said))
        put(rows)
        found = device.replay()
    assert found.outcome == "differs"
    assert all("are not what its counts give" in fault for fault in found.faults)
    assert len(found.faults) == 2
