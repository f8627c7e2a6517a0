"""How well a series of numbers is explained without a change, and with one at every moment.

An *explanation* is a correlation φ and a mean, which is constant or a steady trend::

    w(i) = y(i) − φ y(i−1),   i = 1 … n;    w ~ N(Xβ, s² I),   X = [1] or [1, i]

φ goes over a grid from 0, white noise, to 1, a random walk with drift. β and s are integrated out
under the right Haar prior dβ ds/s: what remains does not depend on level, slope and scale. With S
the sum of squares about the least-squares fit, p columns in X, and |XᵀX| in place of n::

    log m = −½ log |XᵀX| − (n − p)/2 · log S                                without a change

A change after n₀ of n observations adds δsu to the mean, δ ~ N(0, τ²):

- in a constant mean, a step (u = 1 afterwards), while the noise becomes κ times as wide: the
  covariance is V = diag(1…, κ²…) + τ²uuᵀ;
- in a trend, a step or a kink (u = 1/4, 2/4, … afterwards), with V = I + τ²uuᵀ. With q = |Mu|² and
  c = (Mu)ᵀw, M the projection beside X, S becomes S − τ²c²/(1 + τ²q) and |XᵀX| gains 1 + τ²q.

Everything is a function of cumulated sums of products of neighbours. (Berger, Pericchi, Varshavsky:
"Bayes factors and marginal distributions in invariant situations", 1998.)
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Places = NDArray[np.int64]

SUMS = 8  # of `pairs`
INITIAL = 4  # pairs that every explanation may have for nothing: their fit is no evidence
_PHI: Floats = np.array([0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 1.0])
_TRENDS = 10  # the first φ, with a trend; a walk has its drift already
EXPLANATIONS = len(_PHI) + _TRENDS
IS_TREND = np.arange(EXPLANATIONS) >= len(_PHI)
_SIZES = ((1.0, 1.0), (4.0, 1.0), (2.0, 2.0), (4.0, 4.0), (1.0, 0.5))  # (τ, κ) of steps
_TAU2: Floats = np.array([size[0] ** 2 for size in _SIZES])[:, np.newaxis, np.newaxis]
_KAPPA2: Floats = np.array([size[1] ** 2 for size in _SIZES])[:, np.newaxis, np.newaxis]
_STEP_TAU2: Floats = np.array([1.0, 16.0])[:, np.newaxis, np.newaxis]
_KINK = 0.25  # sd per observation
_LOG_TERMS = math.log(len(_SIZES) * len(_PHI) + (len(_STEP_TAU2) + 1) * _TRENDS)


def pairs(y: Floats, before: float) -> Floats:
    """Return (8, m − 1) of the neighbours a after b in ``y`` (m,): 1, a, b, a², ab, b², ia, ib.

    Args:
        y: observations, about any origin.
        before: pairs before these, from which i is counted.
    """
    a, b = y[1:], y[:-1]
    i = np.arange(before + 1, before + len(y))
    return np.stack([np.ones(len(a)), a, b, a * a, a * b, b * b, i * a, i * b])


class Whitened(NamedTuple):
    """Sums over w; (…) is nothing for totals, and (m,) for sums up to each of m observations."""

    n: Floats  # (…)
    w: Floats  # (Φ, …)
    ww: Floats  # (Φ, …)
    iw: Floats  # (Φ, …)


def whiten(sums: Floats) -> Whitened:
    """Return Σw, Σw² and Σiw for every φ from sums of `pairs` (8, …)."""
    n, a, b, aa, ab, bb, ia, ib = sums
    phi = _PHI.reshape(-1, *[1] * (sums.ndim - 1))
    return Whitened(n, a - phi * b, aa - 2 * phi * ab + phi * phi * bb, ia - phi * ib)


def unchanged(total: Whitened, floor: float) -> Floats:
    """Return (E,): log m of every explanation without a change.

    Args:
        total: over all observations, `INITIAL` pairs at least.
        floor: least variance of an observation, above 0.
    """
    n = float(total.n)
    level = np.maximum(total.ww - total.w**2 / n, 0.0)
    slope = (total.iw - (n + 1) / 2 * total.w)[:_TRENDS]
    ii = n * (n * n - 1) / 12
    trend = np.maximum(level[:_TRENDS] - slope**2 / ii, 0.0)
    return np.concatenate(
        [
            -0.5 * math.log(n) - (n - 1) / 2 * np.log(level + n * floor),
            -0.5 * math.log(n * ii) - (n - 2) / 2 * np.log(trend + n * floor),
        ]
    )


def forecast(total: Whitened, explanation: int, last: float) -> tuple[float, float]:
    """Return what the next observation is expected to be, and the variance of that.

    Args:
        total: over all observations.
        explanation: index of the one that is believed.
        last: newest observation.
    """
    n, trend = float(total.n), explanation >= len(_PHI)
    k = explanation - len(_PHI) if trend else explanation
    mean, spread = float(total.w[k]) / n, float(total.ww[k])
    spread -= n * mean**2
    lever = 1 + 1 / n
    if trend:
        ii, slope = n * (n * n - 1) / 12, float(total.iw[k]) - (n + 1) / 2 * n * mean
        spread -= slope**2 / ii
        mean += slope / ii * (n + 1) / 2
        lever += ((n + 1) / 2) ** 2 / ii
    return mean + float(_PHI[k]) * last, max(spread, 0.0) / (n - 1 - trend) * lever


def changed(total: Whitened, upto: Whitened, floor: float, prior: Floats) -> Floats:
    """Return (m,): log of the mean over explanations and sizes of a change after each of m places.

    Args:
        total: over all observations.
        upto: over those before each place (m,).
        floor: least variance of an observation, above 0.
        prior: (E,) added to log m of every explanation.
    """
    n, n0 = float(total.n), upto.n
    n1 = n - n0
    w1 = total.w[:, np.newaxis] - upto.w
    constant = _steps(total, upto, w1, floor) + prior[: len(_PHI), np.newaxis]
    w, s, k = total.w[:_TRENDS], w1[:_TRENDS], slice(0, _TRENDS)
    ii = n * (n * n - 1) / 12
    slope = total.iw[k] - (n + 1) / 2 * w
    spread = np.maximum(total.ww[k] - w**2 / n - slope**2 / ii, 0.0) + n * floor
    fit = (-0.5 * math.log(n * ii) - (n - 2) / 2 * np.log(spread) + prior[len(_PHI) :])[
        :, np.newaxis
    ]
    # A step: u·1 = u·u = n₁, u·i about the mean n₁n₀/2. A kink: sums of 1…n₁ and their squares.
    lever = n1 * n0 / 2
    q = n1 * n0 / n - lever**2 / ii
    c = s - w[:, np.newaxis] * (n1 / n) - slope[:, np.newaxis] * (lever / ii)
    steps = _gain(_STEP_TAU2 * q, _STEP_TAU2 * c**2, spread, n)
    ones, squares = n1 * (n1 + 1) / 2, n1 * (n1 + 1) * (2 * n1 + 1) / 6
    lever = n0 * ones + squares - ones * (n + 1) / 2
    q = squares - ones**2 / n - lever**2 / ii
    c = (
        (total.iw[k, np.newaxis] - upto.iw[k] - n0 * s)
        - w[:, np.newaxis] * (ones / n)
        - slope[:, np.newaxis] * (lever / ii)
    )
    kinks = _gain(_KINK**2 * q, _KINK**2 * c**2, spread, n)
    terms = np.concatenate(
        [
            constant.reshape(-1, len(n0)),
            (steps + fit).reshape(-1, len(n0)),
            kinks + fit,
        ]
    )
    peak: Floats = terms.max(axis=0)
    mean: Floats = peak + np.log(np.exp(terms - peak).sum(axis=0)) - _LOG_TERMS
    return mean


def _steps(total: Whitened, upto: Whitened, w1: Floats, floor: float) -> Floats:
    """Return (sizes, Φ, m): log m of a step in a constant mean, with wider or narrower noise."""
    n, n0 = float(total.n), upto.n
    n1 = n - n0
    ww1 = total.ww[:, np.newaxis] - upto.ww
    inside0 = np.maximum(upto.ww - upto.w**2 / n0, 0.0) + n0 * floor
    inside1 = np.maximum(ww1 - w1**2 / n1, 0.0) + n1 * floor
    apart = (w1 / n1 - upto.w / n0) ** 2
    weight1 = n1 / (_KAPPA2 + _TAU2 * n1)
    spread = inside0 + inside1 / _KAPPA2 + apart * (n0 * weight1 / (n0 + weight1))
    determinant = n1 * np.log(_KAPPA2) + np.log1p(_TAU2 * n1 / _KAPPA2) + np.log(n0 + weight1)
    value: Floats = -0.5 * determinant - (n - 1) / 2 * np.log(spread)
    return value


def _gain(q: Floats, cc: Floats, spread: Floats, n: float) -> Floats:
    """Return what a change adds to log m of a trend; ``q`` and ``cc`` are τ²q and τ²c²."""
    rest = 1 - cc / ((1 + q) * spread[:, np.newaxis])
    value: Floats = -0.5 * np.log1p(q) - (n - 2) / 2 * np.log(np.maximum(rest, 1e-15))
    return value
