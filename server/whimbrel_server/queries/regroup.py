"""A finding of many devices made again: from the states that their detectors left on disk.

Each device's evidence comes from its state, as the fold would read it after a start, and its
threshold from the policy that its newest window was judged under.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import sqlalchemy as sa

from whimbrel_core.profile.watching.judging import DeviceJudge
from whimbrel_server.domain import rollups
from whimbrel_server.domain.aggregation import FLEET
from whimbrel_server.store import judgements, policies, schema
from whimbrel_server.store.standings import Standings, standing

if TYPE_CHECKING:
    from whimbrel_server.domain.verdict import Verdict
    from whimbrel_server.repository import Repository

AGAIN = ("drifting", "count", "alarmed", "log_e", "threshold", "what", "since_ms", "devices")
"""What of a finding is made of its devices' evidence; the rest is of the merged counts."""


class Regrouped(NamedTuple):
    """What the devices of a version show together now; ``gone``: why that cannot be said."""

    figures: dict[str, Any]
    devices: int = 0
    gone: str = ""


def regroup(connection: sa.Connection, repository: Repository, one: Verdict) -> Regrouped:
    """Return the figures of a finding of the fleet, made again."""
    if one.subject != FLEET:
        return Regrouped({}, 0, "who was in its cohort is not stored; ask for its devices'")
    baseline = repository.contents(one.digest).baseline
    table = schema.detectors
    rows = connection.execute(
        sa.select(table.c.subject, table.c.start_ms, table.c.key).where(
            table.c.digest == one.digest
        )
    ).all()
    if len(rows) != one.figures["devices"]:
        return Regrouped(
            {}, 0, f"{len(rows)} devices have served it, not those of the verdict alone"
        )
    named = {row.subject: _policy_of(connection, one.digest, *row) for row in rows}
    known = policies.load(connection, named.values())
    if set(named.values()) - set(known):
        return Regrouped({}, 0, "the policy of some of its devices is not known any more")
    judges = {name: DeviceJudge(baseline, policy) for name, policy in known.items()}
    standings = Standings()
    standings.load(connection, one.digest, lambda subject: judges[named[subject]])
    members = dict.fromkeys(named, ())
    found = rollups.roll_up(
        [feature.name for feature in baseline.layout.features],
        next(iter(judges.values())).components,
        standing(standings.among(one.digest, members), members),
        {},
        1,
        1,
        {one.feature: False},
    )
    for again in found:
        if again.feature == one.feature:
            names = again.names[: len(one.figures["drifting"])]
            figures = {name: getattr(again, name) for name in AGAIN if hasattr(again, name)}
            return Regrouped(
                {**one.figures, **figures, "drifting": names, "count": len(again.drifting)},
                len(rows),
            )
    return Regrouped(
        {}, len(rows), "none of its devices drifts any more: it stood on their average"
    )


def _policy_of(
    connection: sa.Connection, digest: str, subject: str, start_ms: int, key: str
) -> str:
    table = schema.judgements
    payload = connection.execute(
        sa.select(table.c.payload).where(
            table.c.digest == digest,
            table.c.subject == subject,
            table.c.start_ms == start_ms,
            table.c.key == key,
        )
    ).scalar()
    return "" if payload is None else judgements.policy_in(payload)
