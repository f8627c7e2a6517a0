"""What is wrong with the data of a device, through the real database: told, kept, over, replayed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.server.jobs.test_fold import DAY_MS, START_MS, Books
from tests.support import windows
from tests.support.windows import Counter
from whimbrel_core.wire import codec
from whimbrel_core.wire.messages import SlotReport, State
from whimbrel_server.ingest.batch import Incoming
from whimbrel_server.jobs import watch

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.house import House
    from tests.support.models import MadeBundle


def day(made: MadeBundle, number: int, *, stuck: bool = False, device: str = "lga") -> Incoming:
    """Return one day's window; ``stuck``: the first column has one value in all rows."""
    counter = Counter(made, seed=number)
    start = START_MS + number * DAY_MS
    window = counter.window(start, seconds=86_400, rows=300, stuck=stuck)
    data = windows.message(made, window, device=device, epoch="00000000000000aa", seq=number + 1)
    return Incoming(f"whimbrel/v1/{device}/up/window", data, 0)


def test_a_stuck_sensor_is_told_once_it_lasts_explained_replayed_and_over_when_it_moves(
    house: House, tmp_path: Path
) -> None:
    made = house.publish("1.0.0", window_s=86_400)
    books = Books(house, tmp_path)
    fleet = books.fleet

    def told() -> list[tuple[str, str, str]]:
        return [
            (one.device, one.feature, one.state) for one in fleet.alerts() if one.kind == "data"
        ]

    books.take([day(made, 0), day(made, 1), day(made, 2, stuck=True)])
    books.fold()
    assert told() == [], "one window is not told"
    books.take([day(made, 3, stuck=True), *(day(made, n, device="ewr") for n in range(4))])
    books.fold()
    assert told() == [("lga", "x0", "open")]
    alert = next(one for one in fleet.alerts() if one.kind == "data")
    assert alert.severity == "severe"
    assert "x0 was 0.25 in all 300 rows" in alert.message
    words = [s for p in fleet.explain(alert.id).paragraphs for s in p.sentences]
    assert any("in the newest 2 windows in a row" in one for one in words)
    assert any("a sensor that is stuck" in one for one in words)
    replayed = fleet.replay(alert.id)
    assert (replayed.outcome, replayed.windows, replayed.recounted) == ("same", 4, 4), replayed
    # The newest window of each device says what is wrong with its data, whether told or not.
    (row,) = [one for one in fleet.drift("churn", level="device", subject="lga")
              if one.against == "baseline"]  # fmt: skip
    assert [(one.feature, one.kind) for one in row.findings] == [("x0", "constant")]
    # It goes on while it is not gone for long enough, and ends then.
    books.take([day(made, 4), day(made, 5)])
    books.fold()
    assert told() == [("lga", "x0", "open")]
    assert fleet.replay(alert.id).outcome == "same"
    books.take([day(made, 6)])
    books.fold()
    assert told() == [("lga", "x0", "closed")]
    fleet.stop()


def test_any_order_of_arrival_tells_the_same(house: House, tmp_path: Path) -> None:
    made = house.publish("1.0.0", window_s=86_400)
    sent = [day(made, n, stuck=n >= 3) for n in range(7)]
    found = []
    for name, order in (("plain", sent), ("mixed", [*sent[4:], *sent[:4]])):
        books = Books(house, tmp_path / name)
        for at in range(0, len(order), 2):
            books.take(order[at : at + 2])
            books.fold()
        alerts = [one for one in books.fleet.alerts("open") if one.kind == "data"]
        found.append([(one.feature, one.severity, one.evidence["figures"]) for one in alerts])
        assert {one.outcome for one in books.fleet.replays()} <= {"same"}
        books.fleet.stop()
    assert found[0] == found[1]
    assert len(found[0]) == 1


def test_the_alert_of_a_version_that_is_served_no_more_is_closed(
    house: House, tmp_path: Path
) -> None:
    made = house.publish("1.0.0", window_s=86_400)
    books = Books(house, tmp_path)
    books.take([day(made, n, stuck=True) for n in range(3)])
    books.fold()
    fleet = books.fleet
    assert [one.state for one in fleet.alerts() if one.kind == "data"] == ["open"]
    slot = SlotReport(slot="churn", phase="serving", digest="ab" * 32)
    state = State(device="lga", incarnation=1, revision=1, slots=(slot,))
    books.take([Incoming("whimbrel/v1/lga/up/state", codec.encode(state), 0)])
    watch.watch_served(fleet._database, fleet._registry, START_MS)
    assert [one.state for one in fleet.alerts() if one.kind == "data"] == ["closed"]
    fleet.stop()
