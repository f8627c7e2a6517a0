"""The declared slices of a version, for a subject over a span of time."""

from __future__ import annotations

from typing import TYPE_CHECKING

from whimbrel_core.profile.drift.segments import Segment, segments
from whimbrel_core.profile.watching import alarms
from whimbrel_server.domain.subjects import stored_subject
from whimbrel_server.queries import losses
from whimbrel_server.queries.history import Span, spanned
from whimbrel_server.queries.measures import merged
from whimbrel_server.queries.memo import Memo
from whimbrel_server.queries.models import require
from whimbrel_server.views.slices import SliceFeatureView, SliceView

if TYPE_CHECKING:
    import sqlalchemy as sa

    from whimbrel_server.repository import Repository

_JUDGED: Memo[tuple[Segment, ...]] = Memo(128)


def slices(  # noqa: PLR0917 - the parts of a question
    connection: sa.Connection,
    repository: Repository,
    name: str,
    version: str | None,
    subject: str,
    span: Span,
) -> tuple[SliceView, ...]:
    """Return the slices in the order of their declaration; none where none are declared.

    Without a span the newest seven days with data.
    """
    published = require(repository, name, version)
    contents = repository.contents(published.digest)
    baseline = contents.baseline
    found = spanned(connection, published.digest, stored_subject(subject), span)
    if not baseline.layout.slices or not found:
        return ()
    window = merged(published.digest, baseline, found)
    thresholds = alarms.policy_for(contents.manifest.drift, streams=1).thresholds
    judged = _JUDGED.get(
        (published.digest,),
        (period.payload for period in found),
        lambda: segments(window, baseline, thresholds),
    )
    return tuple(_view(one) for one in judged)


def _view(one: Segment) -> SliceView:
    labels = one.realised
    return SliceView(
        name=one.name,
        condition=one.condition,
        rows=one.rows,
        share=one.share,
        usual=one.usual,
        state=one.level,
        features=tuple(
            SliceFeatureView(feature=f.feature, state=f.level, psi=f.psi) for f in one.features
        ),
        losses=tuple(losses.view(loss) for loss in one.losses),
        labelled_rows=labels.n if labels else 0,
        auc_realised=labels.auc if labels else None,
        accuracy_realised=labels.accuracy if labels else None,
        mae_realised=labels.mae if labels else None,
    )
