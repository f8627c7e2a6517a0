"""The database: many readers, one writer thread, migrations at start.

Every change is a function of a connection handed to `Database.write`; it runs on the writer
thread in a transaction of its own, in the order of the calls. When the returned future is done,
the change is on disk (WAL with ``synchronous=FULL``): that is what an acknowledgement means.
"""

from __future__ import annotations

import queue
import threading
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from sqlalchemy import event
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from whimbrel_core.errors import StorageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

T = TypeVar("T")
_Job = tuple["Callable[[sa.Connection], Any]", "Callable[[Any], None] | None", Future[Any]]

_MIGRATIONS = Path(__file__).parent / "migrations"
_BUSY_MS = 10_000


class Database:
    """One SQLite file. Open it once per process; `close` ends the writer thread.

    Attributes:
        refusal: why the last change was not stored; None when it was.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.refusal: StorageError | None = None
        self._writer = sa.create_engine(
            f"sqlite:///{path}",
            poolclass=sa.pool.StaticPool,
            connect_args={"check_same_thread": False},
        )
        self._reader = sa.create_engine(f"sqlite:///{path}", pool_size=8, max_overflow=16)
        _configure(self._writer, begin="BEGIN IMMEDIATE")
        _configure(self._reader, begin="BEGIN")
        try:
            self._migrate()
        except SQLAlchemyError as error:
            raise StorageError(
                f"the database {path} cannot be opened or brought up to date: {error}",
                hint="check that its directory exists, is writable and has free space",
                code="storage.open",
            ) from error
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._closing = threading.Lock()
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="writer", daemon=True)
        self._thread.start()

    def submit(
        self,
        change: Callable[[sa.Connection], T],
        settle: Callable[[T], None] | None = None,
    ) -> Future[T]:
        """Queue ``change`` for the writer; the future's result is the change's, once on disk.

        ``settle`` is called with the result after the commit and before the writer's next change,
        on the writer thread: the place to bring caches up to date that changes read.
        """
        future: Future[T] = Future()
        with self._closing:
            if self._closed:
                future.set_exception(StorageError("the database is closed", code="storage.closed"))
            else:
                self._jobs.put((change, settle, future))
        return future

    def write(
        self,
        change: Callable[[sa.Connection], T],
        settle: Callable[[T], None] | None = None,
    ) -> T:
        """Run ``change`` on the writer thread and return its result once it is on disk.

        Raises:
            StorageError: the disk or database refused; nothing of this change was stored.
        """
        return self.submit(change, settle).result()

    @contextmanager
    def read(self) -> Iterator[sa.Connection]:
        """Yield a connection with one consistent view of the database, for reading only."""
        with self._reader.connect() as connection:
            yield connection

    def close(self) -> None:
        """Finish what was queued and close the file. May be called twice."""
        with self._closing:
            if self._closed:
                return
            self._closed = True
            self._jobs.put(None)
        self._thread.join()
        self._reader.dispose()
        self._writer.dispose()

    def _run(self) -> None:
        while (job := self._jobs.get()) is not None:
            change, settle, future = job
            try:
                with self._writer.begin() as connection:
                    result = change(connection)
                self.refusal = None
                if settle is not None:
                    settle(result)
            except SQLAlchemyError as error:
                refusal = StorageError(
                    f"the database {self.path} refused a change: {_cause(error)}",
                    hint="check free space and permissions; what was stored before still is",
                )
                refusal.__cause__ = error
                self.refusal = refusal
                future.set_exception(refusal)
            except BaseException as error:  # noqa: BLE001 - belongs to whoever asked for the change
                future.set_exception(error)
            else:
                future.set_result(result)

    def _migrate(self) -> None:
        config = Config()
        config.set_main_option("script_location", str(_MIGRATIONS).replace("%", "%%"))
        config.set_main_option("path_separator", "os")
        with self._writer.begin() as connection:
            config.attributes["connection"] = connection
            command.upgrade(config, "head")


def _cause(error: SQLAlchemyError) -> BaseException:
    # The statement and its values, whole windows among them, are nothing for a sentence.
    return error.orig if isinstance(error, DBAPIError) and error.orig is not None else error


def upsert(
    connection: sa.Connection,
    table: sa.Table,
    rows: Sequence[Mapping[str, Any]],
    *,
    add: Sequence[str] = (),
    keep: bool = False,
) -> None:
    """Insert ``rows`` by primary key, replacing what is there, or keeping it with ``keep``.

    Columns in ``add`` are added to.
    """
    if not rows:
        return
    keys = [column.name for column in table.primary_key]
    dialect = postgresql if connection.dialect.name == "postgresql" else sqlite
    statement = dialect.insert(table)
    given = [name for name in rows[0] if name not in keys]
    changes: dict[str, Any] = {
        name: table.c[name] + statement.excluded[name] if name in add else statement.excluded[name]
        for name in given
    }
    if changes and not keep:
        connection.execute(
            statement.on_conflict_do_update(index_elements=keys, set_=changes), list(rows)
        )
    else:
        connection.execute(statement.on_conflict_do_nothing(index_elements=keys), list(rows))


def _configure(engine: sa.Engine, *, begin: str) -> None:
    @event.listens_for(engine, "connect")
    def _connect(raw: Any, _record: Any) -> None:  # noqa: ANN401 - the driver's connection
        # The driver's own transaction handling begins too late (at the first write) and would
        # let a read inside a transaction see older data; we say BEGIN ourselves.
        raw.isolation_level = None
        cursor = raw.cursor()
        cursor.execute("PRAGMA journal_mode=WAL")
        cursor.execute("PRAGMA synchronous=FULL")
        cursor.execute(f"PRAGMA busy_timeout={_BUSY_MS}")
        cursor.execute("PRAGMA wal_autocheckpoint=4000")
        cursor.close()

    @event.listens_for(engine, "begin")
    def _begin(connection: sa.Connection) -> None:
        connection.exec_driver_sql(begin)
