"""An alert explained from the store: its verdict, what surrounds it, and what it costs, in words."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from whimbrel_core.errors import WhimbrelError
from whimbrel_core.profile.drift.segments import seen_in, segments
from whimbrel_core.profile.quality.estimates import realised
from whimbrel_server.domain import attribution, verdict
from whimbrel_server.domain.aggregation import DAY_MS
from whimbrel_server.domain.totals import Totals
from whimbrel_server.domain.wording import circumstances, judgement, quality
from whimbrel_server.domain.wording.phrases import sentence
from whimbrel_server.queries import losses, surroundings
from whimbrel_server.store import aggregates
from whimbrel_server.views.verdicts import (
    AttributionView,
    ExplanationView,
    HappeningView,
    InputView,
    Paragraph,
)

if TYPE_CHECKING:
    import sqlalchemy as sa

    from whimbrel_core.profile.baseline import Baseline
    from whimbrel_core.profile.window import Window
    from whimbrel_server.domain.attribution import Attribution, Facts
    from whimbrel_server.domain.verdict import Verdict
    from whimbrel_server.repository import Repository
    from whimbrel_server.store.registry import Registry
    from whimbrel_server.views.alerts import AlertView
    from whimbrel_server.views.drift import LossView


_DAYS = 31


def explain(
    connection: sa.Connection, repository: Repository, registry: Registry, alert: AlertView
) -> ExplanationView:
    """Return what is known of an alert; of one that is no judgement no more than it says itself."""
    one = verdict.read(alert.evidence)
    if one is None:
        return ExplanationView(
            alert=alert,
            paragraphs=(Paragraph(title="Found", sentences=(sentence(alert.message),)),),
        )
    try:
        baseline = repository.contents(one.digest).baseline
    except WhimbrelError:  # withdrawn, or damaged: what the verdict says itself remains
        return assembled(alert, one, None, None)
    facts = None
    if one.rule == verdict.DEVICE_DRIFT:
        facts = surroundings.facts(connection, repository, registry, alert, one)
    if alert.kind not in {"drift", "outlier"}:
        return assembled(alert, one, facts, None)
    since_ms = one.figures.get("since_ms")
    then = _since(connection, baseline, one, since_ms)
    if facts is not None and then is not None and then.slices:
        having, lacking = seen_in(segments(then, baseline), one.feature)
        facts = msgspec.structs.replace(facts, slices=having, calm_slices=lacking)
    cost = losses.since(
        connection,
        baseline,
        one.digest,
        verdict.subjects_of(one),
        since_ms=since_ms,
        # Of an alarm that is over only what it knew: when it ended is not written down.
        until_ms=one.inputs[-1].start_ms if alert.state == "closed" else None,
    )
    return assembled(
        alert, one, facts, cost, moved=_moved(baseline, one, then), labels=_labels(baseline, then)
    )


def assembled(
    alert: AlertView,
    one: Verdict,
    facts: Facts | None,
    cost: tuple[LossView, ...] | None,
    *,
    moved: str = "",
    labels: str = "",
) -> ExplanationView:
    """Return an explanation made of its parts.

    ``facts``: of a device's drift; ``cost``: None where it is not asked for, empty where nothing
    can be expected; ``moved``: how the feature's values are now; ``labels``: what those of the time
    say.
    """
    subject = one.subject if one.level == "fleet" else one.subject[2:]
    said = judgement.found(one, alert.message, subject)
    if moved:
        said.insert(1, moved)
    parts = [("Found", said)]
    story = None
    if facts is not None:
        story = attribution.attribute(facts)
        reach_ms = attribution.nearness(facts.window_ms)
        parts += [
            ("Since", circumstances.begun(one, story, subject)),
            ("Where", circumstances.spread(story, subject, one.feature)),
            ("What else changed", circumstances.changed(story, subject, reach_ms)),
        ]
    if cost is not None:
        began = one.figures.get("since_ms") is not None
        sentences = quality.costs([loss.sentence for loss in cost], _rows(cost), began=began)
        parts.append(("What it costs", [*sentences, *([labels] if labels else [])]))
        if cost:
            parts[-1][1].append(quality.BLIND)
    parts.append(("Judged by", judgement.judged(one, alert.id)))
    return ExplanationView(
        alert=alert,
        rule=one.rule,
        version=one.version,
        paragraphs=tuple(
            Paragraph(title=title, sentences=tuple(sentences))
            for title, sentences in parts
            if sentences
        ),
        attribution=None if story is None else _view(story),
        losses=cost or (),
        inputs=tuple(
            InputView(start_ms=i.start_ms, end_ms=i.end_ms, rows=i.rows) for i in one.inputs
        ),
        history=one.history,
    )


def _rows(cost: tuple[LossView, ...]) -> int:
    return cost[0].rows if cost else 0


def _since(
    connection: sa.Connection, baseline: Baseline, one: Verdict, since_ms: int | None
) -> Window | None:
    """Return the counts of the whole days since a drift began, or of the day that it began in."""
    if since_ms is None:
        return None
    total = Totals(baseline.layout)
    for first in (since_ms + -since_ms % DAY_MS, since_ms - since_ms % DAY_MS):
        for subject in verdict.subjects_of(one):
            days = aggregates.periods(
                connection, one.digest, subject, "day", since_ms=first, newest=_DAYS
            )
            if days:
                total.add(aggregates.total(baseline.layout, days))
        if total.rows:
            return total.window()
    return None


def _moved(baseline: Baseline, one: Verdict, then: Window | None) -> str:
    names = [feature.name for feature in baseline.layout.features]
    if then is None or one.feature not in names:
        return ""
    index = names.index(one.feature)
    feature, reference = baseline.layout.features[index], baseline.window.features[index]
    return judgement.moved(feature, reference, then.features[index])


def _labels(baseline: Baseline, then: Window | None) -> str:
    """Return what labels say of that time; "" when there are none."""
    if then is None or then.quality is None:
        return ""
    now = realised(then.quality, binary=baseline.layout.binary)
    for name, value, error in (
        ("AUC", now.auc, now.auc_se),
        ("accuracy", now.accuracy, now.accuracy_se),
        ("MAE", now.mae, now.mae_se),
    ):
        if value is not None:
            return quality.labels_say(name, value, error, now.n)
    return ""


def _view(story: Attribution) -> AttributionView:
    arrival = story.arrival
    return AttributionView(
        since_ms=story.since_ms,
        features=story.features,
        devices=story.devices,
        others=story.others,
        cohort=story.cohort,
        slices=story.slices,
        calm_slices=story.calm_slices,
        version_since_ms=arrival.first_ms if arrival else None,
        rollout=arrival.rollout if arrival else None,
        earlier=story.earlier,
        near=tuple(
            HappeningView(at_ms=one.at_ms, kind=one.kind, text=one.text) for one in story.near
        ),
    )
