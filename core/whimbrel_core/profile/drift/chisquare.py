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

    __slots__ = ("_coefficients", "_odd", "_scale", "_zero")

    def __init__(self, degrees: NDArray[np.int64]) -> None:
        # Both sums are polynomials in h, each coefficient the one before over j or j + 1/2; of odd
        # degrees times √h / Γ(3/2), because that is their first term.
        terms = max(int(degrees.max(initial=0)) // 2, 1)
        j = np.arange(1, terms)[:, np.newaxis]
        odd = degrees % 2 == 1
        ratios = np.where(j < degrees // 2, 1 / (j + 0.5 * odd), 0.0)
        first = np.where(degrees > 1, 1.0, 0.0)[np.newaxis]
        #: (terms, F), of the highest power first
        self._coefficients = np.cumprod(np.concatenate([first, ratios]), axis=0)[::-1]
        self._scale = np.where(odd, 1 / math.gamma(1.5), 1.0)
        self._odd = np.flatnonzero(odd)
        self._zero = np.flatnonzero(degrees == 0)

    def tail(self, x: Floats) -> Floats:
        """Return (…, F) P(X ≥ x) for ``x`` (…, F), each at least 0."""
        half = np.minimum(x / 2, _MAX_HALF)
        root = np.sqrt(half)
        tails = np.zeros(x.shape)
        for coefficient in self._coefficients:
            tails *= half
            tails += coefficient
        tails *= np.exp(-half)
        if len(self._odd):
            odd = root[..., self._odd]
            tails[..., self._odd] *= odd * self._scale[self._odd]
            tails[..., self._odd] += erfc(odd)
        if len(self._zero):
            tails[..., self._zero] = 1.0
        return tails


def erfc(x: Floats) -> Floats:
    """Return the complementary error function of every number of ``x``."""
    found = np.ones(x.shape)
    # Most are of shares that are as they were, exactly: nothing is missing, nothing unknown.
    other = x != 0
    found[other] = [math.erfc(number) for number in x[other].tolist()]
    return found


def chi2_tail(x: float, degrees: int) -> float:
    """Return P(X ≥ x) for a chi-square variable.

    >>> round(chi2_tail(3.841458820694124, 1), 6)
    0.05
    """
    return float(ChiSquare(np.array([degrees])).tail(np.array([x], float))[0])
