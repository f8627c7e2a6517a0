"""Which run of the server this is: a number that grows with each start."""

from __future__ import annotations

from typing import TYPE_CHECKING

import sqlalchemy as sa

from whimbrel_server.store import schema
from whimbrel_server.store.database import upsert

if TYPE_CHECKING:
    from whimbrel_server.store.database import Database

_KEY = "server.incarnation"


def following(database: Database) -> int:
    """Count this start and return its number."""

    def change(connection: sa.Connection) -> int:
        table = schema.meta
        known = connection.execute(sa.select(table.c.value).where(table.c.key == _KEY)).scalar()
        number = int(known or 0) + 1
        upsert(connection, table, [{"key": _KEY, "value": str(number)}])
        return number

    return database.write(change)
