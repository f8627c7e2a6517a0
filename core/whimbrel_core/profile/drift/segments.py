"""Slices judged: how each declared segment of the rows drifts, and how good the model is in it.

A slice is compared with itself in the reference, so that segments that always differed are no
drift. Evidence and effect, as everywhere: Pearson's X² over coarse cells with Benjamini–Hochberg
over all features of all slices, and the debiased PSI of the same cells.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import msgspec

from whimbrel_core.profile.drift import divergences
from whimbrel_core.profile.drift.discoveries import benjamini_hochberg
from whimbrel_core.profile.drift.levels import LEVELS, State, Thresholds
from whimbrel_core.profile.drift.report import ORDER, SliceReport, worst_of
from whimbrel_core.profile.quality.estimates import RealisedQuality, realised
from whimbrel_core.profile.quality.loss import Loss, losses

if TYPE_CHECKING:
    from collections.abc import Sequence

    from whimbrel_core.profile.baseline import Baseline
    from whimbrel_core.profile.counts import SliceCounts
    from whimbrel_core.profile.window import Window

_DEFAULT = Thresholds()
_LEAST_EXPECTED = 5  # reference rows of a bin, below which the χ² of it means little


class Moved(msgspec.Struct, frozen=True, kw_only=True):
    """How one feature of a slice lies to the slice's own reference."""

    feature: str
    psi: float
    p_value: float
    level: State


class Segment(msgspec.Struct, frozen=True, kw_only=True):
    """One slice.

    Args:
        name, condition: as declared.
        rows: rows in it; ``share`` of all, and ``usual`` in the reference.
        features: how they moved, worst first; none with too few rows.
        losses: expected quality beside the slice's own in the reference.
        realised: by labels; None without any.
    """

    name: str
    condition: str
    rows: int
    share: float
    usual: float
    features: tuple[Moved, ...] = ()
    losses: tuple[Loss, ...] = ()
    realised: RealisedQuality | None = None

    @property
    def level(self) -> State:
        """The worst of its features."""
        return worst_of(one.level for one in self.features)


class _Asked(NamedTuple):
    slice: int
    feature: str
    psi: float
    p_value: float


def segments(
    window: Window, baseline: Baseline, thresholds: Thresholds = _DEFAULT
) -> tuple[Segment, ...]:
    """Return the slices of ``window``, any merge of windows, in the layout's order."""
    layout, reference = baseline.layout, baseline.window
    asked: list[_Asked] = []
    for index, (now, then) in enumerate(zip(window.slices, reference.slices, strict=True)):
        if now.rows < thresholds.min_rows or then.rows < thresholds.min_rows:
            continue
        for feature, seen, usual in zip(layout.features, now.cells, then.cells, strict=True):
            a, b = _joined(usual, seen)
            if len(a) > 1 and sum(b) >= thresholds.min_rows:
                p_value = divergences.pearson(a, b)[1]
                effect = divergences.psi_debiased(a, b)
                asked.append(_Asked(index, feature.name, max(effect, 0.0), p_value))
    p_values = [one.p_value for one in asked]
    believed = benjamini_hochberg(p_values, thresholds.q).tolist() if p_values else []
    moved: dict[int, list[Moved]] = {}
    for one, sure in zip(asked, believed, strict=True):
        level = LEVELS[sum(one.psi >= limit for limit in thresholds.psi)] if sure else "ok"
        moved.setdefault(one.slice, []).append(
            Moved(feature=one.feature, psi=one.psi, p_value=one.p_value, level=level)
        )
    return tuple(
        Segment(
            name=declared.name,
            condition=declared.condition,
            rows=now.rows,
            share=now.rows / max(window.rows, 1),
            usual=then.rows / max(reference.rows, 1),
            features=tuple(
                sorted(
                    moved.get(index, ()),
                    key=lambda one: (-LEVELS.index(one.level), -one.psi, one.feature),
                )
            ),
            losses=_losses(now, then, baseline),
            realised=None if now.quality is None else realised(now.quality, binary=layout.binary),
        )
        for index, (declared, now, then) in enumerate(
            zip(layout.slices, window.slices, reference.slices, strict=True)
        )
    )


def seen_in(found: Sequence[Segment], feature: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the slices in which a feature has drifted, and those in which it has not.

    Both empty where they cannot tell one from another: all have it, or none.
    """
    having, lacking = [], []
    for one in found:
        level = next((f.level for f in one.features if f.feature == feature), "too_few")
        if level in {"warn", "severe"}:
            having.append(one.name)
        elif level != "too_few":
            lacking.append(one.name)
    return (tuple(having), tuple(lacking)) if having and lacking else ((), ())


def reports(
    window: Window, baseline: Baseline, thresholds: Thresholds = _DEFAULT
) -> tuple[SliceReport, ...]:
    """Return the slices of ``window`` as lines of a drift report, worst first."""
    found = []
    for one in segments(window, baseline, thresholds):
        worst = one.features[0] if one.features else None
        found.append(
            SliceReport(
                name=one.name,
                condition=one.condition,
                state=one.level,
                rows=one.rows,
                share=one.share,
                reference_share=one.usual,
                feature="" if worst is None else worst.feature,
                psi=None if worst is None else worst.psi,
            )
        )
    return tuple(
        sorted(found, key=lambda one: (-ORDER.index(one.state), -(one.psi or 0.0), one.name))
    )


def _losses(now: SliceCounts, then: SliceCounts, baseline: Baseline) -> tuple[Loss, ...]:
    if not now.scores or not then.scores:
        return ()
    return losses(now.scores, baseline, then.scores)


def _joined(reference: Sequence[int], seen: Sequence[int]) -> tuple[list[int], list[int]]:
    """Return the counts with bins of few reference rows joined to their neighbours."""
    a, b = [0], [0]
    for was, now in zip(reference, seen, strict=True):
        if a[-1] >= _LEAST_EXPECTED:
            a.append(0)
            b.append(0)
        a[-1] += int(was)
        b[-1] += int(now)
    if len(a) > 1 and a[-1] < _LEAST_EXPECTED:
        last, also = a.pop(), b.pop()
        a[-1] += last
        b[-1] += also
    return a, b
