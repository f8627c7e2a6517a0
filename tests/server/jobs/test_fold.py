"""The fold: whatever the order, repetition or crash, the same books."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import msgspec
import pytest
import sqlalchemy as sa

from tests.server.conftest import settings_for
from tests.support import windows
from tests.support.windows import Counter
from whimbrel_server.app import Fleet
from whimbrel_server.domain import verdict
from whimbrel_server.ingest.batch import Incoming, sort
from whimbrel_server.store import schema

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.house import House
    from tests.support.models import MadeBundle

START_MS = 1_735_689_600_000
DAY_MS = 86_400_000
DEVICES = ("ewr", "jfk", "lga")


def messages(made: MadeBundle, days: int, *, drifting: str = "") -> list[Incoming]:
    found = []
    for number, device in enumerate(DEVICES):
        counter = Counter(made, seed=number)
        for day in range(days):
            shift = 1.2 if device == drifting and day >= days * 3 // 4 else 0.0
            window = counter.window(
                START_MS + day * DAY_MS, seconds=86_400, rows=300, shift=shift, labels=True
            )
            data = windows.message(
                made, window, device=device, epoch="00000000000000aa", seq=day + 1
            )
            topic = f"whimbrel/v1/{device}/up/window"
            found.append(Incoming(topic, data, 0))
    return found


class Books:
    """A fleet without threads: batches go in, the fold is run by hand."""

    def __init__(self, house: House, folder: Path) -> None:
        self._settings = settings_for(house, 1, folder)
        self.open()
        for device in DEVICES:
            assert self.fleet.knows(device)

    def open(self) -> None:
        self.fleet = Fleet(self._settings, env={}, now_ms=lambda: START_MS)

    def take(self, batch: list[Incoming]) -> None:
        sorted_out = sort(batch, self.fleet._admission)
        journal = self.fleet._journal
        self.fleet._database.write(
            lambda connection: journal.commit(connection, sorted_out, START_MS), journal.settle
        )

    def fold(self) -> None:
        self.fleet._fold.catch_up()

    def crash(self) -> None:
        """Forget everything that is only in memory."""
        self.fleet._database.close()
        self.open()

    def content(self) -> dict[str, list[object]]:
        """Return everything that the fold wrote, in a comparable form."""
        found: dict[str, list[object]] = {}
        with self.fleet._database.read() as connection:
            for table in (schema.aggregates, schema.detectors, schema.judgements):
                keys = list(table.primary_key)
                rows = connection.execute(sa.select(table).order_by(*keys)).all()
                found[table.name] = [tuple(row) for row in rows]
            found["alerts"] = [
                (row.cause, row.severity, row.state)
                for row in connection.execute(
                    sa.select(schema.alerts).order_by(schema.alerts.c.cause)
                )
            ]
        return found


@pytest.fixture
def made(house: House) -> MadeBundle:
    return house.publish("1.0.0", window_s=86_400)


def test_any_order_and_repetition_gives_the_same_books(
    house: House, made: MadeBundle, tmp_path: Path
) -> None:
    sent = messages(made, 24, drifting="lga")
    plain = Books(house, tmp_path / "plain")
    plain.take(sent)
    plain.fold()
    mixed = Books(house, tmp_path / "mixed")
    rng = random.Random(7)
    shuffled = sent + rng.sample(sent, 20)
    rng.shuffle(shuffled)
    for at in range(0, len(shuffled), 10):
        mixed.take(shuffled[at : at + 10])
        if rng.random() < 0.6:
            mixed.fold()
    mixed.fold()
    one, other = plain.content(), mixed.content()
    assert one["aggregates"] == other["aggregates"]
    assert one["detectors"] == other["detectors"]
    assert one["judgements"] == other["judgements"]
    assert {row for row in one["alerts"] if "open" in row} == {  # type: ignore[operator]
        row
        for row in other["alerts"]
        if "open" in row  # type: ignore[operator]
    }
    plain.fleet.stop()
    mixed.fleet.stop()


def test_a_crash_between_commit_and_checkpoint_loses_and_doubles_nothing(
    house: House, made: MadeBundle, tmp_path: Path
) -> None:
    sent = messages(made, 12, drifting="lga")
    plain = Books(house, tmp_path / "plain")
    plain.take(sent)
    plain.fold()
    cut = Books(house, tmp_path / "cut")
    for at in range(0, len(sent), 7):
        cut.take(sent[at : at + 7])
        # In memory only: the checkpoint never comes.
        cut.fleet._fold._fold_some()
        cut.crash()
        if at % 2:
            cut.fold()
    cut.fold()
    assert plain.content()["aggregates"] == cut.content()["aggregates"]
    assert plain.content()["detectors"] == cut.content()["detectors"]
    plain.fleet.stop()
    cut.fleet.stop()


def test_drift_of_one_device_is_found_there_and_not_on_the_others(
    house: House, made: MadeBundle, tmp_path: Path
) -> None:
    books = Books(house, tmp_path)
    # The manifest's warm-up is 48 windows; the drift begins after three quarters of 80.
    books.take(messages(made, 80, drifting="lga"))
    books.fold()
    fleet = books.fleet
    alarms = [one for one in fleet.alerts("open") if one.kind == "drift"]
    assert {(one.device, one.feature) for one in alarms if one.feature == "x0"} == {("lga", "x0")}
    assert {one.device for one in alarms} == {"lga"}
    (alarm,) = [one for one in alarms if one.feature == "x0"]
    found = verdict.read(alarm.evidence)
    assert found is not None
    assert found.figures["log_e"] >= found.thresholds["log_e"]
    assert found.inputs[-1].start_ms == found.at_ms == alarm.at_ms
    assert found.history == (found.at_ms - START_MS) // DAY_MS + 1
    assert {one.rows for one in found.inputs} == {300}
    assert alarm.message.startswith("x0 of churn 1.0.0 has drifted on lga (location, PSI ")
    assert START_MS + 60 * DAY_MS <= alarm.at_ms <= START_MS + 68 * DAY_MS
    device = fleet.drift("churn", level="device", subject="lga")
    assert {one.against for one in device} == {"baseline", "peers"}
    assert device[0].worst == "severe"
    peers = next(one for one in device if one.against == "peers")
    assert peers.features[0].feature == "x0"
    levels = {one.level for one in fleet.drift("churn")}
    assert levels == {"device", "fleet"}
    series = fleet.drift_series("churn", device="lga", feature="x0")["x0"]
    assert len(series) == 80
    assert max(point.psi or 0 for point in series[:60]) < 0.25 < (series[-1].psi or 0)
    quality = fleet.quality_series("churn")["1.0.0"]
    assert sum(point.labelled_rows for point in quality) == 80 * 3 * 300
    assert all(point.auc_realised and point.auc_expected for point in quality)
    shown = fleet.histogram("churn", "1.0.0", "lga", "x0")
    assert sum(shown.reference) == pytest.approx(1.0)
    assert sum(shown.current) == pytest.approx(1.0)
    assert len(shown.cells) == len(shown.current) == len(shown.edges) + 1
    fleet.stop()


def test_a_cohort_is_what_a_device_was_labelled_when_it_sent(
    house: House, made: MadeBundle, tmp_path: Path
) -> None:
    books = Books(house, tmp_path)
    books.fleet.label_device("lga", {"site": "ny"}, "operator")
    sent = messages(made, 4)
    books.take(sent[: len(sent) // 2])
    books.fleet.label_device("lga", {"site": ""}, "operator")
    books.fleet.label_device("jfk", {"site": "ny"}, "operator")
    books.take(sent[len(sent) // 2 :])
    books.fold()
    (cohort,) = [one for one in books.fleet.drift("churn") if one.level == "cohort"]
    assert cohort.subject == "site=ny"
    series = books.fleet.drift_series("churn", cohort="site=ny", feature="x0")["x0"]
    assert [point.rows for point in series] == [300, 300]
    books.fleet.stop()


def test_a_bundle_that_was_published_later_gets_its_windows_then(
    house: House, tmp_path: Path
) -> None:
    books = Books(house, tmp_path)
    made = house.publish("1.0.0", window_s=86_400)
    books.take(messages(made, 1))
    books.fold()
    assert books.fleet.model("churn").versions[0].rows == 900
    assert msgspec.json.encode(books.fleet.models())
    books.fleet.stop()
