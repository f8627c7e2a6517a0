"""A finding of many devices made again: from their detectors' states, and from merged counts.

Each device's evidence comes from its state, as the fold would read it after a start, and its
threshold from the policy that its newest window was judged under. What is told of averages comes from
the group's newest periods, as they were judged, and those are judged anew from their stored counts.

States are of the newest windows alone. A verdict names them by a fingerprint: once something came
since, or a device was labelled otherwise, it cannot be made again, which is said. While an alert is
open it is brought up to date with whatever comes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
import sqlalchemy as sa

from whimbrel_core.profile.watching.alarms import Policy
from whimbrel_core.profile.watching.judging import DeviceJudge
from whimbrel_server.domain import aggregation, rollups
from whimbrel_server.domain import standing as standings
from whimbrel_server.domain.subjects import FLEET
from whimbrel_server.queries.replays import recount
from whimbrel_server.queries.replays.again import Again
from whimbrel_server.store import judgements, periods, policies, schema
from whimbrel_server.store.standings import Standings, fingerprint, members_of, standing

if TYPE_CHECKING:
    from whimbrel_core.profile.baseline import Baseline
    from whimbrel_server.domain.rollups import Periods
    from whimbrel_server.domain.verdict import Verdict
    from whimbrel_server.repository import Repository
    from whimbrel_server.store.registry import Registry

_MEANWHILE = "windows of its devices came since, or one of them was labelled otherwise"


def regroup(
    connection: sa.Connection, repository: Repository, registry: Registry, one: Verdict
) -> Again:
    """Return the figures of a finding of the fleet or of a cohort, made again."""
    contents = repository.contents(one.digest)
    baseline = contents.baseline
    members = members_of(registry.serving(one.digest))
    judges = _judges(connection, one.digest, baseline)
    if judges is None:
        return Again({}, "the policy of some of its devices is not known any more")
    known = Standings()
    known.load(connection, one.digest, judges.__getitem__)
    stands = known.among(one.digest, members)
    if not stands or fingerprint(stands, members) != one.given.get("standing"):
        return Again({}, _MEANWHILE)
    step = aggregation.step_of(contents.manifest.drift.window_s)
    recounted, faults = 0, list[str]()
    merged: dict[str, Periods] = {}
    for subject in dict.fromkeys((FLEET, one.subject)):
        judged = periods.newest(connection, one.digest, subject)
        number, found = recount.group_faults(
            connection, baseline, one.digest, subject, step, judged
        )
        recounted += number
        faults += found
        some = periods.effects(kept for kept, _ in judged)
        if some is not None:
            merged[subject] = some
    policy = msgspec.convert(one.policy, Policy)
    before = one.given.get("told_before")
    rolled = rollups.roll_up(
        [feature.name for feature in baseline.layout.features],
        next(iter(judges.values())).components,
        standing(stands, members),
        merged,
        policy.confirm_windows,
        policy.calm_windows,
        {} if before is None else {one.feature: bool(before)},
    )
    again = next((some for some in rolled if some.feature == one.feature), None)
    figures = {} if again is None else _figures(again, one)
    return Again(figures, "", len(stands), recounted, tuple(faults))


def _figures(again: rollups.Rollup, one: Verdict) -> dict[str, Any]:
    named = one.figures.get("drifting") or []
    return {
        **msgspec.structs.asdict(again),
        "drifting": again.names[: max(len(named), 1)],
        "gathered": msgspec.to_builtins(again.gathered),
        "count": len(again.drifting),
        # When it was told last is no judgement.
        "told": one.figures.get("told"),
        "q": standings.Q,
    }


def _judges(
    connection: sa.Connection, digest: str, baseline: Baseline
) -> dict[str, DeviceJudge] | None:
    """Return who judged each device's newest window; None where a policy is not known."""
    rows = connection.execute(
        sa.select(
            schema.detectors.c.subject, schema.detectors.c.start_ms, schema.detectors.c.key
        ).where(schema.detectors.c.digest == digest)
    ).all()
    named = {row.subject: _policy_of(connection, digest, *row) for row in rows}
    known = policies.load(connection, named.values())
    if set(named.values()) - set(known):
        return None
    judges = {name: DeviceJudge(baseline, policy) for name, policy in known.items()}
    return {subject: judges[name] for subject, name in named.items()}


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
