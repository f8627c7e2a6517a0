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
_MAX_HALF = 700.0  # beyond it a tail is below 1e-300, and e^−h would leave float64


class ChiSquare:
    """Upper tails of a row of chi-square variables, each with its own degrees of freedom.

    Args:
        degrees: (F,) degrees of freedom, 0 or more; with 0 the tail is 1.
    """

    __slots__ = ("_coefficients", "_odd", "_powers", "_zero")

    def __init__(self, degrees: NDArray[np.int64]) -> None:
        terms = max(int(degrees.max(initial=0)) // 2, 1)
        self._powers = np.zeros((len(degrees), terms))
        self._coefficients = np.zeros((len(degrees), terms))
        self._odd = np.flatnonzero(degrees % 2 == 1)
        self._zero = np.flatnonzero(degrees == 0)
        for row, k in enumerate(degrees.tolist()):
            for j in range(k // 2):
                power = float(j) if k % 2 == 0 else j + 0.5
                self._powers[row, j] = power
                self._coefficients[row, j] = 1 / math.gamma(power + 1)

    def tail(self, x: Floats) -> Floats:
        """Return (F,) P(X ≥ x) for ``x`` (F,), each at least 0."""
        half = np.minimum(x / 2, _MAX_HALF)
        sums = (np.power(half[:, np.newaxis], self._powers) * self._coefficients).sum(axis=1)
        tails: Floats = sums * np.exp(-half)
        if len(self._odd):
            tails[self._odd] += [math.erfc(root) for root in np.sqrt(half[self._odd]).tolist()]
        if len(self._zero):
            tails[self._zero] = 1.0
        return tails


def chi2_tail(x: float, degrees: int) -> float:
    """Return P(X ≥ x) for a chi-square variable.

    >>> round(chi2_tail(3.841458820694124, 1), 6)
    0.05
    """
    return float(ChiSquare(np.array([degrees])).tail(np.array([x], float))[0])
