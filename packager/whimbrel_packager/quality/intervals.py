"""How sure a figure is: confidence intervals of metrics, of differences, and of gaps.

Rows of one day, patient or machine resemble each other, and an interval that takes them for
independent is too narrow. Every function takes ``groups``: whole groups are then drawn, never
rows of one.

All is seeded: equal rows give equal intervals.
"""

from __future__ import annotations

import math
from statistics import NormalDist
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from whimbrel_packager.quality.metrics import Metric
    from whimbrel_packager.quality.predictions import Predictions

    Array = np.ndarray[Any, Any]

REPLICATES = 1_000
SEED = 20_130_101
_BUNDLES = 5_000
_FEWEST = 2  # groups, of which a variance can be had


class Interval(NamedTuple):
    """An estimate with its two-sided interval; NaN where there are too few rows for one."""

    value: float
    low: float
    high: float

    @property
    def ends(self) -> tuple[float, float] | None:
        """Both ends, or None when they are not known."""
        return (self.low, self.high) if math.isfinite(self.low + self.high) else None

    def turned(self, sign: int) -> Interval:
        """Return the interval times 1 or −1: turned so that more is better, or is worse."""
        low, high = sorted((self.low * sign, self.high * sign))
        return Interval(self.value * sign, low, high)


class Resamples:
    """Bootstrap resamples of n rows or of their groups, the same for every figure asked of it.

    Whole groups are drawn with replacement, as many as there are, and a figure's interval are
    quantiles of what the resamples give, corrected for their bias: Efron, "Nonparametric standard
    errors and confidence intervals", Canadian Journal of Statistics 9 (1981); with groups, the
    cluster bootstrap of Davison and Hinkley, "Bootstrap methods", 1997, ch. 3.8. (The correction
    is for figures like the calibration error: noise makes it larger in every resample, and plain
    quantiles would leave the figure itself outside.) Two models are compared on the same resamples, so
    that what is hard for both does not widen the interval of their difference.

    Args:
        rows: n.
        groups: (n,) whatever tells the groups apart; None: each row is one.
        confidence: of the two-sided intervals, e.g. .95.
        replicates: number of resamples.

    >>> right = np.array([[1.0, 1.0]] * 80 + [[0.0, 1.0]] * 20)
    >>> share = lambda sums: sums[..., 0] / sums[..., 1]
    >>> value, low, high = Resamples(100).interval(right, share)
    >>> value, 0.70 < low < 0.75, 0.85 < high < 0.90
    (0.8, True, True)
    """

    def __init__(
        self,
        rows: int,
        groups: Array | None = None,
        confidence: float = 0.95,
        replicates: int = REPLICATES,
    ) -> None:
        self.rows, self.confidence, self._replicates = rows, confidence, replicates
        self.groups = None if groups is None else np.unique(groups, return_inverse=True)[1]
        self.units = rows if self.groups is None else int(self.groups.max(initial=-1)) + 1
        self._drawn: Array | None = None

    def take(self, rows: Array) -> Resamples:
        """Return resamples of some of the rows (index or mask), in the same groups."""
        kept = np.arange(self.rows)[rows]
        groups = None if self.groups is None else self.groups[kept]
        return Resamples(len(kept), groups, self.confidence, self._replicates)

    def per_unit(self, per_row: Array) -> Array:
        """Return sums (units, k) of what every row gives (n, k)."""
        return per_row if self.groups is None else _sums(per_row, self.groups, self.units)

    def sums(self, per_row: Array) -> Array:
        """Return the sums (replicates, k) of every resample."""
        units = self.per_unit(per_row)
        count = min(self.units, _BUNDLES)
        if count < self.units:
            # Bundles of units at random vary as units do: drawing them costs less, and their
            # number keeps the interval's own error (that of a variance, √(2 / bundles)) at 2 %.
            order = np.random.default_rng(SEED).permutation(self.units) % count
            units = _sums(units, order, count)
        product: Array = self._weights(count) @ units
        return product

    def _weights(self, count: int) -> Array:
        """Return how often each of ``count`` units is drawn, (replicates, count) float64."""
        if self._drawn is None:
            generator = np.random.default_rng(SEED)
            picked = generator.integers(0, count, (self._replicates, count))
            picked += np.arange(self._replicates)[:, None] * count
            times = np.bincount(picked.ravel(), minlength=self._replicates * count)
            self._drawn = times.reshape(self._replicates, count).astype(np.float64)
        return self._drawn

    def interval(self, per_row: Array, finish: Any) -> Interval:  # noqa: ANN401 - sums → figure
        """Return a figure, ``finish`` of the sums of ``per_row`` (n, k), with its interval."""
        value = float(finish(per_row.sum(axis=0)))
        if self.units < _FEWEST or not math.isfinite(value):
            return Interval(value, math.nan, math.nan)
        return Interval(value, *self._quantiles(finish(self.sums(per_row)), value))

    def difference(self, a: Array, b: Array, finish: Any) -> Interval:  # noqa: ANN401 - as above
        """Return ``finish`` of a less that of b, on the same rows and resamples."""
        width = a.shape[1]

        def both(sums: Array) -> Array:
            less: Array = finish(sums[..., :width]) - finish(sums[..., width:])
            return less

        return self.interval(np.concatenate([a, b], axis=1), both)

    def _quantiles(self, values: Array, value: float) -> tuple[float, float]:
        known = values[np.isfinite(values)]
        if len(known) < _FEWEST:
            return math.nan, math.nan
        normal = NormalDist()
        below = float((known < value).mean() + (known == value).mean() / 2)
        rim = 1 / (len(known) + 1)
        shift = 2 * normal.inv_cdf(min(max(below, rim), 1 - rim))
        reach = normal.inv_cdf((1 + self.confidence) / 2)
        low, high = np.quantile(known, [normal.cdf(shift - reach), normal.cdf(shift + reach)])
        return min(float(low), value), max(float(high), value)


def _sums(values: Array, of: Array, count: int) -> Array:
    """Return sums (count, k) of ``values`` (n, k) by the number ``of`` (n,) each belongs to."""
    columns = [np.bincount(of, column, minlength=count) for column in values.T]
    return np.stack(columns, axis=1) if columns else np.zeros((count, 0))


class Placements(NamedTuple):
    """An area under the ROC curve with each unit's part in its error, (units,) float64."""

    auc: float
    parts: Array


def delong(score: Array, true: Array, resamples: Resamples) -> Placements:
    """Return the area under the ROC curve with what each unit adds to its error.

    The variance is ``Σ parts²``, that of a difference of two models on the same rows
    ``Σ (parts_a − parts_b)²``: DeLong, DeLong and Clarke-Pearson, Biometrics 44 (1988), by
    the ranks of Sun and Xu, IEEE Signal Processing Letters 21 (2014); with groups Obuchowski,
    Biometrics 53 (1997).

    >>> score, true = np.array([.1, .2, .6, .4, .7, .9]), np.array([0, 0, 0, 1, 1, 1], bool)
    >>> found = delong(score, true, Resamples(6))
    >>> round(found.auc, 4), round(float((found.parts ** 2).sum()), 4)
    (0.8889, 0.0247)
    """
    yes, no = score[true], score[~true]
    m, n = len(yes), len(no)
    if not m or not n:
        return Placements(math.nan, np.full(resamples.units, math.nan))
    up, down = np.sort(yes), np.sort(no)
    # The share of the other class on the right side of each row, ties half.
    of_yes = (np.searchsorted(down, yes, "left") + np.searchsorted(down, yes, "right")) / (2 * n)
    of_no = 1 - (np.searchsorted(up, no, "left") + np.searchsorted(up, no, "right")) / (2 * m)
    area = float(of_yes.mean())
    part = np.zeros((len(score), 2))
    part[true, 0] = (of_yes - area) / m
    part[~true, 1] = (of_no - area) / n
    if resamples.groups is None:
        # Each class has its own degrees of freedom.
        spread = [math.sqrt(k / (k - 1)) if k > 1 else math.nan for k in (m, n)]
        return Placements(area, (part * spread).sum(axis=1))
    units = resamples.per_unit(part).sum(axis=1)
    g = resamples.units
    return Placements(area, units * (math.sqrt(g / (g - 1)) if g > 1 else math.nan))


def of_metric(metric: Metric, predictions: Predictions, resamples: Resamples) -> Interval:
    """Return a metric with its interval: DeLong's for the AUC, else the bootstrap's."""
    if metric.name != "auc":
        return resamples.interval(metric.rows(predictions), metric.finish)
    found = _placements(predictions, resamples)
    return _normal(found.auc, found.parts, resamples.confidence, within=(0.0, 1.0))


def of_difference(metric: Metric, a: Predictions, b: Predictions, resamples: Resamples) -> Interval:
    """Return the metric of a less that of b, both on the same rows, with its interval."""
    if metric.name != "auc":
        return resamples.difference(metric.rows(a), metric.rows(b), metric.finish)
    one, other = _placements(a, resamples), _placements(b, resamples)
    return _normal(one.auc - other.auc, one.parts - other.parts, resamples.confidence, (-1.0, 1.0))


def of_gap(
    metric: Metric, predictions: Predictions, inside: Array, resamples: Resamples
) -> Interval:
    """Return the metric on the rows of a mask less that on all rows, with its interval."""
    if metric.name != "auc":
        per_row = metric.rows(predictions)
        return resamples.difference(per_row * inside[:, None], per_row, metric.finish)
    score, true = predictions.ranking, predictions.true
    if score is None:
        return Interval(math.nan, math.nan, math.nan)
    part = delong(score[inside], true[inside], resamples.take(inside))
    whole = _placements(predictions, resamples)
    parts = np.zeros(resamples.units)
    if resamples.groups is None:
        parts[inside] = part.parts
    else:
        parts[np.unique(resamples.groups[inside])] = part.parts
    return _normal(
        part.auc - whole.auc, parts - whole.parts, resamples.confidence, within=(-1.0, 1.0)
    )


def _placements(predictions: Predictions, resamples: Resamples) -> Placements:
    score = predictions.ranking
    if score is None:
        return Placements(math.nan, np.full(resamples.units, math.nan))
    return delong(score, predictions.true, resamples)


def _normal(value: float, parts: Array, confidence: float, within: tuple[float, float]) -> Interval:
    half = NormalDist().inv_cdf((1 + confidence) / 2) * math.sqrt(float((parts**2).sum()))
    if not math.isfinite(half):
        return Interval(value, math.nan, math.nan)
    least, most = within
    return Interval(value, max(value - half, least), min(value + half, most))
