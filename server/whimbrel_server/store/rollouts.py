"""Rollouts as rows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
import sqlalchemy as sa

from whimbrel_core.errors import UsageError
from whimbrel_server.domain import rollout as domain
from whimbrel_server.store import schema
from whimbrel_server.views.rollouts import RolloutView, WaveView

if TYPE_CHECKING:
    from collections.abc import Iterable


class Stored(msgspec.Struct, frozen=True, kw_only=True):
    """One rollout. ``id`` is 0 until it is inserted."""

    id: int
    slot: str
    model: str
    version: str
    digest: str
    state: domain.State
    created_ms: int
    updated_ms: int
    actor: str
    plan: domain.Plan

    @property
    def ended(self) -> bool:
        """Whether it moves no more."""
        return self.state in domain.ENDED

    def view(self) -> RolloutView:
        """Return it as a view."""
        plan = self.plan
        waves = (
            WaveView(
                index=index,
                devices=wave.devices,
                state=wave.state,
                started_ms=wave.started_ms,
                finished_ms=wave.finished_ms,
                gates=wave.gates,
            )
            for index, wave in enumerate(plan.waves)
        )
        return RolloutView(
            id=self.id,
            slot=self.slot,
            model=self.model,
            version=self.version,
            digest=self.digest,
            state=domain.shown_state(self.state),
            from_versions=plan.from_versions,
            wave=plan.wave,
            waves=tuple(waves),
            created_ms=self.created_ms,
            updated_ms=self.updated_ms,
            actor=self.actor,
            reason=plan.reason,
        )


def insert(connection: sa.Connection, rollout: Stored) -> Stored:
    """Insert a new rollout and return it with its id."""
    row = _row(rollout)
    result = connection.execute(sa.insert(schema.rollouts).values(**row))
    key = result.inserted_primary_key
    return msgspec.structs.replace(rollout, id=int(key[0]) if key else 0)


def save(connection: sa.Connection, rollout: Stored) -> None:
    """Write a changed rollout."""
    table = schema.rollouts
    connection.execute(sa.update(table).where(table.c.id == rollout.id).values(**_row(rollout)))


def get(connection: sa.Connection, rollout_id: int) -> Stored:
    """Return one rollout. Raises `UsageError` (``not_found``) when there is none."""
    table = schema.rollouts
    row = connection.execute(sa.select(table).where(table.c.id == rollout_id)).first()
    if row is None:
        raise UsageError(
            f"there is no rollout {rollout_id}",
            hint="see 'whimbrel fleet rollout list'",
            code="not_found",
        )
    return _stored(row)


def listing(connection: sa.Connection, limit: int = 200) -> tuple[Stored, ...]:
    """Return rollouts, newest first."""
    table = schema.rollouts
    rows = connection.execute(sa.select(table).order_by(table.c.id.desc()).limit(limit))
    return tuple(_stored(row) for row in rows)


def going(connection: sa.Connection) -> tuple[Stored, ...]:
    """Return the rollouts that have not ended, oldest first."""
    table = schema.rollouts
    ended: Iterable[str] = domain.ENDED
    rows = connection.execute(
        sa.select(table).where(table.c.state.not_in(ended)).order_by(table.c.id)
    )
    return tuple(_stored(row) for row in rows)


def _row(rollout: Stored) -> dict[str, Any]:
    row = msgspec.structs.asdict(rollout)
    row["payload"] = msgspec.msgpack.encode(row.pop("plan"))
    del row["id"]
    return row


def _stored(row: sa.Row[Any]) -> Stored:
    return Stored(
        id=row.id,
        slot=row.slot,
        model=row.model,
        version=row.version,
        digest=row.digest,
        state=row.state,
        created_ms=row.created_ms,
        updated_ms=row.updated_ms,
        actor=row.actor,
        plan=msgspec.msgpack.decode(row.payload, type=domain.Plan),
    )
