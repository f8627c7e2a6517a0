"""Devices, their events and their bookkeeping, as views."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import sqlalchemy as sa

from whimbrel_core.profile.watching import alarms
from whimbrel_server.domain.devices import slot_of, waiting
from whimbrel_server.domain.streams import Stream, StreamState
from whimbrel_server.domain.subjects import device_subject
from whimbrel_server.store import schema
from whimbrel_server.store.judgements import StoredJudgement
from whimbrel_server.views.devices import CountsView, DeviceView, EventView, SlotView

if TYPE_CHECKING:
    from collections.abc import Mapping

    from whimbrel_core.wire.assignment import SlotAssignment
    from whimbrel_server.repository import Repository
    from whimbrel_server.store.assignments import Assignments
    from whimbrel_server.store.registry import Record
    from whimbrel_server.views.drift import DriftState


_RANGES = tuple[tuple[int, int], ...]
_NOTHING = Stream(StreamState())


def views(
    connection: sa.Connection,
    records: tuple[Record, ...],
    assignments: Assignments,
    repository: Repository,
) -> tuple[DeviceView, ...]:
    """Return ``records`` as views."""
    counts = {one.device: one for one in counts_of(connection)}
    if len(records) == 1:
        device = records[0].device
        wanted = {device: assignments.slots(connection, device)}
        document = assignments.desired(connection, device)
        revisions = {device: document.revision} if document else {}
    else:
        wanted = assignments.all(connection)
        revisions = {one.device: one.revision for one in assignments.everybody(connection)}
    streams = _streams(connection, records)
    found = []
    for record in records:
        device = record.device
        state, feature = _worst(connection, record)
        count = counts.get(device, CountsView(device=device))
        presence, report = record.presence, record.state
        found.append(
            DeviceView(
                device=device,
                labels=record.effective_labels,
                online=presence.online,
                last_seen_ms=record.last_seen_ms,
                enrolled_ms=record.enrolled_ms,
                agent_version=presence.agent_version,
                revision_desired=revisions.get(device, 0),
                revision_seen=max(presence.revision, report.revision if report else 0),
                epoch=presence.epoch,
                outbox_rows=waiting(presence, streams.get((device, presence.epoch), _NOTHING)),
                outbox_at_ms=presence.last_seen_ms,
                clock=presence.clock,
                slots=_slots(record, wanted.get(device, {}), repository),
                quarantined=report.quarantined if report else (),
                memory_available_bytes=report.memory_available_bytes if report else 0,
                disk_free_bytes=report.disk_free_bytes if report else 0,
                bytes_downloaded=report.bytes_downloaded if report else 0,
                dropped_windows=report.dropped_windows if report else 0,
                last_error=report.last_error if report else "",
                worst_state=state,
                worst_feature=feature,
                windows_received=count.windows,
                rows_received=count.rows,
                last_window_end_ms=record.last_window_end_ms,
            )
        )
    return tuple(found)


def _streams(
    connection: sa.Connection, records: tuple[Record, ...]
) -> dict[tuple[str, str], Stream]:
    """Return what was committed of the outboxes that said they had something."""
    asked = {one.device for one in records if one.presence.outbox_rows}
    table = schema.streams
    query = sa.select(table.c.device, table.c.epoch, table.c.upto, table.c.ranges)
    if len(records) == 1:
        query = query.where(table.c.device == records[0].device)
    return {
        (row.device, row.epoch): Stream(
            StreamState(row.upto, msgspec.msgpack.decode(row.ranges, type=_RANGES))
        )
        for row in (connection.execute(query) if asked else ())
        if row.device in asked
    }


def counts_of(connection: sa.Connection) -> tuple[CountsView, ...]:
    """Return telemetry bookkeeping by device."""
    streams = schema.streams
    missing = {
        row.device: int(row.missing)
        for row in connection.execute(
            sa.select(streams.c.device, sa.func.sum(streams.c.missing).label("missing")).group_by(
                streams.c.device
            )
        )
    }
    rows = connection.execute(sa.select(schema.counts).order_by(schema.counts.c.device))
    return tuple(
        CountsView(**row._mapping, lost=missing.get(row.device, 0))  # noqa: SLF001 - SQLAlchemy's public name
        for row in rows
    )


def events_of(
    connection: sa.Connection, device: str | None, limit: int, kind: str = ""
) -> tuple[EventView, ...]:
    """Return what devices told, newest first; ``kind`` is a kind or, with a dot, a family."""
    table = schema.events
    query = sa.select(table).order_by(table.c.id.desc()).limit(limit)
    if device is not None:
        query = query.where(table.c.device == device)
    if kind.endswith("."):
        query = query.where(table.c.kind.startswith(kind, autoescape=True))
    elif kind:
        query = query.where(table.c.kind == kind)
    return tuple(
        EventView(
            at_ms=row.at_ms,
            device=row.device,
            kind=row.kind,
            slot=row.slot,
            digest=row.digest,
            detail=msgspec.json.decode(row.detail),
            received_ms=row.received_ms,
        )
        for row in connection.execute(query)
    )


def _slots(
    record: Record, wanted: Mapping[str, SlotAssignment], repository: Repository
) -> tuple[SlotView, ...]:
    reported = {slot.slot for slot in record.state.slots} if record.state else set()
    found = []
    for name in sorted(reported | set(wanted)):
        report = slot_of(record.state, name)
        asked = wanted.get(name)
        published = repository.get(asked.digest) if asked else None
        found.append(
            SlotView(
                slot=name,
                phase=report.phase if report else "empty",
                name=report.name if report else "",
                version=report.version if report else "",
                digest=report.digest if report else "",
                release=report.release if report else 0,
                wanted_digest=asked.digest if asked else "",
                wanted_version=published.version if published else "",
                committed=report.committed if report else False,
                error_code=report.error_code if report else "",
                error=report.error if report else "",
            )
        )
    return tuple(found)


def _worst(connection: sa.Connection, record: Record) -> tuple[DriftState, str]:
    """Return the worst state, and its feature, of the versions that a device serves now."""
    digests = [slot.digest for slot in record.state.slots if slot.digest] if record.state else []
    table = schema.judgements
    worst: DriftState = "too_few"
    feature = ""
    for digest in digests:
        payload = connection.execute(
            sa.select(table.c.payload)
            .where(
                table.c.digest == digest,
                table.c.level == "device",
                table.c.subject == device_subject(record.device),
            )
            .order_by(table.c.start_ms.desc(), table.c.key.desc())
            .limit(1)
        ).scalar()
        if payload is None:
            continue
        for shown in StoredJudgement.decode(payload).shown:
            if alarms.worst_of((worst, shown.level)) != worst:
                worst, feature = shown.level, shown.drift.feature
    return worst, "" if worst in {"ok", "too_few"} else feature
