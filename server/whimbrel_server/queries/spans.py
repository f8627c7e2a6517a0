"""A span of time judged as one: what the histograms of that span show, as states and distances.

One window may have a handful of rows; four weeks of them say what is so. Evidence over time (log e,
the alarm, since when) is the detector's and stays that of the newest window.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from whimbrel_core.profile.drift.judge import Judge
from whimbrel_core.profile.flat import flatten
from whimbrel_core.profile.quality.loss import cells
from whimbrel_core.profile.watching import alarms
from whimbrel_server.domain.subjects import FLEET, stored_subject
from whimbrel_server.queries import losses
from whimbrel_server.queries.drift import newest_drift, ordered
from whimbrel_server.queries.history import Span, spanned
from whimbrel_server.queries.measures import merged
from whimbrel_server.queries.memo import Memo
from whimbrel_server.queries.models import require

if TYPE_CHECKING:
    import sqlalchemy as sa

    from whimbrel_core.profile.drift.drifts import FeatureDrift
    from whimbrel_server.repository import Repository
    from whimbrel_server.views.drift import DriftView, FeatureView

_JUDGED: Memo[tuple[FeatureDrift, ...]] = Memo(256)


def span_drift(  # noqa: PLR0917 - the parts of a question
    connection: sa.Connection,
    repository: Repository,
    name: str,
    version: str,
    subject: str,
    span: Span,
) -> DriftView | None:
    """Return the judgement of one subject's rows in ``span``; None when nothing is judged yet."""
    published = require(repository, name, version)
    newest = [
        view
        for view in newest_drift(connection, repository, name, version, None, None)
        if view.against == "baseline"
    ]
    own = next((view for view in newest if view.subject == subject), None)
    found = spanned(connection, published.digest, stored_subject(subject), span)
    if own is None or not found:
        return own
    contents = repository.contents(published.digest)
    thresholds = alarms.policy_for(contents.manifest.drift, streams=1).thresholds
    window = merged(published.digest, contents.baseline, found)
    said = _JUDGED.get(
        (published.digest,),
        (period.payload for period in found),
        lambda: Judge(contents.baseline, thresholds=thresholds).judge(window),
    )
    # A group has no detector of its own: it is alarmed by what its devices are alarmed by.
    grouped = subject == FLEET or "=" in subject
    alarmed = {
        feature.feature
        for view in newest
        if view is own or (grouped and view.level == "device")
        for feature in view.features
        if feature.alarm
    }
    known = {feature.feature: feature for feature in own.features}
    features = ordered(
        _feature(one, known[one.feature], alarmed=one.feature in alarmed) for one in said
    )
    return msgspec.structs.replace(
        own,
        window_start_ms=window.start_ms,
        window_end_ms=window.end_ms,
        rows=window.rows,
        features=features,
        losses=losses.of_counts(cells(flatten(window), contents.baseline), contents.baseline),
        findings=(),
        worst=alarms.worst_of(feature.state for feature in features),
    )


def _feature(said: FeatureDrift, known: FeatureView, *, alarmed: bool) -> FeatureView:
    return msgspec.structs.replace(
        known,
        state=alarms.told(said.state, evidence=alarmed),
        psi=said.psi,
        psi_debiased=said.psi,
        js=said.js,
        ks=said.ks,
        w1_sd=said.w1_sd,
        p_value=said.p_value,
        null_rate=said.null_rate,
    )
