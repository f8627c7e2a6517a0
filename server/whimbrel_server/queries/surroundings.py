"""What surrounds a device's alarm: its version's arrival, other devices, other features, changes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import sqlalchemy as sa

from whimbrel_core.profile.watching import alarms
from whimbrel_server.domain import devices, verdict
from whimbrel_server.domain.attribution import (
    Arrival,
    Companion,
    Facts,
    Happening,
    Kind,
    Peer,
)
from whimbrel_server.domain.subjects import device_subject
from whimbrel_server.store import rollouts, schema

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from whimbrel_server.domain.verdict import Verdict
    from whimbrel_server.repository import Repository
    from whimbrel_server.store.registry import Registry
    from whimbrel_server.views.alerts import AlertView

_STATE = msgspec.msgpack.Decoder(alarms.SubjectState)
_SERVED = ("update.switched", "update.switched_committed", "update.rolled_back")
_LABELLED = "device.label"
# Of a fleet's log the newest so many lines are looked through.
_LINES = 2_000


def facts(
    connection: sa.Connection,
    repository: Repository,
    registry: Registry,
    alert: AlertView,
    one: Verdict,
) -> Facts:
    """Return what the store knows around an alarm of one device."""
    since_ms = one.figures.get("since_ms")
    last = one.inputs[-1]
    lasting = list(_alarms(connection, repository, one))
    record = registry.get(alert.device)
    return Facts(
        device=alert.device,
        labels=record.effective_labels if record else {},
        since_ms=since_ms,
        at_ms=last.end_ms,
        raised_ms=alert.raised_ms,
        window_ms=max(last.end_ms - last.start_ms, 1),
        arrival=_arrival(connection, alert, one),
        peers=_peers(connection, registry, one, lasting),
        companions=tuple(
            Companion(feature, at_ms)
            for device, feature, at_ms in lasting
            if device == alert.device and feature != one.feature
        ),
        happenings=tuple(_happenings(connection, repository, alert, one)),
        earlier=_earlier(connection, alert),
    )


def _alarms(
    connection: sa.Connection, repository: Repository, one: Verdict
) -> Iterator[tuple[str, str, int]]:
    """Yield device, feature and beginning of every alarm of a version: standing, or told before."""
    names = [feature.name for feature in repository.contents(one.digest).baseline.layout.features]
    told: dict[tuple[str, str], int] = {}
    table = schema.alerts
    rows = connection.execute(
        sa.select(table.c.device, table.c.feature, table.c.evidence)
        .where(table.c.cause.startswith(f"drift/{one.digest}/", autoescape=True))
        .order_by(table.c.id)
    )
    for row in rows:
        since = _since(row.evidence)
        if row.device and row.feature and since is not None:
            told[row.device, row.feature] = since
    states = schema.detectors
    stored = connection.execute(
        sa.select(states.c.subject, states.c.payload).where(states.c.digest == one.digest)
    )
    for subject, payload in stored:
        marks = np.frombuffer(_STATE.decode(payload).marks, "<i8").reshape(-1, alarms.MARKS)
        for index in np.flatnonzero(marks[:, alarms.ALARM] >= 0).tolist():
            told[subject[2:], names[index]] = int(marks[index, 4])
    for (device, feature), since in told.items():
        yield device, feature, since


def _since(evidence: bytes) -> int | None:
    found = verdict.read(msgspec.json.decode(evidence))
    return found.figures.get("since_ms") if found is not None else None


def _peers(
    connection: sa.Connection,
    registry: Registry,
    one: Verdict,
    lasting: Iterable[tuple[str, str, int]],
) -> tuple[Peer, ...]:
    """Return the other devices that serve the version, by what they report or else have sent."""
    states = schema.detectors
    sent = set(
        connection.execute(
            sa.select(states.c.subject).where(states.c.digest == one.digest)
        ).scalars()
    )
    began = {device: at_ms for device, feature, at_ms in lasting if feature == one.feature}
    return tuple(
        Peer(
            device=record.device,
            labels=record.effective_labels,
            since_ms=began.get(record.device),
        )
        for record in registry.all()
        if device_subject(record.device) != one.subject
        and (
            any(slot.digest == one.digest for slot in record.state.slots)
            if record.state is not None
            else device_subject(record.device) in sent
        )
    )


def _arrival(connection: sa.Connection, alert: AlertView, one: Verdict) -> Arrival | None:
    table, events = schema.judgements, schema.events
    first_ms = connection.execute(
        sa.select(sa.func.min(table.c.start_ms)).where(
            table.c.digest == one.digest, table.c.subject == one.subject
        )
    ).scalar()
    if first_ms is None:
        return None
    switched = connection.execute(
        sa.select(sa.func.min(events.c.at_ms)).where(
            events.c.device == alert.device,
            events.c.digest == one.digest,
            events.c.kind.in_(_SERVED),
        )
    ).scalar()
    number, before = None, ""
    for stored in rollouts.listing(connection):
        reached = any(
            alert.device in wave.devices and wave.started_ms is not None
            for wave in stored.plan.waves
        )
        if stored.digest == one.digest and reached and stored.created_ms <= alert.raised_ms:
            number, before = stored.id, stored.plan.from_versions.get(alert.device, "")
            break
    return Arrival(
        version=alert.version,
        first_ms=first_ms,
        switched_ms=switched,
        rollout=number,
        before=before,
    )


def _earlier(connection: sa.Connection, alert: AlertView) -> str:
    """Return the version under which the same feature had drifted on the device before."""
    table = schema.alerts
    return (
        connection.execute(
            sa.select(table.c.version)
            .where(
                table.c.kind == "drift",
                table.c.device == alert.device,
                table.c.model == alert.model,
                table.c.feature == alert.feature,
                table.c.version != alert.version,
                table.c.id < alert.id,
            )
            .order_by(table.c.id.desc())
            .limit(1)
        ).scalar()
        or ""
    )


def _happenings(
    connection: sa.Connection, repository: Repository, alert: AlertView, one: Verdict
) -> Iterator[Happening]:
    """Yield what was changed on the device, or for it."""
    events = schema.events
    rows = connection.execute(
        sa.select(events)
        .where(
            events.c.device == alert.device,
            events.c.kind.in_((*_SERVED, devices.CHANGED)),
        )
        .order_by(events.c.id.desc())
        .limit(_LINES)
    )
    for row in rows:
        detail: dict[str, str] = msgspec.json.decode(row.detail)
        if row.kind == devices.CHANGED:
            yield from _changed(row.at_ms, detail)
        elif row.digest != one.digest:
            published = repository.get(row.digest) if row.digest else None
            what = f"{published.name} {published.version}" if published else _named(detail)
            yield Happening(row.at_ms, "version", f"slot {row.slot} went to {what}")
    audit = schema.audit
    labelled = connection.execute(
        sa.select(audit)
        .where(audit.c.action == _LABELLED, audit.c.subject == alert.device)
        .order_by(audit.c.id.desc())
        .limit(_LINES)
    )
    for row in labelled:
        set_to: dict[str, Any] = msgspec.json.decode(row.detail)
        text = " ".join(f"{key}={value}" for key, value in sorted(set_to.items()))
        yield Happening(row.at_ms, "label", f"{row.actor} set the labels {text}")


def _changed(at_ms: int, detail: dict[str, str]) -> Iterator[Happening]:
    kinds: dict[str, Kind] = {
        "agent": "agent", "configuration": "configuration", "clock": "clock", "labels": "label"
    }  # fmt: skip
    for name, kind in kinds.items():
        if name in detail:
            yield Happening(at_ms, kind, f"{name} {detail[name]}")


def _named(detail: dict[str, str]) -> str:
    return f"{detail.get('name', '')} {detail.get('version', '')}".strip() or "another version"
