"""Distances between two rows of counts of one feature, and tests of their equality."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

from whimbrel_core.profile.drift.chisquare import chi2_tail, erfc

Floats = NDArray[np.float64]
Counts = NDArray[np.int64]


def psi(reference: ArrayLike, window: ArrayLike) -> float:
    """Return the population stability index Σ (q − p) ln(q / p) of two rows of counts.

    An empty bin counts as half a row, so that the index is finite.

    >>> round(psi([250, 250, 250, 250], [400, 300, 200, 100]), 6)
    0.228217
    """
    p, q = _shares(reference), _shares(window)
    return float(((q - p) * np.log(q / p)).sum())


def psi_debiased(reference: ArrayLike, window: ArrayLike) -> float:
    """Return PSI less what two samples of one distribution have on average; may be negative."""
    n, m = np.sum(reference), np.sum(window)
    bins = np.size(reference)
    return psi(reference, window) - float((bins - 1) * (1 / n + 1 / m))


def js(reference: ArrayLike, window: ArrayLike) -> float:
    """Return the Jensen–Shannon distance (root of the divergence, base 2) of two rows of counts.

    >>> js([1, 0], [0, 1]), js([1, 3], [2, 6])
    (1.0, 0.0)
    """
    p = np.asarray(reference, float) / np.sum(reference)
    q = np.asarray(window, float) / np.sum(window)
    return float(math.sqrt(max(js_terms(p, q).sum(), 0.0)))


def ks(reference: ArrayLike, window: ArrayLike) -> float:
    """Return the largest difference of the two distribution functions at the cells' edges.

    >>> ks([2, 2, 4], [4, 2, 2])
    0.25
    """
    return float(np.abs(_cdf_differences(reference, window)).max())


def w1(reference: ArrayLike, window: ArrayLike, cell_means: ArrayLike, sd: float) -> float:
    """Return the Wasserstein-1 distance over ``sd``, with every row at its cell's mean.

    >>> w1([10, 0], [0, 10], [1.0, 4.0], sd=2.0)
    1.5
    """
    gaps = np.diff(np.asarray(cell_means, float))
    return float((np.abs(_cdf_differences(reference, window))[:-1] * gaps).sum() / sd)


def pearson(reference: ArrayLike, window: ArrayLike) -> tuple[float, float]:
    """Return X² / (1 + m/n) of ``window`` (m rows) against ``reference`` (n rows), and its p value.

    Bins without reference rows must have been joined with others before.

    >>> statistic, p_value = pearson([5000, 5000], [60, 40])
    >>> round(statistic, 4), round(p_value, 4)
    (3.9604, 0.0466)
    """
    counts, seen = np.asarray(reference, float), np.asarray(window, float)
    n, m = counts.sum(), seen.sum()
    hoped = counts * (m / n)
    statistic = float(((seen - hoped) ** 2 / hoped).sum() / (1 + m / n))
    return statistic, chi2_tail(statistic, np.size(counts) - 1)


def _shares(counts: ArrayLike) -> Floats:
    array = np.asarray(counts, float)
    shares: Floats = np.maximum(array, 0.5) / array.sum()
    return shares


def js_terms(p: Floats, q: Floats) -> Floats:
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


def two_proportions(rate: Floats, m: Counts, reference: Floats, n: Counts) -> Floats:
    """Return two-sided p values for equal shares: pooled variance, continuity corrected."""
    pooled = (rate * m + reference * n) / (m + n)
    step = 1 / m + 1 / n
    error = np.sqrt(pooled * (1 - pooled) * step)
    excess = np.maximum(np.abs(rate - reference) - step / 2, 0.0)
    z = np.divide(excess, error, out=np.zeros_like(rate), where=error > 0)
    return erfc(z / math.sqrt(2))
