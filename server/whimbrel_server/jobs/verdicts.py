"""Judgements as verdicts: what was found, with the windows that say so.

Those of devices are made in the transaction that writes the windows' judgements, so that a verdict never
names a window that is not there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import sqlalchemy as sa

from whimbrel_server.domain import promises, verdict
from whimbrel_server.domain.aggregation import DAY_MS
from whimbrel_server.domain.subjects import FLEET
from whimbrel_server.domain.totals import Totals
from whimbrel_server.domain.verdict import Input
from whimbrel_server.store import judgements, schema

if TYPE_CHECKING:
    from collections.abc import Sequence

    from whimbrel_core.profile.layout import Layout
    from whimbrel_server.config import Monitoring
    from whimbrel_server.domain.verdict import Verdict
    from whimbrel_server.jobs.histories import Turned
    from whimbrel_server.repository import Published
    from whimbrel_server.store.aggregates import Period


def device_drift(connection: sa.Connection, turned: Turned, profile_id: str) -> Verdict:
    """Return the verdict of an alarm that began or changed, once its windows are written."""
    digest, subject = turned.at
    change, policy = turned.change, turned.policy
    until = judgements.upto(digest, subject, turned.position)
    table = schema.judgements
    history, first_ms = connection.execute(
        sa.select(sa.func.count(), sa.func.min(table.c.start_ms)).where(until)
    ).one()
    newest = connection.execute(
        sa.select(table.c.start_ms, table.c.key, table.c.end_ms, table.c.rows)
        .where(until)
        .order_by(table.c.start_ms.desc(), table.c.key.desc())
        .limit(verdict.MAX_WINDOWS)
    ).all()
    return verdict.reached(
        verdict.DEVICE_DRIFT,
        digest=digest,
        profile_id=profile_id,
        subject=subject,
        feature=change.feature,
        inputs=[Input(*row) for row in reversed(newest)],
        history=history,
        first_ms=first_ms,
        policy=policy,
        thresholds=verdict.thresholds_of(policy),
        figures=verdict.figures_of(change.severity, change.evidence),
    )


def quality(
    published: Published,
    layout: Layout,
    days: Sequence[Period],
    found: promises.Kept,
    settings: Monitoring,
    *,
    subject: str = FLEET,
) -> Verdict:
    """Return the verdict of labels over ``days`` that break what the baseline promised."""
    limit = settings.max_quality_drop
    return verdict.reached(
        verdict.QUALITY,
        digest=published.digest,
        profile_id=published.profile_id,
        subject=subject,
        inputs=[labelled(layout, day) for day in days],
        policy={
            "max_quality_drop": limit,
            "min_labels": settings.min_labels,
            "quality_days": settings.quality_days,
        },
        thresholds={"max_quality_drop": limit, "sigmas": promises.SIGMAS},
        figures=found.figures(limit),
    )


def labelled(layout: Layout, day: Period) -> Input:
    """Return a day as an input of a verdict about quality: its rows are the labelled ones."""
    labels = Totals.of(layout, day.window).labels
    return Input(day.bucket_ms, "", day.bucket_ms + DAY_MS, labels)
