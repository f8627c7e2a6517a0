"""Compare a window with a reference: how far (effect) and how sure (evidence).

Evidence: Pearson's X² on coarse bins over (1 + m/n), because the n reference rows are a sample,
too (Potgieter et al., arXiv 2307.11878); two-proportion tests for missing values and for values
never seen; Benjamini–Hochberg over all of them.

Effect: PSI on deciles less its expectation without drift, (B − 1)(1/n + 1/m); Wasserstein-1 in
baseline standard deviations; shifts of shares.

A judge does all features of one or many windows at once, with the formulas of `divergences`, which
take the counts of one feature. `grade` makes levels of what it measured.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from whimbrel_core.errors import ProfileError
from whimbrel_core.profile.drift.axis import Axis
from whimbrel_core.profile.drift.chisquare import ChiSquare
from whimbrel_core.profile.drift.divergences import two_proportions
from whimbrel_core.profile.drift.drifts import Drifts, grade, named_drifts
from whimbrel_core.profile.drift.groups import Grouping
from whimbrel_core.profile.drift.levels import Thresholds
from whimbrel_core.profile.drift.stacking import extent, stacked
from whimbrel_core.profile.flat import flatten

if TYPE_CHECKING:
    from collections.abc import Sequence

    from whimbrel_core.profile.baseline import Baseline
    from whimbrel_core.profile.drift.drifts import FeatureDrift
    from whimbrel_core.profile.drift.stacking import Extent
    from whimbrel_core.profile.window import Window

Floats = NDArray[np.float64]
Counts = NDArray[np.int64]

_EFFECT_BINS = 10
_WORD_SHARE = 0.05
# Windows that are judged together. Arrays of more leave the processor's cache, and take longer.
_AT_ONCE = 32
_FINE_ROWS = 400  # from here twenty bins hold twenty expected rows each
_TINY = float(np.finfo(float).tiny)  # its logarithm is finite, and meets a factor of zero
_LOG_2 = math.log(2.0)
_DEFAULT = Thresholds()


class Judge:
    """Judges windows against one reference; made once, used for many windows.

    Args:
        baseline: gives the cells and their means.
        reference: counts to compare with instead of the baseline's (a cohort, an earlier period).
        thresholds: what counts as evidence and effect.

    Raises:
        ProfileError: the reference belongs to another layout, or has no rows.
    """

    def __init__(
        self,
        baseline: Baseline,
        reference: Window | None = None,
        thresholds: Thresholds = _DEFAULT,
    ) -> None:
        self.layout = layout = baseline.layout
        self.thresholds = thresholds
        reference = baseline.window if reference is None else reference
        flat = flatten(reference)
        (cells,), (invalid,), _ = stacked([flat], layout)
        if not reference.rows:
            raise ProfileError("there are no reference rows to compare a window with")
        features = layout.features
        sizes = np.array([feature.cells for feature in features])
        self._starts = np.cumsum(sizes) - sizes
        self._bounds = np.append(self._starts, len(cells))
        self._feature = np.repeat(np.arange(len(features)), sizes)
        self._n = np.add.reduceat(cells, self._starts)
        self._set_effect(cells)
        self._set_evidence(cells)
        self._set_others(cells)
        self._axis = Axis(baseline, cells, extent([flat]))
        self._invalid_rate = invalid / reference.rows
        self._reference_rows = reference.rows

    def _set_effect(self, cells: Counts) -> None:
        self._effect = effect = Grouping(self.layout, cells, bins=_EFFECT_BINS, share=_WORD_SHARE)
        n = np.maximum(self._n, 1)[effect.feature]
        counts = effect.sum(cells)
        self._p_exact = counts / n
        self._p = np.maximum(counts, 0.5) / n
        self._log_p = np.log(self._p)
        self._bias_reference = (effect.bins - 1) / np.maximum(self._n, 1)
        self._noise_effect = self.thresholds.noise * np.add.reduceat(
            effect.sizes / self._p, effect.first
        )
        self._js_reference = self._p_exact * self._log_p

    def _set_evidence(self, cells: Counts) -> None:
        self._evidence = []
        for bins in (_EFFECT_BINS, 2 * _EFFECT_BINS):
            grouping = Grouping(self.layout, cells, bins=bins, share=1 / bins)
            share = np.maximum(grouping.sum(cells), 0.5) / np.maximum(self._n, 1)[grouping.feature]
            hoped = np.add.reduceat(share, grouping.first)
            # Noise on its cells widens a bin beyond chance: on average over the bins, by so much.
            wider = np.add.reduceat(grouping.sizes / share, grouping.first)
            wider *= self.thresholds.noise / np.maximum(grouping.bins - 1, 1)
            self._evidence.append((grouping, 1 / share, hoped, ChiSquare(grouping.bins - 1), wider))

    def _set_others(self, cells: Counts) -> None:
        others = [
            (index, int(self._bounds[index + 1]) - 1)
            for index, feature in enumerate(self.layout.features)
            if feature.kind != "numeric"
        ]
        self._other_feature = np.array([index for index, _ in others], np.int64)
        self._other_cell = np.array([cell for _, cell in others], np.int64)
        self._other_rate = cells[self._other_cell] / np.maximum(self._n[self._other_feature], 1)

    def judge(self, window: Window) -> tuple[FeatureDrift, ...]:
        """Return the drift of every feature, in the layout's order.

        Raises:
            ProfileError: the window belongs to another layout.
        """
        return self.judge_all([window])[0]

    def judge_all(self, windows: Sequence[Window]) -> list[tuple[FeatureDrift, ...]]:
        """Return `judge` of every window; much cheaper than one by one. Raises `ProfileError`."""
        if not windows:
            return []
        flat = [flatten(window) for window in windows]
        drifts = self.measure(*stacked(flat, self.layout), extent(flat))
        return [self.named(Drifts(*row)) for row in zip(*drifts, strict=True)]

    def named(self, row: Drifts) -> tuple[FeatureDrift, ...]:
        """Return one window's row (F,) of `Drifts` as an object per feature."""
        return named_drifts([(one.name, one.role) for one in self.layout.features], row)

    def measure(
        self,
        cells: Counts,
        invalid: Counts,
        rows: Counts,
        known: Extent | None = None,
        merged: Counts | None = None,
    ) -> Drifts:
        """Judge N windows, as arrays.

        Args:
            cells: (N, C) counts of all cells, as from `stacked`.
            invalid: (N, F) nulls and infinities.
            rows: (N,) rows of the windows.
            known: their sums and extremes, as from `extent`; None: distances from counts alone.
            merged: (N,) how many windows each is the sum of: each brought its own noise.
        """
        if len(cells) > _AT_ONCE:
            starts = range(0, len(cells), _AT_ONCE)
            parts = [
                self.measure(
                    cells[part],
                    invalid[part],
                    rows[part],
                    None if known is None else known.take(part),
                    None if merged is None else merged[part],
                )
                for part in (slice(start, start + _AT_ONCE) for start in starts)
            ]
            return Drifts(*map(np.concatenate, zip(*parts, strict=True)))
        # In integers: a running sum of floats takes seven times as long, and is not exact.
        below = _below(cells)
        m = np.diff(below.take(self._bounds, axis=-1))
        divisor = np.maximum(m, 1)
        blank = (m == 0) | (self._n == 0)
        many = np.ones((1, 1)) if merged is None else merged[:, np.newaxis]
        psi_, js_ = self._effects(below, divisor, many)
        ks_, w1_ = self._axis.distances(cells, below, known)
        p_value = self._pearson(below, m, rows, many)
        wide = rows[:, np.newaxis]
        null_rate = invalid / np.maximum(wide, 1)
        other_rate = cells[:, self._other_cell] / divisor[:, self._other_feature]
        rare_p = self._rare(null_rate, wide, other_rate, divisor)
        null_p, other_p = rare_p[:, : m.shape[1]], rare_p[:, m.shape[1] :]
        other_shift = np.zeros(m.shape)
        at = self._other_feature
        other_shift[:, at] = other_rate - self._other_rate
        p_value[:, at] = np.minimum(2 * np.minimum(p_value[:, at], other_p), 1.0)
        null_shift = null_rate - self._invalid_rate
        if blank.any():
            for distances in (psi_, js_, ks_, w1_, p_value):
                distances[blank] = np.nan
        drifts = Drifts(
            m, p_value, psi_, js_, ks_, w1_, null_rate, null_shift, null_p, other_shift,
            blank, m,
        )  # fmt: skip
        significant, level = grade(drifts, rows, self.thresholds)
        return drifts._replace(significant=significant, level=level)

    def _effects(
        self, below: Counts, divisor: Counts, merged: NDArray[Any]
    ) -> tuple[Floats, Floats]:
        effect = self._effect
        counts = effect.between(below)
        exact = counts / divisor[:, effect.feature]
        q = np.where(counts > 0, exact, 0.5 / divisor[:, effect.feature])
        log_q = np.log(q)
        terms = (q - self._p) * (log_q - self._log_p)
        psi_ = np.add.reduceat(terms, effect.first, axis=-1)
        psi_ -= self._bias_reference + (effect.bins - 1) / divisor
        if self.thresholds.noise:
            psi_ -= merged * self._noise_effect / divisor.astype(np.float64) ** 2
        # Jensen–Shannon: 0 log 0 is 0, so that the logarithm of any q serves where there is none.
        middle = (self._p_exact + exact) / 2
        log_middle = np.log(np.maximum(middle, _TINY))
        terms = (self._js_reference + exact * log_q) / 2 - middle * log_middle
        divergence = np.add.reduceat(terms, effect.first, axis=-1) / _LOG_2
        return np.maximum(psi_, 0.0), np.sqrt(np.maximum(divergence, 0.0))

    def _pearson(self, below: Counts, m: Counts, rows: Counts, merged: NDArray[Any]) -> Floats:
        fine = rows >= _FINE_ROWS
        p_value = np.empty(m.shape)
        for chosen, (grouping, inverse, hoped, chi_square, wider) in zip(
            (~fine, fine), self._evidence, strict=True
        ):
            if not chosen.any():
                continue
            every = bool(chosen.all())
            counts, of = (below, m) if every else (below[chosen], m[chosen])
            seen = grouping.between(counts).astype(np.float64)
            # Σ (seen − hoped)² / hoped = Σ seen² / hoped − 2 Σ seen + Σ hoped
            seen *= seen
            seen *= inverse
            statistic = np.add.reduceat(seen, grouping.first, axis=-1)
            statistic /= np.maximum(of, 1)
            statistic += (hoped - 2) * of
            spread = 1 + of / np.maximum(self._n, 1)
            if self.thresholds.noise:
                some = merged if every or len(merged) == 1 else merged[chosen]
                spread = spread + some * wider / np.maximum(of, 1)
            statistic /= spread
            tails = chi_square.tail(np.maximum(statistic, 0.0))
            p_value[slice(None) if every else chosen] = tails
        return p_value

    def _rare(self, null_rate: Floats, rows: Counts, other_rate: Floats, divisor: Counts) -> Floats:
        """Return p values (N, F + O) of missing and of never-seen values, tested alike."""
        at = self._other_feature
        return two_proportions(
            np.concatenate([null_rate, other_rate], axis=-1),
            np.concatenate(
                [np.broadcast_to(np.maximum(rows, 1), null_rate.shape), divisor[:, at]], axis=-1
            ),
            np.concatenate([self._invalid_rate, self._other_rate]),
            np.concatenate(
                [np.full(null_rate.shape[1], self._reference_rows), np.maximum(self._n[at], 1)]
            ),
        )


def compare(baseline: Baseline, window: Window) -> tuple[FeatureDrift, ...]:
    """Judge one ``window`` against ``baseline`` with the usual thresholds."""
    return Judge(baseline).judge(window)


def _below(cells: Counts) -> Counts:
    """Return (N, C + 1): how many rows are in all cells before each one, and before the end."""
    below = np.zeros((len(cells), cells.shape[1] + 1), np.int64)
    np.cumsum(cells, axis=-1, out=below[:, 1:])
    return below
