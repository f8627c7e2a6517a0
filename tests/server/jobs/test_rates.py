"""What devices tell of how much they are asked becomes an alert, and its end."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import pytest

from tests.server.jobs.test_fold import START_MS, Books
from whimbrel_core.wire import codec
from whimbrel_core.wire.messages import EventMessage, SlotReport, State
from whimbrel_server.ingest.batch import Incoming
from whimbrel_server.jobs.rates import watch_slots

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.house import House
    from whimbrel_server.views.alerts import AlertView

HOUR_MS = 3_600_000


@pytest.fixture
def books(house: House, tmp_path: Path) -> Iterator[Books]:
    house.publish("1.0.0", window_s=86_400)
    opened = Books(house, tmp_path)
    yield opened
    opened.fleet.stop()


def event(seq: int, state: str, hour: int, **changes: str) -> Incoming:
    detail = {
        "before": "ok",
        "now": state,
        "requests": "120",
        "expected": "20.8",
        "z": "8.51",
        "window_start_ms": str(START_MS + hour * HOUR_MS),
        "window_end_ms": str(START_MS + (hour + 1) * HOUR_MS),
        "what": "",
    }
    message = EventMessage(
        device="ewr",
        epoch="00000000000000aa",
        seq=seq,
        at_ms=START_MS + (hour + 1) * HOUR_MS,
        kind="rate",
        slot="delays",
        digest="ab" * 32,
        detail=detail | changes,
    )
    return Incoming("whimbrel/v1/ewr/up/event", codec.encode(message), START_MS)


def alerts(books: Books) -> list[AlertView]:
    return [alert for alert in books.fleet.alerts(state="open") if alert.kind == "data"]


def test_an_alarm_of_a_device_is_an_alert_until_the_device_says_that_it_is_over(
    books: Books,
) -> None:
    books.take([event(1, "severe", 0)])
    (alert,) = alerts(books)
    assert (alert.device, alert.severity) == ("ewr", "severe")
    assert alert.message == (
        "delays on ewr is asked 5.7 times as much as usual: 120 requests where 21 are expected"
    )
    assert alert.evidence["figures"] == {"requests": 120.0, "expected": 20.8, "z": 8.51}
    books.take([event(1, "severe", 0)])  # sent again
    assert len(alerts(books)) == 1
    books.take([event(2, "ok", 5)])
    assert alerts(books) == []
    assert [one.kind for one in books.fleet.events()] == ["rate", "rate"]


def test_an_event_that_was_overtaken_changes_nothing(books: Books) -> None:
    books.take([event(2, "ok", 5)])
    books.take([event(1, "severe", 0)])
    assert alerts(books) == []


@pytest.mark.parametrize(
    "changes",
    [
        {"now": "dreadful"},
        {"requests": "many"},
        {"expected": "nan"},
        {"requests": "-1"},
        {"window_end_ms": ""},
    ],
)
def test_what_cannot_be_read_is_kept_as_an_event_and_is_no_alert(
    books: Books, changes: dict[str, str]
) -> None:
    books.take([event(1, "severe", 0, **changes)])
    assert alerts(books) == []
    assert len(books.fleet.events()) == 1


def test_the_alert_of_a_slot_that_was_taken_away_ends(books: Books) -> None:
    books.take([event(1, "warn", 0)])
    fleet = books.fleet
    registry = fleet._registry

    def report(*slots: str) -> None:
        state = State("ewr", 1, 1, slots=tuple(SlotReport(slot, "serving") for slot in slots))
        for record in registry.all():
            if record.device == "ewr":
                registry.settle({"ewr": msgspec.structs.replace(record, state=state)})
        watch_slots(fleet._database, registry, START_MS)

    report("delays", "other")
    assert len(alerts(books)) == 1
    report("other")
    assert alerts(books) == []
