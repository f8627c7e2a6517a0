"""One batch into the database: dedupe, journal, counters, device records, in one transaction.

The caches of dedupe state and of device records change only after the commit, so that a refused
commit (full disk) leaves everything as it was: nothing was acknowledged, devices send again.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

import msgspec
import sqlalchemy as sa

from whimbrel_core.errors import WireError
from whimbrel_core.wire import codec
from whimbrel_core.wire.messages import EventMessage, WindowMessage
from whimbrel_server.domain import devices
from whimbrel_server.domain.streams import Stream, StreamState
from whimbrel_server.domain.subjects import cohorts_of
from whimbrel_server.store import rates, schema, words
from whimbrel_server.store.database import upsert
from whimbrel_server.store.registry import Record

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from whimbrel_server.ingest.batch import Batch, Row
    from whimbrel_server.store.registry import Registry

StreamKey = tuple[str, str]

_COUNTERS = ("received", "windows", "rows", "merged", "duplicate", "refused", "unreadable", "bytes")
# Detail of an event is shown to people; the rest of the 32 KB would only be noise.
_MAX_REFUSED_PAYLOAD = codec.MAX_MESSAGE_BYTES


class Entry(msgspec.Struct, frozen=True, array_like=True):
    """One window in a journal segment: its cohorts at that time, and the message's bytes."""

    cohorts: tuple[str, ...]
    message: bytes


class Committed(msgspec.Struct):
    """What a commit changed, for those who act on it afterwards.

    ``touched``: messages per stream, duplicates too: those are acknowledged once more.
    ``raised``: devices whose reported revision is one that was never heard of them before.
    """

    streams: dict[StreamKey, Stream]
    touched: dict[StreamKey, int]
    records: dict[str, Record]
    born: list[str]
    raised: list[str]
    notices: list[tuple[str, devices.Notice]]
    windows: int
    events: int


class Journal:
    """Writes batches. `commit` runs on the writer thread only, as does `settle` after it."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._streams: dict[StreamKey, Stream] = {}

    def ack(self, key: StreamKey) -> tuple[int, tuple[tuple[int, int], ...]]:
        """Return what the acknowledgement of a stream says now."""
        return self._streams[key].ack()

    def settle(self, committed: Committed) -> None:
        """Take over what was committed."""
        self._streams.update(committed.streams)
        self._registry.settle(committed.records)

    def commit(self, connection: sa.Connection, batch: Batch, now_ms: int) -> Committed:
        """Write ``batch``; the caller's transaction makes it durable."""
        done = Committed({}, {}, {}, [], [], [], 0, 0)
        counts: dict[str, dict[str, int]] = defaultdict(lambda: dict.fromkeys(_COUNTERS, 0))
        entries: list[Entry] = []
        spans: dict[str, tuple[int, int]] = {}
        events: list[tuple[EventMessage, int]] = []
        refused: list[dict[str, object]] = []
        # Births first: a new outbox's rows may be in the same batch.
        self._presences(batch, done)
        changes = self._changes(done, now_ms)
        for row in batch.rows:
            message = row.message
            count = counts[message.device]
            key = (message.device, message.epoch)
            stream = done.streams.get(key)
            if stream is None:
                stream = done.streams[key] = self._load(connection, key)
            done.touched[key] = done.touched.get(key, 0) + 1
            if not stream.has_room(message.seq):
                count["unreadable"] += 1
                continue
            if not stream.add(message.seq):
                count["duplicate"] += 1
                continue
            self._touch(done, row, counted=row.refusal is None)
            if row.refusal is not None:
                count["refused"] += 1
                refused.append(_refused(row))
                continue
            count["received"] += 1
            count["bytes"] += len(row.payload)
            if isinstance(message, WindowMessage):
                count["windows"] += 1
                count["rows"] += message.rows
                count["merged"] += message.merged - 1
                labels = self._labels(done, message.device)
                entries.append(Entry(cohorts_of(labels), row.payload))
                first_ms, last_ms = spans.get(message.device, (message.start_ms, message.start_ms))
                spans[message.device] = (
                    min(first_ms, message.start_ms),
                    max(last_ms, message.start_ms),
                )
            else:
                events.append((message, row.at_ms))
        for device, number in batch.unreadable.items():
            counts[device]["unreadable"] += number
        if entries:
            _keep_segment(connection, entries, spans, now_ms)
        _keep_events(connection, events, changes)
        if refused:
            connection.execute(sa.insert(schema.refused), refused)
        upsert(connection, schema.streams, [_stream(k, s) for k, s in done.streams.items()])
        upsert(
            connection,
            schema.counts,
            [{"device": device, **numbers} for device, numbers in counts.items()],
            add=_COUNTERS,
        )
        upsert(connection, schema.devices, [record.row() for record in done.records.values()])
        done.windows, done.events = len(entries), len(events)
        return done

    def _load(self, connection: sa.Connection, key: StreamKey) -> Stream:
        cached = self._streams.get(key)
        if cached is not None:
            return Stream(cached.state)
        table = schema.streams
        row = connection.execute(
            sa.select(table.c.upto, table.c.ranges).where(
                table.c.device == key[0], table.c.epoch == key[1]
            )
        ).first()
        if row is None:
            return Stream(StreamState())
        ranges = msgspec.msgpack.decode(row.ranges, type=tuple[tuple[int, int], ...])
        return Stream(StreamState(row.upto, ranges))

    def _record(self, done: Committed, device: str) -> Record:
        record = done.records.get(device) or self._registry.get(device)
        if record is None:
            raise WireError(f"device {device} is not enrolled", code="wire.device")
        return record

    def _labels(self, done: Committed, device: str) -> Mapping[str, str]:
        return self._record(done, device).effective_labels

    def _touch(self, done: Committed, row: Row, *, counted: bool) -> None:
        record = self._record(done, row.message.device)
        end_ms = record.last_window_end_ms
        if counted and isinstance(row.message, WindowMessage) and row.message.rows:
            end_ms = max(end_ms or row.message.end_ms, row.message.end_ms)
        seen = max(record.last_seen_ms or 0, row.at_ms)
        done.records[record.device] = msgspec.structs.replace(
            record, last_seen_ms=seen, last_window_end_ms=end_ms
        )

    def _changes(self, done: Committed, now_ms: int) -> list[dict[str, object]]:
        """Return what births and reports say is another on devices, as events of the server's own."""
        found: list[dict[str, object]] = []
        for device, record in done.records.items():
            before = self._registry.get(device)
            if before is None:
                continue
            labels = (one.state.labels if one.state else None for one in (before, record))
            changed = devices.changed(before.presence, record.presence, *labels)
            if changed:
                found.append(
                    {
                        "device": device,
                        "at_ms": now_ms,
                        "received_ms": now_ms,
                        "kind": devices.CHANGED,
                        "slot": "",
                        "digest": "",
                        "detail": msgspec.json.encode(changed),
                    }
                )
        return found

    def _presences(self, batch: Batch, done: Committed) -> None:
        for life, at_ms in batch.lives:
            record = self._record(done, life.device)
            presence, notices = devices.apply_life(record.presence, life, at_ms)
            done.records[life.device] = msgspec.structs.replace(
                record,
                presence=presence,
                last_seen_ms=presence.last_seen_ms or record.last_seen_ms,
            )
            done.notices.extend((life.device, notice) for notice in notices)
            if "born" in notices:
                done.born.append(life.device)
        for state, at_ms in batch.states:
            record = self._record(done, state.device)
            if devices.accepts_state(record.presence, state):
                if state.revision > devices.revision_seen(record.presence, record.state):
                    done.raised.append(state.device)
                done.records[state.device] = msgspec.structs.replace(
                    record, state=state, last_seen_ms=max(record.last_seen_ms or 0, at_ms)
                )


def _stream(key: StreamKey, stream: Stream) -> dict[str, object]:
    state = stream.state
    return {
        "device": key[0],
        "epoch": key[1],
        "upto": state.upto,
        "ranges": msgspec.msgpack.encode(state.ranges),
        "missing": stream.missing,
    }


def _keep_segment(
    connection: sa.Connection,
    entries: Sequence[Entry],
    spans: Mapping[str, tuple[int, int]],
    now_ms: int,
) -> None:
    """Write windows down, and of whom they are: ``spans``, first and last start by device."""
    segment = {
        "committed_ms": now_ms,
        "windows": len(entries),
        "payload": msgspec.msgpack.encode(entries),
    }
    written = connection.execute(sa.insert(schema.segments), segment)
    (number,) = written.inserted_primary_key or (None,)
    connection.execute(
        sa.insert(schema.journal),
        [
            {"device": device, "segment": number, "first_ms": first_ms, "last_ms": last_ms}
            for device, (first_ms, last_ms) in spans.items()
        ],
    )


def _keep_events(
    connection: sa.Connection,
    events: Sequence[tuple[EventMessage, int]],
    changes: Sequence[dict[str, object]],
) -> None:
    """Write events down, and ``changes`` of devices beside them; sealed words are nothing to read, and have a place of their own."""
    words.keep(connection, [message for message, _ in events if message.kind == words.KIND])
    rows = [_event(message, at_ms) for message, at_ms in events if message.kind != words.KIND]
    rows += changes
    if rows:
        connection.execute(sa.insert(schema.events), rows)
    for message, at_ms in events:
        if message.kind == rates.KIND:
            rates.tell(connection, [message], at_ms)


def _event(message: EventMessage, at_ms: int) -> dict[str, object]:
    return {
        "device": message.device,
        "at_ms": message.at_ms,
        "received_ms": at_ms,
        "kind": message.kind[:64],
        "slot": message.slot[:63],
        "digest": message.digest[:64],
        "detail": msgspec.json.encode(
            {key: text for key, text in message.detail.items() if key != rates.SEALED}
        ),
    }


def _refused(row: Row) -> dict[str, object]:
    assert row.refusal is not None  # noqa: S101 - the caller asked
    return {
        "device": row.message.device,
        "epoch": row.message.epoch,
        "seq": row.message.seq,
        "at_ms": row.at_ms,
        "code": row.refusal.code,
        "message": row.refusal.message,
        "payload": row.payload[:_MAX_REFUSED_PAYLOAD],
    }
