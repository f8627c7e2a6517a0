"""Drift and quality over time, and distributions, as views."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Literal

import msgspec
import sqlalchemy as sa

from whimbrel_core.errors import UsageError
from whimbrel_server.domain.aggregation import DAY_MS, HOUR_MS, Step
from whimbrel_server.domain.subjects import FLEET, device_subject, stored_subject
from whimbrel_server.queries.measures import measured, merged
from whimbrel_server.queries.memo import Memo
from whimbrel_server.queries.models import require
from whimbrel_server.store import aggregates, schema
from whimbrel_server.store.judgements import StoredJudgement
from whimbrel_server.views.history import HistogramView, SeriesPoint

if TYPE_CHECKING:
    from collections.abc import Sequence

    from whimbrel_core.profile.window import FeatureCounts
    from whimbrel_server.repository import Repository


_SERIES: Memo[dict[str, tuple[SeriesPoint, ...]]] = Memo(24)


class Span(msgspec.Struct, frozen=True):
    """A span of event time; None is open."""

    since_ms: int | None = None
    until_ms: int | None = None


def drift_series(  # noqa: PLR0917 - the parts of a question
    connection: sa.Connection,
    repository: Repository,
    name: str,
    version: str | None,
    subject: str,
    feature: str | None,
    span: Span,
) -> dict[str, tuple[SeriesPoint, ...]]:
    """Return drift over time by feature, of one version or of all."""
    require(repository, name, version)
    table = schema.judgements
    level = "fleet" if subject == FLEET else "cohort" if subject.startswith("c:") else "device"
    found: dict[str, list[SeriesPoint]] = {}
    for published in repository.published():
        if published.name != name or version not in {None, published.version}:
            continue
        query = sa.select(table.c.payload).where(
            table.c.digest == published.digest,
            table.c.subject == subject,
            table.c.level == level,
        )
        if span.since_ms is not None:
            query = query.where(table.c.start_ms >= span.since_ms)
        if span.until_ms is not None:
            query = query.where(table.c.start_ms < span.until_ms)
        rows = connection.execute(query.order_by(table.c.start_ms)).scalars().all()
        points = _SERIES.get(
            (published.version, feature),
            rows,
            lambda rows=rows, of=published.version: _points(rows, of, feature),  # type: ignore[misc]
        )
        for key, more in points.items():
            found.setdefault(key, []).extend(more)
    if feature is not None and not found:
        _require_feature(repository, name, version, feature)
    return {
        key: tuple(sorted(points, key=lambda point: (point.start_ms, point.version)))
        for key, points in found.items()
    }


def _points(
    rows: Sequence[bytes], version: str, feature: str | None
) -> dict[str, tuple[SeriesPoint, ...]]:
    """Return stored judgements of one version as points by feature."""
    found: dict[str, list[SeriesPoint]] = {}
    for payload in rows:
        judgement = StoredJudgement.decode(payload)
        judged = judgement.judged
        for shown in judgement.shown:
            one = shown.drift
            if feature in {None, one.feature}:
                found.setdefault(one.feature, []).append(
                    SeriesPoint(
                        start_ms=judged.position.start_ms,
                        end_ms=judged.end_ms,
                        rows=judged.rows,
                        version=version,
                        state=shown.level,
                        psi=one.psi,
                        w1_sd=one.w1_sd,
                        log_e=shown.log_e,
                        null_rate=one.null_rate,
                    )
                )
    return {key: tuple(points) for key, points in found.items()}


def quality_series(  # noqa: PLR0917 - the parts of a question
    connection: sa.Connection,
    repository: Repository,
    name: str,
    version: str | None,
    device: str | None,
    step: Literal["month", "day"],
) -> dict[str, tuple[SeriesPoint, ...]]:
    """Return quality, errors and latency over time by version."""
    require(repository, name, version)
    subject = FLEET if device is None else device_subject(device)
    found = {}
    for published in repository.published():
        if published.name != name or published.problem or version not in {None, published.version}:
            continue
        baseline = repository.contents(published.digest).baseline
        groups: dict[int, list[aggregates.Period]] = {}
        for period in aggregates.periods(connection, published.digest, subject, "day"):
            start = period.bucket_ms if step == "day" else _month(period.bucket_ms)
            groups.setdefault(start, []).append(period)
        points = []
        for start, members in sorted(groups.items()):
            points.append(
                SeriesPoint(
                    start_ms=start,
                    end_ms=start + DAY_MS if step == "day" else _next_month(start),
                    version=published.version,
                    **msgspec.structs.asdict(measured(published.digest, baseline, members)),
                )
            )
        if points:
            found[published.version] = tuple(points)
    return found


def histogram(  # noqa: PLR0917 - the parts of a question
    connection: sa.Connection,
    repository: Repository,
    name: str,
    version: str,
    subject: str,
    feature: str,
    span: Span,
) -> HistogramView:
    """Return reference against current; without a span the newest seven days with data."""
    published = require(repository, name, version)
    baseline = repository.contents(published.digest).baseline
    index = _require_feature(repository, name, version, feature)
    found = spanned(connection, published.digest, stored_subject(subject), span)
    declared = baseline.layout.features[index]
    reference = baseline.window.features[index]
    current = merged(published.digest, baseline, found)
    counted = current.features[index]
    return HistogramView(
        feature=feature,
        kind=declared.kind,
        cells=declared.cell_names(),
        reference=_shares(reference),
        current=_shares(counted),
        edges=declared.edges,
        unit=declared.unit,
        reference_null_rate=reference.invalid / reference.rows if reference.rows else 0.0,
        current_null_rate=counted.invalid / counted.rows if counted.rows else 0.0,
        rows=current.rows,
    )


def spanned(
    connection: sa.Connection, digest: str, stored: str, span: Span
) -> list[aggregates.Period]:
    """Return the periods of a span; without one the newest seven days with data."""
    if span.since_ms is None and span.until_ms is None:
        return aggregates.periods(connection, digest, stored, "day", newest=7)
    step: Step = "day"
    length = (span.until_ms or (1 << 60)) - (span.since_ms or 0)
    if length < 2 * DAY_MS:
        step = "hour"
    since = span.since_ms
    if since is not None:
        since -= since % (HOUR_MS if step == "hour" else DAY_MS)
    found = aggregates.periods(
        connection, digest, stored, step, since_ms=since, until_ms=span.until_ms
    )
    if not found and step == "hour":
        # Windows of an hour or longer have no hours to show.
        since = None if since is None else since - since % DAY_MS
        found = aggregates.periods(
            connection, digest, stored, "day", since_ms=since, until_ms=span.until_ms
        )
    return found


def _shares(counts: FeatureCounts) -> tuple[float, ...]:
    finite = counts.finite
    return tuple(cell / finite if finite else 0.0 for cell in counts.cells)


def _require_feature(repository: Repository, name: str, version: str | None, feature: str) -> int:
    published = require(repository, name, version)
    names = [one.name for one in repository.contents(published.digest).baseline.layout.features]
    if feature not in names:
        raise UsageError(
            f"model {name} has no feature {feature!r}",
            hint=f"its features are {', '.join(names)}",
            code="not_found",
        )
    return names.index(feature)


def _month(at_ms: int) -> int:
    moment = datetime.fromtimestamp(at_ms / 1000, UTC)
    return int(datetime(moment.year, moment.month, 1, tzinfo=UTC).timestamp() * 1000)


def _next_month(start_ms: int) -> int:
    # Any day after the 28th of a month plus four days is in the next one.
    return _month(start_ms + 32 * DAY_MS)
