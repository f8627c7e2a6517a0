"""The drift report of a fleet: from what the server judged, and the counts that it keeps.

Pure: views in, a `DriftReport` out. States, alarms and "since when" are the server's, which watches
each device over time; distances and drawings are of the counts behind them: of the worst device's
since its alarm (or of its newest window), and of the whole fleet where no device has moved.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import msgspec

from whimbrel_core.profile.baseline import Baseline
from whimbrel_core.profile.building.dataset import DatasetProfile, of_window
from whimbrel_core.profile.drift import segments
from whimbrel_core.profile.drift.comparing import measured
from whimbrel_core.profile.drift.judge import Judge
from whimbrel_core.profile.drift.report import (
    ORDER,
    DriftReport,
    FeatureReport,
    Place,
    Remark,
    Side,
    worst_first,
    worst_of,
)
from whimbrel_core.profile.window import decode, empty, merge

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from whimbrel_core.profile.window import Window
    from whimbrel_server.views.drift import DriftView, FeatureView
    from whimbrel_server.views.stored import StoredCountsView

DAY_MS = 86_400_000
MOST_SUBJECTS = 24  # whose counts are asked for, one question each
_MOVED = ("notice", "warn", "severe")


class Counts(NamedTuple):
    """The counts of one subject over one span."""

    baseline: Baseline
    window: Window

    def profile(self, name: str) -> DatasetProfile:
        """Return them as a profile."""
        return of_window(name, self.baseline, self.window)


def merged(view: StoredCountsView) -> Counts:
    """Return all periods of a view together.

    Raises:
        ProfileError: the counts are damaged, or of other cells.
    """
    baseline = Baseline.decode(view.baseline)
    windows = [decode(period.counts) for period in view.periods]
    if not windows:
        return Counts(baseline, empty(baseline.layout, 0, 0))
    whole = windows[0]
    for window in windows[1:]:
        whole = merge(whole, window)
    return Counts(baseline, whole)


def build(
    judged: Sequence[DriftView],
    fleet: StoredCountsView,
    ask: Callable[[str, int], StoredCountsView],
) -> DriftReport:
    """Return the report of one version.

    Args:
        judged: the newest judgement of every device and cohort, and of the fleet.
        fleet: its counts over the reported span.
        ask: returns the counts of a subject since an instant (ms).
    """
    baseline, window = merged(fleet)
    own = [view for view in judged if view.against == "baseline"]
    places: dict[str, list[tuple[DriftView, FeatureView]]] = {}
    for view in own:
        for feature in view.features:
            places.setdefault(feature.feature, []).append((view, feature))
    names = [feature.name for feature in baseline.layout.features]
    # The worst features first: it is theirs that the questions are for.
    found = {name: _places(places.get(name, [])) for name in names}
    order = sorted(names, key=lambda name: _weight(found[name]), reverse=True)
    asked: dict[tuple[str, int], tuple[FeatureReport, ...]] = {}
    whole = _judged(baseline, window, fleet)
    reports = []
    for name in order:
        focus = next((p for p in found[name] if p.level == "device" and _moved(p)), None)
        shown = next((one for one in whole if one.feature == name), None)
        said = ""
        if focus is not None:
            since = focus.since_ms or _begin(own, focus.subject)
            key = (focus.subject, since - since % DAY_MS)
            if key not in asked and len(asked) < MOST_SUBJECTS:
                counts = ask(*key)
                asked[key] = _judged(*merged(counts), counts)
            own_counts = next((one for one in asked.get(key, ()) if one.feature == name), None)
            if own_counts is not None:
                shown, said = own_counts, focus.subject
        if shown is not None:
            reports.append(_with_places(shown, found[name], said))
    return DriftReport(
        title=f"{fleet.name} {fleet.version}",
        source="fleet",
        reference=Side(name="the signed baseline", rows=baseline.window.rows),
        current=Side(
            name="devices",
            rows=window.rows,
            start_ms=window.start_ms if window.rows else None,
            end_ms=window.end_ms if window.rows else None,
        ),
        features=worst_first(reports),
        thresholds=fleet.thresholds,
        remarks=_remarks(own),
        slices=segments.reports(window, baseline, fleet.thresholds) if window.rows else (),
        subjects=_subjects(own),
        notes=() if own else ("Nothing is judged yet: windows are still to come.",),
    )


def _judged(
    baseline: Baseline, window: Window, view: StoredCountsView
) -> tuple[FeatureReport, ...]:
    """Return every feature of some counts against the baseline; none without rows."""
    if not window.rows:
        return ()
    now = of_window(view.subject, baseline, window).baseline
    drifts = Judge(baseline, thresholds=view.thresholds).judge(window)
    return tuple(
        measured(feature, (stats, before), (after_stats, after), drift)
        for feature, stats, before, after_stats, after, drift in zip(
            baseline.layout.features,
            baseline.stats,
            baseline.window.features,
            now.stats,
            window.features,
            drifts,
            strict=True,
        )
    )


def _with_places(shown: FeatureReport, places: tuple[Place, ...], subject: str) -> FeatureReport:
    devices = [one for one in places if one.level == "device"]
    judged = devices or places
    alarms = [one.since_ms for one in judged if one.alarm and one.since_ms is not None]
    evidence = [one.log_e for one in judged if one.log_e is not None]
    return msgspec.structs.replace(
        shown,
        state=worst_of(one.state for one in judged) if judged else shown.state,
        alarm=any(one.alarm for one in judged),
        since_ms=min(alarms, default=None),
        log_e=max(evidence, default=None),
        shown=subject,
        places=tuple(one for one in places if one.state not in {"ok", "too_few"}),
    )


def _places(found: Iterable[tuple[DriftView, FeatureView]]) -> tuple[Place, ...]:
    return tuple(sorted((_place(view, one) for view, one in found), key=_rank, reverse=True))


def _place(view: DriftView, one: FeatureView) -> Place:
    return Place(
        subject=view.subject,
        level=view.level,
        state=one.state,
        rows=view.rows,
        psi=one.psi,
        w1_sd=one.w1_sd,
        log_e=one.log_e,
        alarm=one.alarm,
        since_ms=one.since_ms,
    )


def _subjects(views: Iterable[DriftView]) -> tuple[tuple[str, Place], ...]:
    """Return each subject with its worst feature, worst subjects first."""
    found = []
    for view in views:
        if view.features:
            worst = max(view.features, key=lambda one: _rank(_place(view, one)))
            place = _place(view, worst)
            loss = max(view.losses, key=lambda one: one.reading == "costly", default=None)
            if loss is not None and place.state not in {"ok", "too_few"}:
                place = msgspec.structs.replace(place, cost=loss.sentence, reading=loss.reading)
            found.append((worst.feature, place))
    return tuple(sorted(found, key=lambda one: (_rank(one[1]), one[1].subject), reverse=True))


def _remarks(views: Iterable[DriftView]) -> tuple[Remark, ...]:
    """Return what is wrong with the data of devices, worst first."""
    found = [
        Remark(
            message=f"{view.subject}: {one.message}",
            state=one.level,
            feature=one.feature,
            kind=one.kind,
        )
        for view in views
        for one in view.findings
    ]
    return tuple(sorted(found, key=lambda one: -ORDER.index(one.state)))


def _rank(place: Place) -> tuple[bool, int, float]:
    return (place.alarm, ORDER.index(place.state), place.psi or 0.0)


def _weight(places: tuple[Place, ...]) -> tuple[bool, int, float]:
    return max((_rank(one) for one in places), default=(False, 0, 0.0))


def _moved(place: Place) -> bool:
    return place.alarm or place.state in _MOVED


def _begin(views: Iterable[DriftView], subject: str) -> int:
    return next(view.window_start_ms for view in views if view.subject == subject)
