"""The chi-square distribution's upper tail, without SciPy.

For k degrees of freedom and h = x/2 it is a finite sum of positive terms, so that even tiny
probabilities keep their relative accuracy (Abramowitz & Stegun 26.4.4, 26.4.5):

- even k: Q = e^−h Σ_{j<k/2} h^j / j!
- odd k:  Q = erfc(√h) + e^−h Σ_{1≤j≤(k−1)/2} h^(j−1/2) / Γ(j+1/2)
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
# Beyond it e^−h would leave float64; such a tail, below 1e-250 for up to 60 degrees, stays there.
_MAX_HALF = 700.0


class ChiSquare:
    """Upper tails of a row of chi-square variables, each with its own degrees of freedom.

    Args:
        degrees: (F,) degrees of freedom, 0 or more; with 0 the tail is 1.
    """

    __slots__ = ("_even", "_inverse", "_odd", "_start", "_zero")

    def __init__(self, degrees: NDArray[np.int64]) -> None:
        # Each term is the one before times h / divisor; the first is 1 (even k) or √h / Γ(3/2).
        terms = max(int(degrees.max(initial=0)) // 2, 1)
        j = np.arange(1, terms)
        odd = degrees % 2 == 1
        divisors = j + 0.5 * odd[:, np.newaxis]
        self._inverse = np.where(j < (degrees // 2)[:, np.newaxis], 1 / divisors, 0.0)
        self._start = np.where(degrees > 1, np.where(odd, 1 / math.gamma(1.5), 1.0), 0.0)
        self._even = ~odd
        self._odd = np.flatnonzero(odd)
        self._zero = np.flatnonzero(degrees == 0)

    def tail(self, x: Floats) -> Floats:
        """Return (…, F) P(X ≥ x) for ``x`` (…, F), each at least 0."""
        half = np.minimum(x / 2, _MAX_HALF)
        root = np.sqrt(half)
        terms = np.empty((*x.shape, self._inverse.shape[1] + 1))
        terms[..., 0] = np.where(self._even, 1.0, root) * self._start
        np.multiply(half[..., np.newaxis], self._inverse, out=terms[..., 1:])
        np.multiply.accumulate(terms, axis=-1, out=terms)
        tails: Floats = terms.sum(axis=-1) * np.exp(-half)
        if len(self._odd):
            tails[..., self._odd] += erfc(root[..., self._odd])
        if len(self._zero):
            tails[..., self._zero] = 1.0
        return tails


def erfc(x: Floats) -> Floats:
    """Return the complementary error function of every number of ``x``."""
    return np.array([math.erfc(number) for number in x.ravel().tolist()]).reshape(x.shape)


def chi2_tail(x: float, degrees: int) -> float:
    """Return P(X ≥ x) for a chi-square variable.

    >>> round(chi2_tail(3.841458820694124, 1), 6)
    0.05
    """
    return float(ChiSquare(np.array([degrees])).tail(np.array([x], float))[0])
