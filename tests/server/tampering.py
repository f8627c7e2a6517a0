"""Rows of a server's store exchanged for others, and put back: what a check must not overlook."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol

import sqlalchemy as sa

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from whimbrel_server.app import Fleet

Rows = list[dict[str, Any]]


class Opened(Protocol):
    """A fleet that a test holds."""

    fleet: Fleet


@contextmanager
def changed(
    books: Opened, table: sa.Table, where: sa.ColumnElement[bool]
) -> Iterator[tuple[Rows, Callable[[Rows], None]]]:
    """Yield some rows, and what puts others in their place; afterwards they are as they were."""
    database = books.fleet._database
    with database.read() as connection:
        before = [dict(row._mapping) for row in connection.execute(sa.select(table).where(where))]

    def put(rows: Rows) -> None:
        def change(connection: sa.Connection) -> None:
            connection.execute(sa.delete(table).where(where))
            if rows:
                connection.execute(sa.insert(table), rows)

        database.write(change)

    try:
        yield [dict(row) for row in before], put
    finally:
        put(before)
