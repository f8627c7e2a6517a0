"""The store: migrations make the schema, changes are whole, caches settle after commits."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from whimbrel_core.errors import StorageError, UsageError
from whimbrel_server.store import alerts, schema
from whimbrel_server.store.database import Database, upsert

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    opened = Database(tmp_path / "fleet.db")
    yield opened
    opened.close()


def test_the_migrations_make_the_schema_that_the_code_expects(database: Database) -> None:
    with database.read() as connection:
        context = MigrationContext.configure(connection)
        assert compare_metadata(context, schema.metadata) == []


def test_commits_are_flushed_to_the_disk(database: Database) -> None:
    def pragmas(connection: sa.Connection) -> tuple[object, object]:
        return tuple(
            connection.exec_driver_sql(f"PRAGMA {name}").scalar()
            for name in ("journal_mode", "synchronous")
        )  # type: ignore[return-value]

    assert database.write(pragmas) == ("wal", 2)


def test_a_change_that_fails_leaves_nothing_and_does_not_settle(database: Database) -> None:
    settled: list[object] = []

    def change(connection: sa.Connection) -> None:
        upsert(connection, schema.meta, [{"key": "a", "value": "1"}])
        raise UsageError("no")

    with pytest.raises(UsageError):
        database.write(change, settled.append)
    with database.read() as connection:
        assert connection.execute(sa.select(schema.meta)).all() == []
    assert settled == []


def test_settling_happens_after_the_commit_and_before_the_next_change(database: Database) -> None:
    order: list[str] = []
    gate = threading.Event()

    def first(_: sa.Connection) -> None:
        gate.wait(10)
        order.append("first")

    one = database.submit(first, lambda _: order.append("settled"))
    two = database.submit(lambda _: order.append("second"))
    gate.set()
    one.result()
    two.result()
    assert order == ["first", "settled", "second"]


def test_a_full_disk_is_a_storage_error_and_what_was_stored_still_is(database: Database) -> None:
    database.write(lambda c: upsert(c, schema.meta, [{"key": "a", "value": "1"}]))

    def limit(connection: sa.Connection) -> None:
        pages = connection.exec_driver_sql("PRAGMA page_count").scalar_one()
        connection.exec_driver_sql(f"PRAGMA max_page_count={pages}")

    database.write(limit)
    big = [{"key": f"k{i}", "value": "x" * 4000} for i in range(200)]
    with pytest.raises(StorageError, match="full"):
        database.write(lambda c: upsert(c, schema.meta, big))
    with database.read() as connection:
        assert [row.key for row in connection.execute(sa.select(schema.meta))] == ["a"]


def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "fleet.db"
    file.write_bytes(b"this is not a database, and long enough to be sure of it" * 20)
    with pytest.raises(StorageError, match=r"fleet\.db"):
        Database(file)


def test_a_closed_database_takes_no_change(tmp_path: Path) -> None:
    opened = Database(tmp_path / "fleet.db")
    opened.close()
    opened.close()
    with pytest.raises(StorageError):
        opened.write(lambda _: None)


def new_alert(**values: object) -> alerts.NewAlert:
    base: dict[str, object] = {
        "cause": "drift/x",
        "at_ms": 1,
        "kind": "drift",
        "severity": "warn",
        "message": "m",
    }
    return alerts.NewAlert(**{**base, **values})  # type: ignore[arg-type]


def test_an_alert_is_raised_once_grows_and_closes(database: Database) -> None:
    assert database.write(lambda c: alerts.raise_alert(c, new_alert(), 10))
    assert not database.write(lambda c: alerts.raise_alert(c, new_alert(message="again"), 11))
    database.write(lambda c: alerts.mark_announced(c, 1))
    database.write(lambda c: alerts.acknowledge(c, 1, "me", 12))
    with database.read() as connection:
        assert alerts.unannounced(connection) == ()
    database.write(lambda c: alerts.raise_alert(c, new_alert(severity="severe"), 13))
    with database.read() as connection:
        (worse,) = alerts.unannounced(connection)
    assert (worse.severity, worse.state, worse.raised_ms) == ("severe", "open", 10)
    database.write(lambda c: alerts.close(c, "drift/x", 14))
    with pytest.raises(UsageError, match="closed"):
        database.write(lambda c: alerts.acknowledge(c, 1, "me", 15))
    with pytest.raises(UsageError, match="no alert 9"):
        database.write(lambda c: alerts.acknowledge(c, 9, "me", 15))
    assert database.write(lambda c: alerts.raise_alert(c, new_alert(), 16)), "a new one"


def test_who_acknowledges_an_alert_has_seen_all_that_stands_under_it(database: Database) -> None:
    def change(connection: sa.Connection) -> None:
        for cause in ("fleet", "data", "ewr", "other"):
            alerts.raise_alert(connection, new_alert(cause=cause), 10)
        alerts.put_under(connection, "data", "fleet")
        alerts.put_under(connection, "ewr", "data")
        alerts.acknowledge(connection, 1, "me", 12)

    database.write(change)
    with database.read() as connection:
        states = {one.cause: one.state for one in alerts.listing(connection, None, 10)}
    assert states == {
        "fleet": "acknowledged", "data": "acknowledged", "ewr": "acknowledged", "other": "open",
    }  # fmt: skip
