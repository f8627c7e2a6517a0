"""What the server looks after by itself: quality, silent devices, old rows."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import sqlalchemy as sa

from whimbrel_server.domain import aggregation, devices, promises
from whimbrel_server.domain.aggregation import DAY_MS
from whimbrel_server.domain.subjects import FLEET
from whimbrel_server.jobs import verdicts
from whimbrel_server.store import aggregates, alerts, schema

if TYPE_CHECKING:
    from whimbrel_core.profile.baseline import Baseline
    from whimbrel_server.config import Monitoring, Retention
    from whimbrel_server.repository import Published, Repository
    from whimbrel_server.store.database import Database
    from whimbrel_server.store.registry import Registry

_HOUR_S = 3600


def watch_quality(
    database: Database,
    repository: Repository,
    registry: Registry,
    settings: Monitoring,
    now_ms: int,
) -> None:
    """Raise or close the quality alert of every version in use, by its newest days with labels.

    What is promised is the quality that the baseline's own scores and calibration give, or its error
    model; what is realised comes from labels joined on devices. The alert needs the realised to be
    worse than the promised by ``max_quality_drop`` beyond doubt (`whimbrel_server.domain.promises`). A cohort for which an operator set a limit of its
    own is watched by itself, beside the fleet.
    """
    served = set[str]().union(*_served(registry).values())
    policies = settings.policies()
    for published in repository.published():
        # What nobody serves any more would be raised here and closed by `watch_served`, for ever.
        if published.problem or (served and published.digest not in served):
            continue
        contents = repository.contents(published.digest)
        for cohort in ("", *policies.quality_cohorts(published.name)):
            labels = [cohort] if cohort else []
            followed = policies.follow(published.name, contents.manifest.drift, labels)
            _watch_quality(
                database,
                published,
                contents.baseline,
                cohort,
                msgspec.structs.replace(settings, max_quality_drop=followed.max_quality_drop),
                now_ms,
            )


def _watch_quality(  # noqa: PLR0917 - all of it is what is judged
    database: Database,
    published: Published,
    baseline: Baseline,
    cohort: str,
    settings: Monitoring,
    now_ms: int,
) -> None:
    subject = f"c:{cohort}" if cohort else FLEET
    with database.read() as connection:
        days = _newest_days(connection, published.digest, subject, settings.quality_days)
    quality = aggregates.total(baseline.layout, days).window().quality
    if quality is None or quality.rows < settings.min_labels:
        return
    found = promises.kept(quality, baseline)
    if found is None:
        return
    limit = settings.max_quality_drop
    cause = f"quality/{published.digest}{'/' if cohort else ''}{cohort}"
    if not found.broken(limit):
        if found.mended(limit):
            database.write(lambda connection: alerts.close(connection, cause, now_ms))
        return
    where = f" in {cohort}" if cohort else ""
    alert = alerts.NewAlert(
        cause=cause,
        at_ms=days[-1].bucket_ms,
        kind="quality",
        severity=found.severity(limit),
        message=found.told(f"{published.name} {published.version}{where}"),
        model=published.name,
        version=published.version,
        scope=cohort,
        evidence=verdicts.quality(
            published, baseline.layout, days, found, settings, subject=subject
        ).evidence(),
    )
    database.write(lambda connection: alerts.raise_alert(connection, alert, now_ms))


def _newest_days(
    connection: sa.Connection, digest: str, subject: str, days: int
) -> list[aggregates.Period]:
    table = schema.aggregates
    newest = connection.execute(
        sa.select(sa.func.max(table.c.bucket_ms)).where(
            table.c.digest == digest,
            table.c.subject == subject,
            table.c.step == "day",
            table.c.labels > 0,
        )
    ).scalar()
    if newest is None:
        return []
    since = newest - (days - 1) * DAY_MS
    return aggregates.periods(
        connection, digest, subject, "day", since_ms=since, until_ms=newest + 1
    )


def watch_silence(
    database: Database, registry: Registry, settings: Monitoring, now_ms: int
) -> None:
    """Raise an alert for each device that has been silent for too long; close it on its return."""
    limit_s = settings.silent_hours * _HOUR_S
    with database.read() as connection:
        known = set(alerts.causes(connection, "silent/"))
    for record in registry.all():
        cause = f"silent/{record.device}"
        silent = devices.is_silent(record.last_seen_ms, now_ms, limit_s)
        online = record.presence.online
        if silent and not online and cause not in known and record.last_seen_ms is not None:
            alert = alerts.NewAlert(
                cause=cause,
                at_ms=record.last_seen_ms,
                kind="device",
                severity="warn",
                message=f"{record.device} has been silent for more than {settings.silent_hours:g} hours",
                device=record.device,
            )
            database.write(
                lambda connection, alert=alert: alerts.raise_alert(connection, alert, now_ms)  # type: ignore[misc]
            )
        elif not silent and cause in known:
            database.write(
                lambda connection, cause=cause: alerts.close(connection, cause, now_ms)  # type: ignore[misc]
            )


def watch_served(database: Database, registry: Registry, now_ms: int) -> None:
    """Close the alerts of versions that are not served any more: nothing can end them otherwise."""
    served = _served(registry)
    everywhere = set[str]().union(*served.values())
    with database.read() as connection:
        of_devices = [*alerts.causes(connection, "drift/"), *alerts.causes(connection, "data/")]
        of_versions = [
            cause
            for kind in ("quality/", "rollup/", "outlier/", "groupdata/")
            for cause in alerts.causes(connection, kind)
        ]
    over = [cause for cause in of_versions if cause.split("/")[1] not in everywhere]
    for cause in of_devices:
        _, digest, subject, _ = cause.split("/", 3)
        device = subject.removeprefix("d:")
        if device in served and digest not in served[device]:
            over.append(cause)
    for cause in over if everywhere else ():
        database.write(lambda connection, cause=cause: alerts.close(connection, cause, now_ms))  # type: ignore[misc]


def _served(registry: Registry) -> dict[str, set[str]]:
    """Return the digests that each device says it serves."""
    return {
        record.device: {slot.digest for slot in record.state.slots}
        for record in registry.all()
        if record.state is not None
    }


def prune(database: Database, retention: Retention, folded: int, now_ms: int) -> None:
    """Delete what is older than its retention; a segment only once it is in the aggregates."""
    segments, journal, table = schema.segments, schema.journal, schema.aggregates
    old = {
        "segments": now_ms - retention.segments_hours * aggregation.HOUR_MS,
        "hour": now_ms - retention.hours_days * DAY_MS,
        "day": now_ms - retention.days_days * DAY_MS,
    }

    def change(connection: sa.Connection) -> None:
        connection.execute(
            sa.delete(segments).where(
                segments.c.committed_ms < old["segments"], segments.c.id <= folded
            )
        )
        left = sa.select(sa.func.min(segments.c.id)).scalar_subquery()
        connection.execute(
            sa.delete(journal).where(journal.c.segment < sa.func.coalesce(left, folded + 1))
        )
        # Event time may lie years back (a replay): what was touched since counts as young.
        newest = connection.execute(sa.select(sa.func.max(table.c.bucket_ms))).scalar() or now_ms
        shift = max(now_ms - newest, 0)
        for step in ("hour", "day"):
            connection.execute(
                sa.delete(table).where(table.c.step == step, table.c.bucket_ms < old[step] - shift)
            )
        judgements = schema.judgements
        connection.execute(sa.delete(judgements).where(judgements.c.start_ms < old["day"] - shift))

    database.write(change)
