"""What is wrong with the data of many devices is told once, of the group that it is in."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import pytest

from tests.server.jobs.test_fold import DAY_MS, START_MS, Books
from tests.support import windows
from tests.support.device import serving
from tests.support.windows import Counter
from whimbrel_core.profile.drift.levels import Thresholds
from whimbrel_core.wire.messages import State
from whimbrel_server.ingest.batch import Incoming
from whimbrel_server.jobs import watch
from whimbrel_server.store import aggregates, schema

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.house import House
    from tests.support.models import MadeBundle
    from whimbrel_server.views.alerts import AlertView

ALL = ("ewr", "jfk", "lga")
LEAST = Thresholds().min_rows


@pytest.fixture
def made(house: House) -> MadeBundle:
    return house.publish("1.0.0", window_s=86_400)


@pytest.fixture
def books(house: House, made: MadeBundle, tmp_path: Path) -> Iterator[Books]:
    opened = Books(house, tmp_path)
    for device in ("jfk", "lga"):
        opened.fleet.label_device(device, {"state": "ny"}, "operator")
    yield opened
    opened.fleet.stop()


def send(
    books: Books, made: MadeBundle, day: int, *, stuck: tuple[str, ...] = (), rows: int = 300
) -> None:
    """Let every device send a day's window; in ``stuck`` ones the first column has one value."""
    batch = []
    for n, device in enumerate(ALL):
        window = Counter(made, seed=10 * day + n).window(
            START_MS + day * DAY_MS, seconds=86_400, rows=rows, stuck=device in stuck
        )
        data = windows.message(made, window, device=device, epoch="00000000000000aa", seq=day + 1)
        batch.append(Incoming(f"whimbrel/v1/{device}/up/window", data, 0))
    books.take(batch)
    books.fold()


def told(books: Books) -> list[AlertView]:
    return [one for one in books.fleet.alerts("open") if one.kind == "data"]


def test_what_all_devices_have_is_one_alert_of_the_fleet_with_theirs_under_it(
    books: Books, made: MadeBundle
) -> None:
    send(books, made, 0)
    send(books, made, 1, stuck=ALL)
    assert told(books) == [], "one period is not told"
    send(books, made, 2, stuck=ALL)
    (top,) = [one for one in told(books) if not one.under]
    assert (top.scope, top.device, top.severity) == ("fleet", "", "severe")
    assert top.message.startswith("data of churn 1.0.0 on all devices together: x0 ")
    assert {one.device for one in told(books) if one.under == top.cause} == set(ALL)
    found = books.fleet.replay(top.id)
    assert (found.outcome, found.windows, found.recounted) == ("same", 3, 3), found
    assert "3 periods through the inspection of data again" in found.sentence
    said = [s for p in books.fleet.explain(top.id).paragraphs for s in p.sentences]
    assert any("So it was in the newest 2 periods in a row" in one for one in said)
    assert any("over 3 periods from" in one for one in said)
    # It ends with what it was about, and those under it stand by themselves no longer than that.
    for day in (3, 4, 5):
        send(books, made, day)
    assert told(books) == []


def test_what_a_site_has_is_told_of_the_site_and_of_the_fleet_once_it_is_everywhere(
    books: Books, made: MadeBundle
) -> None:
    books.fleet.label_device("ewr", {"state": "nj"}, "operator")
    for day in range(2):
        send(books, made, day, stuck=("jfk", "lga"))
    (top,) = [one for one in told(books) if not one.under]
    # Two of three devices have one value in all rows: of the fleet that is no constant.
    assert top.scope == "state=ny"
    assert top.evidence["level"] == "cohort"
    assert top.message.startswith("data of churn 1.0.0 on state=ny together: x0 was 0.25 in all")
    assert books.fleet.replay(top.id).outcome == "same"
    for day in (2, 3):
        send(books, made, day, stuck=ALL)
    (now,) = [one for one in told(books) if not one.under]
    assert (now.id, now.scope) == (top.id, "fleet"), "one thing that is wrong is one alert"
    assert {one.device for one in told(books) if one.under} == set(ALL)
    assert books.fleet.replay(top.id).outcome == "same"


def test_what_one_device_tells_is_not_told_again_of_its_groups(
    books: Books, made: MadeBundle
) -> None:
    books.fleet.label_device("lga", {"roof": "flat"}, "operator")
    for day in range(3):
        send(books, made, day, stuck=("lga",))
    assert [(one.device, one.scope, one.under) for one in told(books)] == [("lga", "", "")]


def test_what_no_device_has_rows_enough_to_tell_is_told_of_all_together(
    books: Books, made: MadeBundle
) -> None:
    for day in range(2):
        send(books, made, day, stuck=ALL, rows=LEAST - 1)
    (alert,) = told(books)
    assert (alert.scope, alert.under) == ("fleet", "")
    assert alert.evidence["inputs"][-1]["rows"] == 3 * (LEAST - 1)
    assert books.fleet.replay(alert.id).outcome == "same"


def test_counts_of_a_group_that_were_changed_or_deleted_show_in_the_replay(
    books: Books, made: MadeBundle
) -> None:
    for day in range(2):
        send(books, made, day, stuck=ALL)
    (top,) = [one for one in told(books) if not one.under]
    database, table = books.fleet._database, schema.aggregates
    newest = (table.c.subject == "fleet") & (table.c.step == "day")
    newest &= table.c.bucket_ms == START_MS + DAY_MS
    with database.read() as connection:
        (plain,) = aggregates.periods(
            connection, made.digest, "c:state=ny", "day", since_ms=START_MS + DAY_MS
        )
    database.write(
        lambda connection: connection.execute(
            table.update().where(newest).values(payload=plain.payload)
        )
    )
    found = books.fleet.replay(top.id)
    assert found.outcome == "differs"
    assert any("its rows" in fault for fault in found.faults)
    database.write(lambda connection: connection.execute(table.delete().where(newest)))
    found = books.fleet.replay(top.id)
    assert (found.outcome, found.recounted) == ("same", 1)


def test_the_alert_of_a_version_that_nobody_serves_any_more_is_closed(
    books: Books, made: MadeBundle
) -> None:
    for day in range(2):
        send(books, made, day, stuck=ALL)
    assert told(books)
    registry = books.fleet._registry
    for record in registry.all():
        slots = (serving(made, digest="f" * 64),)
        state = State(record.device, 1, 1, slots=slots)
        registry.settle({record.device: msgspec.structs.replace(record, state=state)})
    watch.watch_served(books.fleet._database, registry, START_MS)
    assert told(books) == []
