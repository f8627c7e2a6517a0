"""The newest judgement of each subject, as views."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import sqlalchemy as sa

from whimbrel_core.profile.watching import alarms
from whimbrel_server.domain.subjects import shown_subject, stored_subject
from whimbrel_server.queries import losses
from whimbrel_server.queries.memo import Memo
from whimbrel_server.queries.models import require
from whimbrel_server.queries.peers import against_peers
from whimbrel_server.store import schema
from whimbrel_server.store.judgements import StoredJudgement
from whimbrel_server.views.drift import DriftView, FeatureView, FindingView, Level, LossView

if TYPE_CHECKING:
    from collections.abc import Iterable

    from whimbrel_core.profile.baseline import Baseline
    from whimbrel_server.repository import Published, Repository

_ORDER = ("too_few", "ok", "notice", "warn", "severe")
# Of a lasting alarm, what a listing says is expected of so many of its newest windows.
_LISTED = 96
_LOSSES: Memo[tuple[LossView, ...]] = Memo(4096)
# A comparison with peers is made when it is asked for, about a millisecond each: of one device,
# or of a small fleet.
_PEERS_AT_MOST = 64


def newest_drift(  # noqa: PLR0917 - the parts of a question
    connection: sa.Connection,
    repository: Repository,
    name: str,
    version: str | None,
    level: Level | None,
    subject: str | None,
) -> tuple[DriftView, ...]:
    """Return the newest judgement of each subject of a model, worst first."""
    require(repository, name, version)
    table = schema.judgements
    found: list[DriftView] = []
    for published in repository.published():
        if published.name != name or published.problem or version not in {None, published.version}:
            continue
        baseline = repository.contents(published.digest).baseline
        newest = (
            sa.select(
                table.c.level,
                table.c.subject,
                sa.func.max(table.c.start_ms).label("start_ms"),
            )
            .where(table.c.digest == published.digest)
            .group_by(table.c.level, table.c.subject)
        )
        if level is not None:
            newest = newest.where(table.c.level == level)
        if subject is not None:
            newest = newest.where(table.c.subject == stored_subject(subject))
        at = newest.subquery()
        rows = connection.execute(
            sa.select(table.c.level, table.c.subject, table.c.payload)
            .join(
                at,
                sa.and_(
                    table.c.level == at.c.level,
                    table.c.subject == at.c.subject,
                    table.c.start_ms == at.c.start_ms,
                ),
            )
            .where(table.c.digest == published.digest)
            .order_by(table.c.key)
        )
        # Two windows of one start (after a restart): the later one of its outbox is shown.
        latest = {(row.level, row.subject): row.payload for row in rows}
        for (stored_level, stored), payload in latest.items():
            judgement = StoredJudgement.decode(payload)
            view = drift_view(judgement, stored_level, stored, published, baseline)
            cost = _losses(connection, judgement, payload, stored, published, baseline)
            found.append(msgspec.structs.replace(view, losses=cost))
        devices = [stored for stored_level, stored in latest if stored_level == "device"]
        for stored in devices if len(devices) <= _PEERS_AT_MOST else ():
            judgement_or_none = against_peers(connection, repository, published, stored)
            if judgement_or_none is not None:
                found.append(drift_view(judgement_or_none, "peers", stored, published, baseline))
    return tuple(sorted(found, key=_urgency))


def drift_view(
    judgement: StoredJudgement,
    level: str,
    subject: str,
    published: Published,
    baseline: Baseline,
) -> DriftView:
    """Return a stored judgement as a view; features worst first."""
    judged = judgement.judged
    features = feature_views(judgement, baseline)
    return DriftView(
        level="device" if level == "peers" else level,  # type: ignore[arg-type]
        against="peers" if level == "peers" else "baseline",
        subject=shown_subject(subject),
        name=published.name,
        version=published.version,
        window_start_ms=judged.position.start_ms,
        window_end_ms=judged.end_ms,
        rows=judged.rows,
        features=features,
        findings=tuple(FindingView(**msgspec.structs.asdict(one)) for one in judgement.findings),
        worst=alarms.worst_of(one.state for one in features),
    )


def feature_views(judgement: StoredJudgement, baseline: Baseline) -> tuple[FeatureView, ...]:
    """Return the features of a judgement, worst first."""
    declared = {
        feature.name: (feature, stats)
        for feature, stats in zip(baseline.layout.features, baseline.stats, strict=True)
    }
    found = []
    for shown in judgement.shown:
        one = shown.drift
        feature, stats = declared[one.feature]
        found.append(
            FeatureView(
                feature=one.feature,
                role=one.role,
                kind=feature.kind,
                unit=feature.unit,
                state=shown.level,
                psi=one.psi,
                psi_debiased=one.psi,
                js=one.js,
                ks=one.ks,
                w1_sd=one.w1_sd,
                p_value=one.p_value,
                log_e=shown.log_e,
                alarm=shown.alarm,
                since_ms=shown.since_ms,
                null_rate=one.null_rate,
                reference_null_rate=stats.null_rate,
            )
        )
    return ordered(found)


def ordered(features: Iterable[FeatureView]) -> tuple[FeatureView, ...]:
    """Return features worst first."""
    return tuple(
        sorted(features, key=lambda f: (-_ORDER.index(f.state), -(f.psi or 0.0), f.feature))
    )


def _losses(  # noqa: PLR0917 - one row of a listing, and where it is from
    connection: sa.Connection,
    judgement: StoredJudgement,
    payload: bytes,
    stored: str,
    published: Published,
    baseline: Baseline,
) -> tuple[LossView, ...]:
    """Return what is expected of the windows since the first alarm, or else of the newest one."""
    began = [shown.since_ms for shown in judgement.shown if shown.alarm and shown.since_ms]
    if began:
        first, digest = min(began), published.digest
        table = schema.judgements
        number = connection.execute(
            sa.select(sa.func.count()).where(
                table.c.digest == digest, table.c.subject == stored, table.c.start_ms >= first
            )
        ).scalar()
        # A window's scores never change: as many windows up to this one give the same answer.
        return _LOSSES.get(
            (digest, stored, first, number),
            [payload],
            lambda: losses.since(
                connection, baseline, digest, [stored], since_ms=first, newest=_LISTED
            ),
        )
    return _LOSSES.get(
        (published.digest,), [payload], lambda: losses.of_counts(judgement.scores, baseline)
    )


def _urgency(one: DriftView) -> tuple[object, ...]:
    """Return a sort key: the worst state first, and within it what is expected to cost most."""
    loss = one.losses[0].loss if one.losses else 0.0
    return -_ORDER.index(one.worst), -loss, one.level, one.subject, one.version
