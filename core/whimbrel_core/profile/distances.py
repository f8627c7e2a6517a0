"""Compare a window with a reference: how far (effect) and how sure (evidence).

A drift is told only when there are both. Evidence alone calls a shift of .03 standard deviations
in a window of 50,000 rows a drift; effect alone calls every small window one.

Evidence: Pearson's X² on coarse bins over (1 + m/n), because the n reference rows are a sample,
too (Potgieter et al., arXiv 2307.11878); two-proportion tests for missing values and for values
never seen; Benjamini–Hochberg over all of them.

Effect: PSI on deciles less its expectation without drift, (B − 1)(1/n + 1/m); Wasserstein-1 in
baseline standard deviations; shifts of shares.

The functions take counts of one feature; `Judge` does all features of a window at once.
"""

from __future__ import annotations

import math
from itertools import chain
from typing import TYPE_CHECKING, NamedTuple

import msgspec
import numpy as np
from numpy.typing import ArrayLike, NDArray

from whimbrel_core.errors import ProfileError
from whimbrel_core.profile.chisquare import ChiSquare, chi2_tail
from whimbrel_core.profile.groups import Grouping
from whimbrel_core.profile.layout import Role
from whimbrel_core.profile.levels import LEVELS, State, Thresholds
from whimbrel_core.profile.window import Window, require_fit

if TYPE_CHECKING:
    from whimbrel_core.profile.baseline import Baseline

Floats = NDArray[np.float64]
Counts = NDArray[np.int64]

_EFFECT_BINS = 10
_WORD_SHARE = 0.05
_FINE_ROWS = 400  # from here twenty bins hold twenty expected rows each
_DEFAULT = Thresholds()


def psi(reference: ArrayLike, window: ArrayLike) -> float:
    """Return the population stability index Σ (q − p) ln(q / p) of two rows of counts.

    An empty bin counts as half a row, so that the index is finite.
    """
    p, q = _shares(reference), _shares(window)
    return float(((q - p) * np.log(q / p)).sum())


def psi_debiased(reference: ArrayLike, window: ArrayLike) -> float:
    """Return PSI less what two samples of one distribution have on average; may be negative."""
    n, m = np.sum(reference), np.sum(window)
    bins = np.size(reference)
    return psi(reference, window) - (bins - 1) * (1 / n + 1 / m)


def js(reference: ArrayLike, window: ArrayLike) -> float:
    """Return the Jensen–Shannon distance (root of the divergence, base 2) of two rows of counts."""
    p = np.asarray(reference, float) / np.sum(reference)
    q = np.asarray(window, float) / np.sum(window)
    return float(math.sqrt(max(_js_terms(p, q).sum(), 0.0)))


def ks(reference: ArrayLike, window: ArrayLike) -> float:
    """Return the largest difference of the two distribution functions at the cells' edges."""
    return float(np.abs(_cdf_differences(reference, window)).max())


def w1(reference: ArrayLike, window: ArrayLike, cell_means: ArrayLike, sd: float) -> float:
    """Return the Wasserstein-1 distance over ``sd``, with every row at its cell's mean."""
    gaps = np.diff(np.asarray(cell_means, float))
    return float((np.abs(_cdf_differences(reference, window))[:-1] * gaps).sum() / sd)


def pearson(reference: ArrayLike, window: ArrayLike) -> tuple[float, float]:
    """Return X² / (1 + m/n) of ``window`` (m rows) against ``reference`` (n rows), and its p value.

    Bins without reference rows must have been joined with others before.
    """
    counts, seen = np.asarray(reference, float), np.asarray(window, float)
    n, m = counts.sum(), seen.sum()
    hoped = counts * (m / n)
    statistic = float(((seen - hoped) ** 2 / hoped).sum() / (1 + m / n))
    return statistic, chi2_tail(statistic, np.size(counts) - 1)


def benjamini_hochberg(p_values: ArrayLike, q: float) -> NDArray[np.bool_]:
    """Return which hypotheses to reject so that at most a share ``q`` of them is expected false."""
    p = np.asarray(p_values, float)
    order = np.argsort(p)
    passed = np.flatnonzero(p[order] <= q * np.arange(1, p.size + 1) / p.size)
    rejected = np.zeros(p.size, bool)
    if passed.size:
        rejected[order[: passed[-1] + 1]] = True
    return rejected


class FeatureDrift(msgspec.Struct, frozen=True, kw_only=True):
    """How one feature of a window differs from the reference. Distances are None without rows.

    Args:
        feature: name.
        role: input or output.
        rows: finite values (or words) of the window.
        p_value: evidence that the distribution changed: Pearson's X² on coarse bins; for values
            and words twice the smaller of it and of the test of never-seen ones.
        psi: population stability index on deciles (or words), debiased, at least 0.
        js: Jensen–Shannon distance on the same bins, base 2, 0 to 1.
        ks: Kolmogorov–Smirnov distance; None for words.
        w1_sd: Wasserstein-1 distance in baseline standard deviations; None for words.
        null_rate: share of missing or infinite values in the window.
        null_shift: that share less the reference's.
        null_p_value: of the two-proportion test of it.
        other_shift: share of never-seen values or words less the reference's; 0 for numeric.
        significant: whether evidence holds at the false discovery rate over all features.
        state: "too_few", or the effect's level where there is evidence of it, else "ok".
    """

    feature: str
    role: Role
    rows: int
    p_value: float | None
    psi: float | None
    js: float | None
    ks: float | None
    w1_sd: float | None
    null_rate: float
    null_shift: float
    null_p_value: float
    other_shift: float
    significant: bool
    state: State


class Drifts(NamedTuple):
    """What `Judge.measure` finds, as arrays (F,) in the layout's order. NaN: does not apply."""

    rows: Counts
    p_value: Floats
    psi: Floats
    js: Floats
    ks: Floats
    w1_sd: Floats
    null_rate: Floats
    null_shift: Floats
    null_p_value: Floats
    other_shift: Floats
    significant: NDArray[np.bool_]
    level: NDArray[np.int64]  # index into LEVELS; −1: too few rows


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
        require_fit(reference, layout)
        if not reference.rows:
            raise ProfileError("there are no reference rows to compare a window with")
        features = layout.features
        sizes = np.array([feature.cells for feature in features])
        self._starts = np.cumsum(sizes) - sizes
        self._feature = np.repeat(np.arange(len(features)), sizes)
        cells, invalid = flat(reference)
        self._n = np.add.reduceat(cells, self._starts)
        self._known = self._n > 0
        self._set_effect(cells)
        self._set_evidence(cells)
        self._set_axis(baseline, cells)
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

    def _set_evidence(self, cells: Counts) -> None:
        self._evidence = []
        for bins in (_EFFECT_BINS, 2 * _EFFECT_BINS):
            grouping = Grouping(self.layout, cells, bins=bins, share=1 / bins)
            share = np.maximum(grouping.sum(cells), 0.5) / np.maximum(self._n, 1)[grouping.feature]
            self._evidence.append((grouping, share, ChiSquare(grouping.bins - 1)))

    def _set_axis(self, baseline: Baseline, cells: Counts) -> None:
        """Prepare distances along the axis: words have none, and never-seen values no place on it."""
        features = self.layout.features
        placed = np.ones(len(cells))
        gaps = np.zeros(len(cells))
        scales = np.ones(len(features))
        others = []
        for index, (feature, stats) in enumerate(zip(features, baseline.stats, strict=True)):
            start = int(self._starts[index])
            stop = start + feature.cells
            if feature.kind == "categorical":
                placed[start:stop] = 0
            else:
                last = stop - 1 if feature.kind == "discrete" else stop
                placed[last:stop] = 0
                gaps[start : last - 1] = np.diff(stats.cell_means[: last - start])
                scales[index] = stats.sd or 1.0
            if feature.kind != "numeric":
                others.append((index, stop - 1))
        self._placed = placed
        self._gaps = gaps / scales[self._feature]
        on_axis = cells * placed
        n = np.add.reduceat(on_axis, self._starts)
        self._on_axis = n > 0
        self._axis_p = on_axis / np.maximum(n, 1)[self._feature]
        self._numeric = not others
        self._other_feature = np.array([index for index, _ in others], np.int64)
        self._other_cell = np.array([cell for _, cell in others], np.int64)
        self._other_rate = cells[self._other_cell] / np.maximum(self._n[self._other_feature], 1)

    def judge(self, window: Window) -> tuple[FeatureDrift, ...]:
        """Return the drift of every feature, in the layout's order.

        Raises:
            ProfileError: the window belongs to another layout.
        """
        require_fit(window, self.layout)
        drifts = self.measure(*flat(window), window.rows)
        names = ("too_few", *LEVELS)
        found = []
        for feature, row in zip(
            self.layout.features,
            zip(*(column.tolist() for column in drifts), strict=True),
            strict=True,
        ):
            one = Drifts(*row)
            found.append(
                FeatureDrift(
                    feature=feature.name,
                    role=feature.role,
                    rows=one.rows,
                    p_value=_known(one.p_value),
                    psi=_known(one.psi),
                    js=_known(one.js),
                    ks=_known(one.ks),
                    w1_sd=_known(one.w1_sd),
                    null_rate=one.null_rate,
                    null_shift=one.null_shift,
                    null_p_value=one.null_p_value,
                    other_shift=one.other_shift,
                    significant=one.significant,
                    state=names[one.level + 1],
                )
            )
        return tuple(found)

    def measure(self, cells: Counts, invalid: Counts, rows: int) -> Drifts:
        """Return the same as arrays.

        Args:
            cells: (C,) counts of all cells, as from `flat`.
            invalid: (F,) nulls and infinities.
            rows: rows of the window.
        """
        m = np.add.reduceat(cells, self._starts)
        blank = ~((m > 0) & self._known)
        divisor = np.maximum(m, 1)
        psi_, js_ = self._effects(cells, divisor)
        ks_, w1_ = self._axis_distances(cells)
        p_value = self._pearson(cells, m)
        other_shift = np.zeros(len(m))
        if not self._numeric:
            at = self._other_feature
            rate = cells[self._other_cell] / divisor[at]
            other_shift[at] = rate - self._other_rate
            other_p = _two_proportions(rate, divisor[at], self._other_rate, self._n[at])
            p_value[at] = np.minimum(2 * np.minimum(p_value[at], other_p), 1.0)
        null_rate = invalid / max(rows, 1)
        null_shift = null_rate - self._invalid_rate
        null_p = _two_proportions(null_rate, rows, self._invalid_rate, self._reference_rows)
        # A feature may lack some of the window's rows; ten bins want fifty.
        few = (2 * m < self.thresholds.min_rows) | blank
        tested = np.concatenate([np.where(few, 1.0, p_value), null_p])
        if rows < self.thresholds.min_rows:
            tested[:] = 1.0
        evident = benjamini_hochberg(tested, self.thresholds.q).reshape(2, -1)
        level = self._levels(psi_, w1_, other_shift, null_shift, evident)
        level[(few & (level == 0)) | (rows < self.thresholds.min_rows)] = -1
        for distances in (psi_, js_, ks_, w1_, p_value):
            distances[blank] = np.nan
        return Drifts(
            m, p_value, psi_, js_, ks_, w1_, null_rate, null_shift, null_p, other_shift,
            evident.any(axis=0), level,
        )  # fmt: skip

    def _effects(self, cells: Counts, divisor: Counts) -> tuple[Floats, Floats]:
        effect = self._effect
        counts = effect.sum(cells)
        m = divisor[effect.feature]
        q = np.maximum(counts, 0.5) / m
        psi_ = np.add.reduceat((q - self._p) * (np.log(q) - self._log_p), effect.first)
        psi_ -= self._bias_reference + (effect.bins - 1) / divisor
        divergence = np.add.reduceat(_js_terms(self._p_exact, counts / m), effect.first)
        return np.maximum(psi_, 0.0), np.sqrt(np.maximum(divergence, 0.0))

    def _axis_distances(self, cells: Counts) -> tuple[Floats, Floats]:
        placed = cells * self._placed
        m = np.add.reduceat(placed, self._starts)
        usable = (m > 0) & self._on_axis
        weight = usable / np.maximum(m, 1)
        p = self._axis_p if usable.all() else self._axis_p * usable[self._feature]
        # Shares of each feature add up to one on both sides, so a running sum over all features
        # is back at zero where the next one begins.
        difference = np.abs(np.cumsum(placed * weight[self._feature] - p))
        ks_ = np.maximum.reduceat(difference, self._starts)
        w1_ = np.add.reduceat(difference * self._gaps, self._starts)
        ks_[~usable] = np.nan
        w1_[~usable] = np.nan
        return ks_, w1_

    def _pearson(self, cells: Counts, m: Counts) -> Floats:
        smallest = int(m.min(initial=0, where=m > 0)) if not m.all() else int(m.min())
        grouping, share, chi_square = self._evidence[smallest >= _FINE_ROWS]
        hoped = share * np.maximum(m, 1)[grouping.feature]
        terms = (grouping.sum(cells) - hoped) ** 2 / hoped
        statistic = np.add.reduceat(terms, grouping.first) / (1 + m / np.maximum(self._n, 1))
        return chi_square.tail(statistic)

    def _levels(
        self,
        psi_: Floats,
        w1_: Floats,
        other_shift: Floats,
        null_shift: Floats,
        evident: NDArray[np.bool_],
    ) -> NDArray[np.int64]:
        limits = self.thresholds
        shape = np.searchsorted(limits.psi, psi_, "right")
        with np.errstate(invalid="ignore"):
            far = np.where(np.isnan(w1_), 0, np.searchsorted(limits.w1_sd, w1_, "right"))
        unseen = np.searchsorted(limits.rate, other_shift, "right")
        missing = np.searchsorted(limits.rate, np.abs(null_shift), "right")
        level: NDArray[np.int64] = np.maximum(
            np.maximum(np.maximum(shape, far), unseen) * evident[0], missing * evident[1]
        )
        return level


def compare(baseline: Baseline, window: Window) -> tuple[FeatureDrift, ...]:
    """Judge one ``window`` against ``baseline`` with the usual thresholds."""
    return Judge(baseline).judge(window)


def flat(window: Window) -> tuple[Counts, Counts]:
    """Return a window's cells (C,) and its nulls and infinities (F,) as arrays."""
    cells = np.fromiter(chain.from_iterable(f.cells for f in window.features), np.int64)
    return cells, np.array([feature.invalid for feature in window.features], np.int64)


def _shares(counts: ArrayLike) -> Floats:
    array = np.asarray(counts, float)
    shares: Floats = np.maximum(array, 0.5) / array.sum()
    return shares


def _js_terms(p: Floats, q: Floats) -> Floats:
    """Return the terms of the Jensen–Shannon divergence, base 2; 0 log 0 is 0."""
    middle = (p + q) / 2
    tiny = np.finfo(float).tiny  # its logarithm is finite, and meets a factor of zero
    logs = p * np.log2(np.maximum(p, tiny)) + q * np.log2(np.maximum(q, tiny))
    terms: Floats = logs / 2 - middle * np.log2(np.maximum(middle, tiny))
    return terms


def _cdf_differences(reference: ArrayLike, window: ArrayLike) -> Floats:
    p, q = np.asarray(reference, float), np.asarray(window, float)
    differences: Floats = np.cumsum(q / q.sum() - p / p.sum())
    return differences


def _two_proportions(rate: Floats, m: Counts | int, reference: Floats, n: Counts | int) -> Floats:
    """Return two-sided p values for equal shares: pooled variance, continuity corrected."""
    m, n = np.maximum(m, 1), np.maximum(n, 1)
    pooled = (rate * m + reference * n) / (m + n)
    step = 1 / m + 1 / n
    error = np.sqrt(pooled * (1 - pooled) * step)
    excess = np.maximum(np.abs(rate - reference) - step / 2, 0.0)
    z = np.divide(excess, error, out=np.zeros_like(rate), where=error > 0)
    return np.array([math.erfc(value) for value in (z / math.sqrt(2)).tolist()])


def _known(number: float) -> float | None:
    return None if math.isnan(number) else number
