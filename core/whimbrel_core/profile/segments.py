"""Compare slices: in which declared segments of the rows a feature moved, worst first.

A slice counts each feature over at most ten coarse cells, deciles of *all* reference rows, so its
distances are those of the index on these cells. Evidence and effect as for features, the evidence
over all slices and features of one comparison together.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from whimbrel_core.profile.discoveries import benjamini_hochberg
from whimbrel_core.profile.divergences import pearson, psi_debiased
from whimbrel_core.profile.levels import LEVELS, State, Thresholds
from whimbrel_core.profile.report import ORDER, SliceReport

if TYPE_CHECKING:
    from collections.abc import Sequence

    from whimbrel_core.profile.layout import Layout
    from whimbrel_core.profile.window import Window

_DEFAULT = Thresholds()


def segments(
    layout: Layout, reference: Window, current: Window, thresholds: Thresholds = _DEFAULT
) -> tuple[SliceReport, ...]:
    """Return how each slice of ``current`` differs from that of ``reference``, worst first.

    Args:
        layout: of both.
        reference: counts to compare with.
        current: newer counts.
        thresholds: what counts as evidence and effect.
    """
    measured: list[tuple[int, int, float, float]] = []  # slice, feature, PSI, p
    for index, (before, after) in enumerate(zip(reference.slices, current.slices, strict=True)):
        if after.rows < thresholds.min_rows or before.rows < thresholds.min_rows:
            continue
        for at, (old, new) in enumerate(zip(before.cells, after.cells, strict=True)):
            bins = _joined(old, new)
            if len(bins) > 1 and 2 * sum(new) >= thresholds.min_rows:
                old_bins, new_bins = zip(*bins, strict=True)
                p = pearson(old_bins, new_bins)[1]
                measured.append((index, at, max(psi_debiased(old_bins, new_bins), 0.0), p))
    evident = (
        benjamini_hochberg([p for *_, p in measured], thresholds.q).tolist() if measured else []
    )
    worst: dict[int, tuple[int, float, int]] = {}  # slice → level, PSI, feature
    for (index, at, psi, _), sure in zip(measured, evident, strict=True):
        level = sum(psi >= limit for limit in thresholds.psi) if sure else 0
        worst[index] = max(worst.get(index, (0, -1.0, 0)), (level, psi, at))
    found = []
    for index, (one, before, after) in enumerate(
        zip(layout.slices, reference.slices, current.slices, strict=True)
    ):
        level, psi, at = worst.get(index, (-1, -1.0, 0))
        state: State = LEVELS[level] if index in worst else "too_few"
        found.append(
            SliceReport(
                name=one.name,
                condition=one.condition,
                state=state,
                rows=after.rows,
                share=after.rows / max(current.rows, 1),
                reference_share=before.rows / max(reference.rows, 1),
                feature=layout.features[at].name if index in worst else "",
                psi=psi if index in worst else None,
            )
        )
    return tuple(
        sorted(found, key=lambda one: (-ORDER.index(one.state), -(one.psi or 0.0), one.name))
    )


def _joined(old: Sequence[int], new: Sequence[int]) -> list[tuple[int, int]]:
    """Return pairs of counts, cells that the reference's slice never had joined to a neighbour."""
    bins: list[tuple[int, int]] = []
    waiting = 0
    for before, after in zip(old, new, strict=True):
        if before:
            bins.append((before, after + waiting))
            waiting = 0
        elif bins:
            bins[-1] = (bins[-1][0], bins[-1][1] + after)
        else:
            waiting += after
    return bins
