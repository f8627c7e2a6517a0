"""Findings of groups as rows: roll-ups by feature, and who stood out in the newest periods."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import sqlalchemy as sa

from whimbrel_server.domain.outliers import PeerPeriod
from whimbrel_server.domain.rollups import Rollup
from whimbrel_server.domain.subjects import FLEET
from whimbrel_server.store import alerts, schema
from whimbrel_server.store.database import upsert

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from whimbrel_server.domain.aggregation import Step

# Periods of peers that are kept: what hysteresis looks at, and as much again.
KEPT = 8

_ENCODER = msgspec.msgpack.Encoder()
_PERIOD = msgspec.msgpack.Decoder(PeerPeriod)
_ROLLUP = msgspec.msgpack.Decoder(Rollup)


def load(connection: sa.Connection, digest: str) -> tuple[PeerPeriod, ...]:
    """Return the newest periods of a version's devices as peers, oldest first."""
    table = schema.peers
    rows = connection.execute(
        sa.select(table.c.payload).where(table.c.digest == digest).order_by(table.c.start_ms)
    ).scalars()
    return tuple(_PERIOD.decode(payload) for payload in rows)


def newest_period(connection: sa.Connection, digest: str) -> PeerPeriod | None:
    """Return the newest period of a version's devices as peers, with who is an outlier."""
    table = schema.peers
    payload = connection.execute(
        sa.select(table.c.payload)
        .where(table.c.digest == digest)
        .order_by(table.c.start_ms.desc())
        .limit(1)
    ).scalar()
    return None if payload is None else _PERIOD.decode(payload)


def save(connection: sa.Connection, digest: str, periods: Sequence[PeerPeriod]) -> None:
    """Keep these periods of a version, and no others."""
    table = schema.peers
    connection.execute(
        sa.delete(table).where(
            table.c.digest == digest, table.c.start_ms.not_in([one.start_ms for one in periods])
        )
    )
    upsert(
        connection,
        table,
        [
            {"digest": digest, "start_ms": one.start_ms, "payload": _ENCODER.encode(one)}
            for one in periods
        ],
    )


def newest(connection: sa.Connection, digest: str, step: Step) -> tuple[int, ...]:
    """Return the starts of the newest periods of a version, one more than are kept."""
    table = schema.aggregates
    return tuple(
        connection.execute(
            sa.select(table.c.bucket_ms)
            .where(table.c.digest == digest, table.c.subject == FLEET, table.c.step == step)
            .order_by(table.c.bucket_ms.desc())
            .limit(KEPT + 1)
        ).scalars()
    )


def save_rollups(
    connection: sa.Connection, digest: str, found: Iterable[Rollup], now_ms: int
) -> None:
    """Keep the findings of a version, and no others."""
    table = schema.rollups
    connection.execute(sa.delete(table).where(table.c.digest == digest))
    upsert(
        connection,
        table,
        [
            {
                "digest": digest,
                "feature": one.feature,
                "updated_ms": now_ms,
                "payload": _ENCODER.encode(one),
            }
            for one in found
        ],
    )


def rollups_of(connection: sa.Connection, digest: str) -> tuple[tuple[Rollup, int], ...]:
    """Return the findings of a version, and when each was written."""
    table = schema.rollups
    rows = connection.execute(
        sa.select(table.c.payload, table.c.updated_ms).where(table.c.digest == digest)
    )
    return tuple((_ROLLUP.decode(row.payload), row.updated_ms) for row in rows)


def rollup_cause(digest: str, feature: str) -> str:
    """Return the cause of a finding's alert."""
    return f"rollup/{digest}/{feature}"


def outlier_cause(digest: str, device: str, feature: str) -> str:
    """Return the cause of the alert of a device unlike its peers."""
    return f"outlier/{digest}/{device}/{feature}"


def open_rollups(connection: sa.Connection, digest: str) -> dict[str, bool]:
    """Return the features whose findings are told, and whether as the average's."""
    prefix = rollup_cause(digest, "")
    found = alerts.evidence_of(connection, prefix)
    return {
        cause.removeprefix(prefix): bool(evidence.get("figures", {}).get("average"))
        for cause, evidence in found.items()
    }


def open_outliers(connection: sa.Connection, digest: str) -> frozenset[tuple[str, str]]:
    """Return the devices and features that are told as unlike their peers."""
    causes = alerts.causes(connection, f"outlier/{digest}/")
    return frozenset((one[2], one[3]) for one in (cause.split("/", 3) for cause in causes))
