"""The journal is read by device and time: what an alert does not stand on is not touched."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import sqlalchemy as sa

from tests.server.jobs.test_fold import DAY_MS, START_MS, Books, messages
from whimbrel_server import config
from whimbrel_server.jobs import watch
from whimbrel_server.queries.replays import recount
from whimbrel_server.store import schema

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.house import House
    from tests.support.models import MadeBundle

DAYS = 8


@pytest.fixture
def made(house: House) -> MadeBundle:
    return house.publish("1.0.0", window_s=86_400)


@pytest.fixture
def books(house: House, made: MadeBundle, tmp_path: Path) -> Iterator[Books]:
    """Yield books of which each commit has one day of one device, and the last one a day of all."""
    opened = Books(house, tmp_path)
    sent = messages(made, DAYS)
    last = sent[DAYS - 1 :: DAYS]
    for one in sent:
        if one not in last:
            opened.take([one])
    opened.take(last)
    opened.fold()
    yield opened
    opened.fleet.stop()


def read(books: Books, **spans: recount.Span) -> list[tuple[str, int]]:
    with books.fleet._database.read() as connection:
        found = list(recount.messages(connection, spans))
    return [(one.device, (one.start_ms - START_MS) // DAY_MS) for one in found]


def days(first: int, last: int) -> recount.Span:
    return recount.Span(START_MS + first * DAY_MS, START_MS + last * DAY_MS)


def test_the_windows_of_a_device_in_a_time_are_read_and_no_others(books: Books) -> None:
    assert read(books, lga=days(2, 4)) == [("lga", day) for day in (2, 3, 4)]
    assert read(books, lga=days(6, 7), ewr=days(0, 0)) == [("ewr", 0), ("lga", 6), ("lga", 7)]
    assert read(books, nobody=days(0, 7)) == []
    assert read(books) == []


def test_segments_of_other_devices_and_times_are_not_even_opened(books: Books) -> None:
    def spoil(connection: sa.Connection) -> None:
        needed = sa.select(schema.journal.c.segment).where(
            schema.journal.c.device == "lga", schema.journal.c.first_ms >= START_MS + 3 * DAY_MS
        )
        connection.execute(
            sa.update(schema.segments)
            .where(schema.segments.c.id.not_in(needed))
            .values(payload=b"\xc1")  # no msgpack begins so
        )

    books.fleet._database.write(spoil)
    assert read(books, lga=days(3, 7)) == [("lga", day) for day in range(3, 8)]
    with pytest.raises(Exception, match="MessagePack"):
        read(books, lga=days(2, 7))


def test_what_is_deleted_from_the_journal_is_not_looked_for(books: Books, made: MadeBundle) -> None:
    def kept() -> int:
        with books.fleet._database.read() as connection:
            found = connection.execute(sa.select(sa.func.count()).select_from(schema.journal))
            return int(found.scalar() or 0)

    fleet = books.fleet
    assert kept() == 3 * DAYS
    watch.prune(fleet._database, config.Retention(), fleet._fold.folded, START_MS + 9 * DAY_MS)
    assert kept() == 0
    books.take(messages(made, DAYS + 1)[DAYS :: DAYS + 1])
    assert kept() == 3
    watch.prune(fleet._database, config.Retention(), fleet._fold.folded, START_MS + 19 * DAY_MS)
    assert kept() == 3, "they are not folded yet"
    assert read(books, jfk=days(0, 99)) == [("jfk", DAYS)]
