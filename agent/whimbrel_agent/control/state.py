"""``agent.db``: everything that must survive a power cut, in one SQLite file with one writer.

WAL with ``synchronous=FULL``: what `commit` returned from is on the disk. A file that is not a
database any more is set aside, whole, and a new one begun (with a new epoch, so that the fleet
notices): a damaged queue must not keep a device from serving.
"""

from __future__ import annotations

import contextlib
import secrets
import sqlite3
from typing import TYPE_CHECKING

from whimbrel_core.errors import StorageError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SCHEMA_VERSION = 1
_SCHEMA = """
CREATE TABLE IF NOT EXISTS meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS outbox (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    seq INTEGER UNIQUE,               -- given when the row is first sent, never before
    kind TEXT NOT NULL,               -- 'window' or 'event'
    slot TEXT NOT NULL, digest TEXT NOT NULL, profile_id TEXT NOT NULL,
    start_ms INTEGER NOT NULL, merged INTEGER NOT NULL,
    bytes INTEGER NOT NULL,
    body BLOB NOT NULL                -- msgpack of the message with seq 0
);
CREATE INDEX IF NOT EXISTS outbox_unsent ON outbox (id) WHERE seq IS NULL;
CREATE TABLE IF NOT EXISTS seen (id INTEGER PRIMARY KEY AUTOINCREMENT, key TEXT UNIQUE NOT NULL);
CREATE TABLE IF NOT EXISTS slots (slot TEXT PRIMARY KEY, state BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS quarantine (
    digest TEXT PRIMARY KEY, slot TEXT NOT NULL, code TEXT NOT NULL, reason TEXT NOT NULL,
    at_ms INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS floors (
    name TEXT PRIMARY KEY, release INTEGER NOT NULL
) WITHOUT ROWID;
"""


class StateFile:
    """The open database. Not thread-safe: control's one thread is the one writer."""

    def __init__(self, path: Path) -> None:
        """Open or create the database at ``path``.

        Raises:
            StorageError: the disk refuses, or another program holds the file.
        """
        self.path = path
        self.set_aside: Path | None = None
        try:
            self._db = self._open()
        except sqlite3.DatabaseError as error:
            if _refused_by_system(error):
                raise _storage(error, path) from error
            self.set_aside = _set_aside(path)
            try:
                self._db = self._open()
            except sqlite3.Error as again:
                raise _storage(again, path) from again
        if not self.get("epoch"):
            with self.transaction():
                self.put("epoch", secrets.token_hex(8))

    def _open(self) -> sqlite3.Connection:
        db = sqlite3.connect(self.path, isolation_level=None, timeout=5.0)
        try:
            # One writer and no other reader: SQLite then needs no file of shared memory, which a
            # full disk would refuse, so that an agent starts on one, too.
            db.execute("PRAGMA locking_mode=EXCLUSIVE")
            db.execute("PRAGMA journal_mode=WAL")
            db.execute("PRAGMA synchronous=FULL")
            # 256 KB of pages are plenty for a queue; the default of 2 MB is a device's memory.
            db.execute("PRAGMA cache_size=-256")
            db.execute("PRAGMA wal_autocheckpoint=256")
            (version,) = db.execute("PRAGMA user_version").fetchone()
            if version > SCHEMA_VERSION:
                # Not damaged: it must not be set aside.
                msg = f"{self.path} was written by a newer agent (schema {version})"
                raise StorageError(  # noqa: TRY301
                    msg, hint="install that version again", code="storage.version"
                )
            if version < SCHEMA_VERSION:
                db.executescript(_SCHEMA)
                db.execute(f"PRAGMA user_version={SCHEMA_VERSION}")
            verdict = db.execute("PRAGMA quick_check(1)").fetchone()[0]
            if verdict != "ok":
                raise sqlite3.DatabaseError(verdict)  # noqa: TRY301
        except BaseException:  # whatever ends it: close, and let it pass
            db.close()
            raise
        return db

    @contextlib.contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """Commit what happens inside, all or nothing; transactions do not nest.

        Raises:
            StorageError: the disk refuses; nothing of it was stored.
        """
        try:
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield self._db
                self._db.execute("COMMIT")
            except BaseException:  # whatever ends it: all of the transaction or none
                with contextlib.suppress(sqlite3.Error):
                    self._db.execute("ROLLBACK")
                raise
        except sqlite3.Error as error:
            raise _storage(error, self.path) from error

    def query(self, sql: str, *values: object) -> list[tuple[object, ...]]:
        """Return the rows of a reading statement.

        Raises:
            StorageError: the database cannot be read.
        """
        try:
            return self._db.execute(sql, values).fetchall()
        except sqlite3.Error as error:
            raise _storage(error, self.path) from error

    def get(self, key: str, default: str = "") -> str:
        """Return a value of ``meta``."""
        rows = self.query("SELECT value FROM meta WHERE key = ?", key)
        return str(rows[0][0]) if rows else default

    def get_int(self, key: str, default: int = 0) -> int:
        """Return a counter of ``meta``."""
        return int(self.get(key, str(default)))

    def put(self, key: str, value: str | int) -> None:
        """Set a value of ``meta``; call it inside a `transaction`."""
        self._db.execute(
            "INSERT INTO meta (key, value) VALUES (?, ?) "
            "ON CONFLICT (key) DO UPDATE SET value = excluded.value",
            (key, str(value)),
        )

    def save(self, key: str, value: str | int) -> None:
        """Set a value of ``meta`` in a transaction of its own."""
        with self.transaction():
            self.put(key, value)

    def count_up(self, key: str) -> int:
        """Add one to a counter and return it, durably."""
        with self.transaction():
            value = self.get_int(key) + 1
            self.put(key, value)
        return value

    def close(self) -> None:
        """Close the file."""
        self._db.close()


def _refused_by_system(error: sqlite3.DatabaseError) -> bool:
    """Tell a disk that refuses (full, read-only, locked) from a file that is damaged."""
    return isinstance(error, sqlite3.OperationalError) and "malformed" not in str(error)


def _set_aside(path: Path) -> Path:
    aside = path.with_name(f"{path.name}.damaged-{secrets.token_hex(4)}")
    path.rename(aside)
    for suffix in ("-wal", "-shm"):
        with contextlib.suppress(FileNotFoundError):
            path.with_name(path.name + suffix).rename(aside.with_name(aside.name + suffix))
    return aside


def _storage(error: Exception, path: Path) -> StorageError:
    full = "full" in str(error)
    return StorageError(
        f"{path}: {error}; what was stored before still is",
        code="storage.full" if full else "storage",
        hint="free space on the disk" if full else "check the disk and the folder's owner",
    )
