"""The device's durable queue: a row leaves it only when the server has committed it.

Rules:

1. A row gets its ``seq`` when it is first sent, durably and before it is sent, and keeps it until
   it is acknowledged. So sequence numbers have no gaps: a gap on the server is a loss.
2. Only rows without a ``seq`` are ever merged or dropped: what may have been counted by the
   server is never counted again inside something else.
3. ``window_id`` and event id are remembered after the row has gone: storing one twice is one row.
4. Full means: adjacent windows of one slot, bundle and layout become one (the counts add), the
   least merged first; then, with nothing left to merge, the oldest windows are dropped and
   counted; events last. Time powered off is not time lost: nothing expires by the clock.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from whimbrel_agent.channel import ClosedWindow, LocalEvent
from whimbrel_core.errors import ProfileError
from whimbrel_core.profile import window as windows
from whimbrel_core.wire import codec
from whimbrel_core.wire.messages import Ack, Clock, EventMessage, WindowMessage

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Container, Iterable

    from whimbrel_agent.control.state import StateFile

Entry = WindowMessage | EventMessage
_DECODER: msgspec.msgpack.Decoder[WindowMessage | EventMessage] = msgspec.msgpack.Decoder(
    WindowMessage | EventMessage
)
_UNTRUSTED_FIRST: tuple[Clock, ...] = ("unsynced", "synced", "event")
# A row costs about this much besides its body (columns, indices, the remembered id).
ROW_BYTES = 200
# Ids remembered after their rows have gone. A worker sends again within seconds of a crash,
# so a few thousand windows are far more than can be in question.
REMEMBERED = 20_000
# Merge down to this part of the quota, so that a full outbox does not merge at every window.
_RELIEF = 0.9
MAX_EVENT_CHARS = 2000


class Totals(msgspec.Struct, frozen=True):
    """The outbox in numbers, as `Life` and the ``status`` command report it."""

    rows: int
    bytes: int
    first: int
    last: int
    windows: int
    events: int
    waiting: int
    merged: int
    dropped_windows: int
    dropped_events: int


class Outbox:
    """Windows and events that the server has not acknowledged, in ``agent.db``."""

    def __init__(self, state: StateFile, device: str, quota_bytes: int) -> None:
        self._state = state
        self._device = device
        self._quota = quota_bytes
        self.epoch = state.get("epoch")
        (total,) = state.query("SELECT coalesce(sum(bytes), 0) FROM outbox")[0]
        self._bytes = int(str(total))

    def store(self, items: Iterable[ClosedWindow | LocalEvent]) -> tuple[str, ...]:
        """Commit windows and events in one transaction; return their ids.

        A window that was stored before is not stored again. One that is not a valid window or
        is beyond the protocol's size is counted as dropped: it could never be delivered.

        Raises:
            StorageError: the disk refuses; none of them was stored, the sender keeps them.
        """
        ids: list[str] = []
        added = 0
        with self._state.transaction() as db:
            for item in items:
                key = item.window_id if isinstance(item, ClosedWindow) else item.event_id
                ids.append(key)
                fresh = db.execute("INSERT OR IGNORE INTO seen (key) VALUES (?)", (key,)).rowcount
                if fresh:
                    added += self._insert(db, self._message(item))
            db.execute(
                "DELETE FROM seen WHERE id <= (SELECT coalesce(max(id), 0) - ? FROM seen)",
                (REMEMBERED,),
            )
            if self._bytes + added > self._quota:
                added -= self._relieve(db, self._bytes + added - int(self._quota * _RELIEF))
        self._bytes += added
        return tuple(ids)

    def add_event(self, event: LocalEvent) -> None:
        """Commit one event of control's own. Raises `StorageError`."""
        self.store((event,))

    def next_batch(self, after: int, limit: int) -> tuple[Entry, ...]:
        """Return up to ``limit`` rows with ``seq`` above ``after``, giving numbers to new ones.

        Numbers are durable when this returns; only then may a row be sent.

        Raises:
            StorageError: the disk refuses; nothing new was numbered.
        """
        bodies = self._state.query(
            "SELECT seq, body FROM outbox WHERE seq > ? ORDER BY seq LIMIT ?", after, limit
        )
        missing = limit - len(bodies)
        if missing > 0:
            fresh = self._state.query(
                "SELECT id, body FROM outbox WHERE seq IS NULL ORDER BY id LIMIT ?", missing
            )
            if fresh:
                with self._state.transaction() as db:
                    last = self._state.get_int("seq")
                    for row, body in fresh:
                        last += 1
                        db.execute("UPDATE outbox SET seq = ? WHERE id = ?", (last, row))
                        bodies.append((last, body))
                    self._state.put("seq", last)
        return tuple(self._addressed(seq, body) for seq, body in bodies)

    def acknowledge(self, ack: Ack) -> int:
        """Delete what the server has committed; return how many rows that were.

        An acknowledgement for another epoch is about another outbox and does nothing.
        """
        if ack.epoch != self.epoch:
            return 0
        last = self._state.get_int("seq")
        spans = [(0, min(ack.upto, last))]
        spans += [(first, min(end, last)) for first, end in ack.ranges]
        removed = 0
        freed = 0
        with self._state.transaction() as db:
            for first, end in spans:
                if end < first:
                    continue
                (size, rows) = db.execute(
                    "SELECT coalesce(sum(bytes), 0), count(*) FROM outbox WHERE seq BETWEEN ? AND ?",
                    (first, end),
                ).fetchone()
                if rows:
                    db.execute("DELETE FROM outbox WHERE seq BETWEEN ? AND ?", (first, end))
                    removed += rows
                    freed += size
        self._bytes -= freed
        return removed

    def first_unacknowledged(self) -> int:
        """Return the lowest ``seq`` that waits for its acknowledgement, or the next new one."""
        (lowest,) = self._state.query("SELECT min(seq) FROM outbox")[0]
        return int(str(lowest)) if lowest is not None else self._state.get_int("seq") + 1

    def has_unsent(self, after: int) -> bool:
        """Return whether a row waits that is not numbered, or numbered above ``after``."""
        return bool(
            self._state.query("SELECT 1 FROM outbox WHERE seq IS NULL OR seq > ? LIMIT 1", after)
        )

    def totals(self) -> Totals:
        """Return the outbox in numbers."""
        (rows, windows_, merged, waiting) = self._state.query(
            "SELECT count(*), coalesce(sum(kind = 'window'), 0), "
            "coalesce(sum(merged - 1), 0), coalesce(sum(seq IS NULL), 0) FROM outbox"
        )[0]
        return Totals(
            rows=int(str(rows)),
            bytes=self._bytes,
            first=self.first_unacknowledged(),
            last=self._state.get_int("seq"),
            windows=int(str(windows_)),
            events=int(str(rows)) - int(str(windows_)),
            waiting=int(str(waiting)),
            merged=int(str(merged)),
            dropped_windows=self._state.get_int("dropped_windows"),
            dropped_events=self._state.get_int("dropped_events"),
        )

    def _message(self, item: ClosedWindow | LocalEvent) -> Entry:
        if isinstance(item, ClosedWindow):
            return WindowMessage(
                device=self._device,
                epoch=self.epoch,
                seq=0,
                slot=item.slot,
                name=item.name,
                version=item.version,
                digest=item.digest,
                profile_id=item.profile_id,
                start_ms=item.start_ms,
                end_ms=item.end_ms,
                rows=item.rows,
                payload=item.payload,
                clock=item.clock,
            )
        return EventMessage(
            device=self._device,
            epoch=self.epoch,
            seq=0,
            at_ms=item.at_ms,
            kind=item.kind,
            slot=item.slot,
            digest=item.digest,
            detail={key: text[:MAX_EVENT_CHARS] for key, text in item.detail.items()},
        )

    def _addressed(self, seq: object, body: object) -> Entry:
        message = _DECODER.decode(body)  # type: ignore[arg-type]
        return msgspec.structs.replace(message, seq=int(str(seq)))

    def _insert(self, db: sqlite3.Connection, message: Entry) -> int:
        """Insert one row inside a transaction; return its bytes, or 0 where it was dropped."""
        body = msgspec.msgpack.encode(message)
        window = isinstance(message, WindowMessage)
        if not _deliverable(message, body):
            self._count_dropped("dropped_windows" if window else "dropped_events", 1)
            return 0
        size = len(body) + ROW_BYTES
        db.execute(
            "INSERT INTO outbox (kind, slot, digest, profile_id, start_ms, merged, bytes, body) "
            "VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (
                "window" if window else "event",
                message.slot,
                message.digest,
                message.profile_id if isinstance(message, WindowMessage) else "",
                message.start_ms if isinstance(message, WindowMessage) else message.at_ms,
                message.merged if isinstance(message, WindowMessage) else 1,
                size,
                body,
            ),
        )
        return size

    def _relieve(self, db: sqlite3.Connection, excess: int) -> int:
        """Merge, then drop, until ``excess`` bytes are free or nothing is left; return the bytes."""
        freed = 0
        apart: set[tuple[int, int]] = set()
        while freed < excess:
            pairs = _adjacent(db, apart)
            if not pairs:
                break
            for first, second in pairs:
                gained = self._merge(db, first, second)
                if gained is None:
                    apart.add((first, second))
                    continue
                freed += gained
                if freed >= excess:
                    return freed
        for kind in ("window", "event"):
            while freed < excess:
                row = db.execute(
                    "SELECT id, bytes, merged FROM outbox WHERE seq IS NULL AND kind = ? "
                    "ORDER BY id LIMIT 1",
                    (kind,),
                ).fetchone()
                if row is None:
                    break
                db.execute("DELETE FROM outbox WHERE id = ?", (row[0],))
                self._count_dropped(f"dropped_{kind}s", row[2])
                freed += row[1]
        return freed

    def _merge(self, db: sqlite3.Connection, first: int, second: int) -> int | None:
        """Put two windows' sum in their place and return the bytes that are free.

        None: of many features and rows, the sum would be more than a message holds; both stay.
        """
        rows = db.execute(
            "SELECT id, bytes, body FROM outbox WHERE id IN (?, ?) ORDER BY id", (first, second)
        ).fetchall()
        a, b = (_DECODER.decode(row[2]) for row in rows)
        if not isinstance(a, WindowMessage) or not isinstance(b, WindowMessage):
            msg = "only windows are merged"
            raise TypeError(msg)
        both = merged(a, b)
        if not _deliverable(both, msgspec.msgpack.encode(both)):
            return None
        db.executemany("DELETE FROM outbox WHERE id = ?", [(row[0],) for row in rows])
        return int(rows[0][1] + rows[1][1] - self._insert(db, both))

    def _count_dropped(self, key: str, count: int) -> None:
        self._state.put(key, self._state.get_int(key) + count)


def merged(a: WindowMessage, b: WindowMessage) -> WindowMessage:
    """Return the two windows as one: the counts add, the period covers both."""
    payload = windows.encode(windows.merge(windows.decode(a.payload), windows.decode(b.payload)))
    clock = next(c for c in _UNTRUSTED_FIRST if c in (a.clock, b.clock))
    return msgspec.structs.replace(
        a,
        start_ms=min(a.start_ms, b.start_ms),
        end_ms=max(a.end_ms, b.end_ms),
        rows=a.rows + b.rows,
        payload=payload,
        clock=clock,
        merged=a.merged + b.merged,
    )


def _deliverable(message: Entry, body: bytes) -> bool:
    if len(body) > codec.MAX_MESSAGE_BYTES - 16:  # seq 0 becomes up to eight bytes longer
        return False
    if isinstance(message, WindowMessage):
        try:
            found = windows.decode(message.payload)
        except ProfileError:
            return False
        return found.profile_id == message.profile_id and message.end_ms > message.start_ms
    return True


def _adjacent(db: sqlite3.Connection, apart: Container[tuple[int, int]]) -> list[tuple[int, int]]:
    """Return disjoint pairs of neighbours in time that may be merged, the least merged first.

    Those in ``apart`` are too large together.
    """
    rows = db.execute(
        "SELECT id, slot, digest, profile_id, merged FROM outbox "
        "WHERE seq IS NULL AND kind = 'window' ORDER BY slot, digest, profile_id, start_ms, id"
    ).fetchall()
    pairs: list[tuple[int, int, int]] = []
    i = 0
    while i + 1 < len(rows):
        a, b = rows[i], rows[i + 1]
        if a[1:4] == b[1:4] and (a[0], b[0]) not in apart:
            pairs.append((a[4] + b[4], a[0], b[0]))
            i += 2
        else:
            i += 1
    if not pairs:
        return []
    # Only pairs near the lowest level in this pass: resolution is lost evenly, not at one end.
    lowest = min(pairs)[0]
    return [(a, b) for level, a, b in sorted(pairs) if level <= 2 * lowest]
