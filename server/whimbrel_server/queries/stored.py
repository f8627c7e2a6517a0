"""Stored counts of one version and subject, by period."""

from __future__ import annotations

from typing import TYPE_CHECKING

from whimbrel_core.profile.watching import alarms
from whimbrel_server.domain.aggregation import DAY_MS, HOUR_MS
from whimbrel_server.domain.subjects import stored_subject
from whimbrel_server.queries.models import require
from whimbrel_server.store import aggregates
from whimbrel_server.views.stored import PeriodCounts, Step, StoredCountsView

if TYPE_CHECKING:
    import sqlalchemy as sa

    from whimbrel_server.queries.history import Span
    from whimbrel_server.repository import Repository

MOST_PERIODS = 2_400  # a hundred days of hours, about 4 MB


def counts(  # noqa: PLR0917 - the parts of a question
    connection: sa.Connection,
    repository: Repository,
    name: str,
    version: str | None,
    subject: str,
    step: Step,
    span: Span,
) -> StoredCountsView:
    """Return the newest periods of a span; without ``version`` of the newest release.

    A period is in a span when some of it is.
    """
    published = require(repository, name, version)
    contents = repository.contents(published.digest)
    length = {"hour": HOUR_MS, "day": DAY_MS, "all": 0}[step]
    since, until = span.since_ms, span.until_ms
    if not length:
        since = until = None
    elif since is not None:
        since -= since % length
    found = aggregates.periods(
        connection,
        published.digest,
        stored_subject(subject),
        step,
        since_ms=since,
        until_ms=until,
        newest=MOST_PERIODS,
    )
    return StoredCountsView(
        name=published.name,
        version=published.version,
        subject=subject,
        step=step,
        profile_id=contents.baseline.profile_id,
        baseline=contents.baseline.encode(),
        thresholds=alarms.policy_for(contents.manifest.drift, streams=1).thresholds,
        periods=tuple(
            PeriodCounts(start_ms=one.bucket_ms, windows=one.windows, counts=one.payload)
            for one in found
        ),
    )
