"""Compare two data sets: every feature of the reference, and what only one of them has.

Evidence and effect are those of drift (`whimbrel_core.profile.drift.judge`): same distances, same
thresholds, same words.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from whimbrel_core.profile.building.dataset import unseen
from whimbrel_core.profile.building.projection import project
from whimbrel_core.profile.drift import segments
from whimbrel_core.profile.drift.findings import findings
from whimbrel_core.profile.drift.judge import Judge
from whimbrel_core.profile.drift.levels import Thresholds
from whimbrel_core.profile.drift.report import (
    Distribution,
    DriftReport,
    FeatureReport,
    Problem,
    Remark,
    Side,
    worst_first,
)
from whimbrel_core.profile.drift.shift import shifts

if TYPE_CHECKING:
    from collections.abc import Iterator

    from whimbrel_core.profile.baseline import Baseline, FeatureStats
    from whimbrel_core.profile.building.dataset import DatasetProfile
    from whimbrel_core.profile.counts import FeatureCounts
    from whimbrel_core.profile.drift.drifts import FeatureDrift
    from whimbrel_core.profile.feature import Feature

_DEFAULT = Thresholds()


def compare(
    reference: DatasetProfile, current: DatasetProfile, thresholds: Thresholds = _DEFAULT
) -> DriftReport:
    """Return how ``current`` differs from ``reference``.

    Profiles of equal cells are compared exactly. Others are told in the reference's cells first,
    which moves distances by about .005 (`whimbrel_core.profile.building.projection`).
    """
    a, b = reference.baseline, current.baseline
    same = a.profile_id == b.profile_id
    drifts = Judge(a, thresholds=thresholds).judge(b.window) if same else shifts(a, b, thresholds)
    notes = [f"{p.name}: {note}" for p in (reference, current) for note in p.notes]
    estimated = reference.coarse or current.coarse
    if estimated:
        notes.append(
            "One side is an estimate from another tool's summary: read its distances as rough."
        )
    return DriftReport(
        title=f"{current.name} against {reference.name}",
        reference=_side(reference),
        current=_side(current),
        features=worst_first([*_shared(reference, current, drifts), *_fresh(reference, current)]),
        thresholds=thresholds,
        remarks=_remarks(reference, current, thresholds) if same else (),
        slices=segments.reports(b.window, a, thresholds) if same else (),
        exact=same and not estimated,
        notes=tuple(notes),
    )


def _remarks(
    reference: DatasetProfile, current: DatasetProfile, thresholds: Thresholds
) -> tuple[Remark, ...]:
    """Return what is wrong with the newer data; of columns that are not there nothing more is said."""
    beside = {*current.absent, *current.unlike, *reference.absent, *reference.unlike}
    return tuple(
        Remark(message=one.message, state=one.level, feature=one.feature, kind=one.kind)
        for one in findings(current.baseline.window, reference.baseline, thresholds)
        if one.feature not in beside
    )


def _shared(
    reference: DatasetProfile, current: DatasetProfile, drifts: tuple[FeatureDrift, ...]
) -> Iterator[FeatureReport]:
    """Yield the features of the reference."""
    a, b = reference.baseline, current.baseline
    judged = {(one.role, one.feature): one for one in drifts}
    described = {one.name for one in a.layout.descriptors}
    theirs = {(f.role, f.name): i for i, f in enumerate(b.layout.features)}
    for i, feature in enumerate(a.layout.features):
        key = (feature.role, feature.name)
        j = theirs.get(key)
        # A table of inputs has no answers, and none of what a device computes of an image.
        real = feature.role == "input" and feature.tensor not in described
        if feature.name in reference.absent:
            if real and j is not None and feature.name not in current.absent:
                yield _odd(feature, "new", f"{reference.name} has no such column")
        elif j is None or feature.name in current.absent:
            if real:
                yield _odd(feature, "gone", f"{current.name} has no such column")
        elif found := reference.unlike.get(feature.name) or current.unlike.get(feature.name):
            yield _odd(feature, "type", found)
        elif key in judged:
            yield _compared((a, i), (b, j), judged[key])
        else:
            became = b.layout.features[j].kind
            yield _odd(feature, "type", f"{feature.kind} values became {became} ones")


def _fresh(reference: DatasetProfile, current: DatasetProfile) -> Iterator[FeatureReport]:
    """Yield the columns that the reference does not have."""
    known = {f.name for f in reference.baseline.layout.features} | set(reference.new)
    more = [f.name for f in current.baseline.layout.features]
    for name in dict.fromkeys([*current.new, *more]):
        if name not in known:
            yield FeatureReport(
                feature=name,
                role="input",
                state="notice",
                problem="new",
                detail=f"{reference.name} has no such column",
            )


def _odd(feature: Feature, problem: Problem, detail: str) -> FeatureReport:
    return FeatureReport(
        feature=feature.name,
        role=feature.role,
        kind=feature.kind,
        unit=feature.unit,
        state="notice" if problem == "new" else "severe",
        problem=problem,
        detail=detail,
    )


def _compared(
    before: tuple[Baseline, int], after: tuple[Baseline, int], drift: FeatureDrift
) -> FeatureReport:
    (a, i), (b, j) = before, after
    feature, stats = a.layout.features[i], a.stats[i]
    other = b.layout.features[j]
    counts = b.window.features[j]
    own = a.window.features[i]
    placed = counts
    if other != feature:
        told = project(counts, other, b.stats[j], feature)
        if told is None:  # judged the other way round, and drawn so
            back = project(own, feature, stats, other)
            own, placed, feature = back or own, counts, other if back else feature
        else:
            placed = told
    return measured(feature, (stats, own), (b.stats[j], placed), drift)


def measured(
    feature: Feature,
    before: tuple[FeatureStats, FeatureCounts],
    after: tuple[FeatureStats, FeatureCounts],
    drift: FeatureDrift,
) -> FeatureReport:
    """Return a judged feature with what of it changed.

    Args:
        feature: whose cells both sides are counted in.
        before: moments and counts of the reference.
        after: those of the newer rows.
        drift: as judged.
    """
    (stats, reference), (now, current) = before, after
    shares = [_shares(reference), _shares(current)]
    names = feature.cell_names()
    moved = None
    if feature.kind != "numeric" and current.finite and reference.finite:
        most = max(range(len(names)), key=lambda k: abs(shares[1][k] - shares[0][k]))
        moved = (names[most], shares[0][most], shares[1][most])
    return FeatureReport(
        feature=feature.name,
        role=feature.role,
        kind=feature.kind,
        unit=feature.unit,
        state=drift.state,
        rows=drift.rows,
        p_value=drift.p_value,
        significant=drift.significant,
        psi=drift.psi,
        js=drift.js,
        ks=drift.ks,
        w1_sd=drift.w1_sd,
        null_rate=drift.null_rate,
        reference_null_rate=stats.null_rate,
        unseen_rate=unseen(feature, stats, current),
        reference_unseen_rate=unseen(feature, stats, reference),
        mean=now.mean,
        reference_mean=stats.mean,
        sd=now.sd,
        reference_sd=stats.sd,
        moved=moved,
        distribution=Distribution(names, shares[0], shares[1], feature.edges),
    )


def _shares(counts: FeatureCounts) -> tuple[float, ...]:
    total = max(counts.finite, 1)
    return tuple(count / total for count in counts.cells)


def _side(profile: DatasetProfile) -> Side:
    window = profile.baseline.window
    timed = window.end_ms > 0
    return Side(
        name=profile.name,
        rows=window.rows,
        start_ms=window.start_ms if timed else None,
        end_ms=window.end_ms if timed else None,
    )
