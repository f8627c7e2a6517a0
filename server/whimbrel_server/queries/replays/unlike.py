"""A device unlike its peers, compared again: from the stored counts of all of them in its period.

For how many periods it lasts follows from who stood out in those that are kept of the version; since
when, from what was written beside the newest of them, because an outlier may be older than they are.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from whimbrel_core.profile.watching.alarms import Policy
from whimbrel_core.profile.watching.components import Components
from whimbrel_server.domain import aggregation, outliers
from whimbrel_server.domain.subjects import device_subject
from whimbrel_server.queries.replays.again import Again
from whimbrel_server.store import aggregates, peers

if TYPE_CHECKING:
    import sqlalchemy as sa

    from whimbrel_server.domain.outliers import PeerPeriod
    from whimbrel_server.domain.totals import Totals
    from whimbrel_server.domain.verdict import Verdict
    from whimbrel_server.repository import Repository


def compare_again(connection: sa.Connection, repository: Repository, one: Verdict) -> Again:
    """Return the figures of a device that is unlike its peers, made again."""
    at, last = int(one.figures["period_ms"]), int(one.given.get("last_ms", 0))
    known = [some for some in peers.load(connection, one.digest) if some.start_ms <= last]
    period = next((some for some in known if some.start_ms == at), None)
    if period is None or len(known) < int(one.given.get("periods", 1)):
        return Again({}, "who was compared with whom in its periods is not stored any more")
    contents = repository.contents(one.digest)
    baseline = contents.baseline
    step = aggregation.step_of(contents.manifest.drift.window_s)
    name, policy = str(one.figures["peers"]), msgspec.convert(one.policy, Policy)
    totals: dict[str, Totals] = {}
    for device in period.peers(name):
        subject = device_subject(device)
        found = aggregates.periods(
            connection, one.digest, subject, step, since_ms=at, until_ms=at + 1
        )
        if found:
            totals[device] = aggregates.total(baseline.layout, found)
    if len(totals) < len(period.peers(name)):
        return Again({}, "the counts of some of the devices are not stored any more")
    standing = outliers.standouts(baseline, Components(baseline), policy.thresholds, totals, name)
    key = (str(one.figures["device"]), one.feature)
    for some in standing:
        if (some.device, some.feature) == key:
            figures = {
                **msgspec.structs.asdict(some),
                **_lasting(known, policy, key),
                "period_ms": at,
                "peers_compared": len(totals),
            }
            return Again(figures, "", len(totals))
    return Again({}, "", len(totals), 0, ("it does not stand out from its peers",))


def _lasting(known: list[PeerPeriod], policy: Policy, key: tuple[str, str]) -> dict[str, int]:
    """Return since when a device is unlike its peers, and in how many of the kept periods."""
    found = outliers.outliers(known, policy.confirm_windows, policy.calm_windows, frozenset({key}))
    own = [one for one in found if (one.newest.device, one.newest.feature) == key]
    before = [one for one in known[-1].lasting if (one.newest.device, one.newest.feature) == key]
    since_ms = min((one.since_ms for one in (*own, *before)), default=0)
    return {"since_ms": since_ms, "periods": own[0].periods if own else 0}
