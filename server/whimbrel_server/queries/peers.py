"""One device against the rest of the fleet, in the newest period that it has: leave-one-out.

Counts add, so they also subtract: the rest of the fleet is the fleet's aggregate less the
device's. It is worked out when somebody asks, because it changes whenever any device reports.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from whimbrel_core.profile.drift.judge import Judge
from whimbrel_core.profile.watching import alarms
from whimbrel_server.domain.aggregation import HOUR_MS, Step
from whimbrel_server.domain.subjects import FLEET
from whimbrel_server.queries.memo import Memo
from whimbrel_server.store import aggregates
from whimbrel_server.store.judgements import StoredJudgement

if TYPE_CHECKING:
    import sqlalchemy as sa

    from whimbrel_server.repository import Contents, Published, Repository

_JUDGED: Memo[StoredJudgement | None] = Memo(256)


def against_peers(
    connection: sa.Connection, repository: Repository, published: Published, subject: str
) -> StoredJudgement | None:
    """Return the judgement, or None when the device or the rest has too few rows."""
    contents = repository.contents(published.digest)
    declared = contents.manifest.drift
    step: Step = "hour" if declared.window_s * 1000 < HOUR_MS else "day"
    own = aggregates.periods(connection, published.digest, subject, step, newest=1)
    if not own:
        return None
    at = own[0].bucket_ms
    whole = aggregates.periods(
        connection, published.digest, FLEET, step, since_ms=at, until_ms=at + 1
    )
    rows = (period.payload for period in (*own, *whole))
    return _JUDGED.get((published.digest, subject), rows, lambda: _judge(contents, own, whole))


def _judge(
    contents: Contents, own: list[aggregates.Period], whole: list[aggregates.Period]
) -> StoredJudgement | None:
    layout = contents.baseline.layout
    thresholds = alarms.policy_for(contents.manifest.drift, streams=1).thresholds
    mine = aggregates.total(layout, own)
    rest = aggregates.total(layout, whole).without(mine)
    if rest.rows < thresholds.min_rows or mine.rows < thresholds.min_rows:
        return None
    window = mine.window()
    said = Judge(contents.baseline, rest.window(), thresholds).judge(window)
    judged = alarms.Judged(
        alarms.Position(own[0].bucket_ms, "peers"), window.end_ms, window.rows, said
    )
    return StoredJudgement(judged, tuple(alarms.Shown(one, one.state) for one in said))
