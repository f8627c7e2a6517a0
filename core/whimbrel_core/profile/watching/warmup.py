"""What a stream's first windows teach: its own mean, and how its windows vary and hang together.

A device's windows x wander about its mean μ as an autoregression of first order: variance b
between windows, correlation r of neighbours; each is seen with the sampling error of its rows.

- b: the observed variance less the sampling variances, with a prior worth four windows: what the
  device's other features of the same sort show, and .1 sd once among them.
- r: windows that hang together vary less about *their own* mean than about the true one, by a
  share A(r, n), which pulls both moments down. The observed ratio of them is put right for it
  (`_unbiased`; Marriott & Pope 1954 give the first order), then drawn to the device's other features
  of the same sort: the more, the more alike they are.
- μ: shrunk to the signed baseline, as if devices differ from it by .2 sd.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from whimbrel_core.profile.watching.streams import Floats, Numbers, Sight

    Starts = NDArray[np.intp]

DEVICE_SD = 0.2  # how much devices of a fleet differ, in standard deviations of rows
WINDOW_SD = 0.1  # how much a device's windows wander before it is known
WINDOW_SD_WORTH = 4.0  # windows that the prior of the variance counts for
MAX_CORRELATION = 0.97
LEAST_BETWEEN = 1e-6
_CORRELATION = 0.5  # what is thought before anything is known; counts for two features
_CORRELATION_WORTH = 2.0
_ALIKE_SD = 0.05  # features differ in correlation by this at least
_DOUBTS = 1.5  # standard errors of the mean that count as doubt
_ROUNDS = 12  # of the fixed point below; the last ones change the fourth decimal


def learn(numbers: Numbers, sight: Sight) -> None:
    """Add a warm-up window of each device, in place."""
    x, variance, known = sight
    np.copyto(numbers.wander, x, where=known & (numbers.worth == 0))
    y = np.where(known, x - numbers.wander, 0.0)
    numbers.worth[:] += known
    numbers.mean[:] += y
    numbers.between[:] += y * y
    numbers.lagged[:] += y * numbers.last
    np.copyto(numbers.last, y, where=known)
    numbers.drawn[:] += variance


def settle(numbers: Numbers, sorts: Starts) -> Numbers:
    """Return the states after the warm-up: what the sums say, in their place.

    Args:
        numbers: the states.
        sorts: where each sort of component begins, ascending from 0.
    """
    n = np.maximum(numbers.worth, 1)
    free = np.maximum(n - 1, 1)
    about = numbers.mean / n
    sampling = numbers.drawn / n
    variance = (numbers.between - n * about**2) / free
    lagged = (
        numbers.lagged - about * (2 * numbers.mean - numbers.last) + (n - 1) * about**2
    ) / free
    raw = np.maximum(variance - sampling, LEAST_BETWEEN)
    alike = np.diff(sorts, append=raw.shape[1])
    among = _spread(np.add.reduceat(raw, sorts, axis=-1), alike)
    count = np.repeat(alike, alike)
    prior = (WINDOW_SD**2 + among) / (1 + count)
    between = (WINDOW_SD_WORTH * prior + (n - 1) * raw) / (WINDOW_SD_WORTH + n - 1)
    correlation = _correlation(
        raw=raw, lagged=lagged, between=between, sampling=sampling, n=n, sorts=sorts
    )
    share = variance_of_mean(correlation, n)
    between = between * free / (n * (1 - share))
    error = between * share + sampling / n
    weight = DEVICE_SD**2 / (DEVICE_SD**2 + error)
    mean = (about + numbers.wander) * weight
    last = np.where(numbers.worth > 0, numbers.last + numbers.wander - mean, 0.0)
    nothing = np.zeros_like(n)
    return numbers._replace(
        worth=WINDOW_SD_WORTH + n - 1,
        mean=mean,
        between=between,
        lagged=correlation * between,
        last=last,
        drawn=between * sampling / np.maximum(between + sampling, LEAST_BETWEEN),
        wander=last,
        doubt=_DOUBTS * np.sqrt(weight * error),
        level=nothing,
        age=nothing + 1,
        began=nothing,
    )


def variance_of_mean(correlation: Floats, n: Floats) -> Floats:
    """Return A(r, n): the variance of the mean of n windows, in variances of one.

    >>> variance_of_mean(np.array([0.0, 0.9]), np.array([48.0, 48.0])).round(3).tolist()
    [0.021, 0.318]
    """
    rest = 1 - correlation
    share: Floats = (
        (1 + correlation) / rest - 2 * correlation * (1 - correlation**n) / (n * rest**2)
    ) / n
    return np.minimum(share, 0.95)


def _correlation(
    *,
    raw: Floats,
    lagged: Floats,
    between: Floats,
    sampling: Floats,
    n: Floats,
    sorts: Starts,
) -> Floats:
    """Return r (D, K), each drawn to its sort's."""
    alike = np.diff(sorts, append=raw.shape[1])
    own = _unbiased(lagged / np.maximum(raw, sampling / 4), n)
    together = np.add.reduceat(lagged, sorts, axis=-1) / np.add.reduceat(raw, sorts, axis=-1)
    pooled = _unbiased(_spread(together, alike), n)
    count = np.repeat(alike, alike)
    pooled = (count * pooled + _CORRELATION_WORTH * _CORRELATION) / (count + _CORRELATION_WORTH)
    error = (1.1 - pooled**2) / n * (1 + sampling / between) ** 2
    differ = np.add.reduceat((own - pooled) ** 2 - error, sorts, axis=-1) / alike
    differ = np.maximum(_spread(differ, alike), _ALIKE_SD**2)
    found: Floats = (differ * own + error * pooled) / (differ + error)
    return np.clip(found, 0.0, MAX_CORRELATION)


def _unbiased(ratio: Floats, n: Floats) -> Floats:
    """Return the r of which ``ratio`` is expected.

    With n windows about their own mean, the variance is expected to be n (1 − A) / (n − 1) of the
    true one, and the covariance of neighbours r − A − 2 (A − B) / (n − 1), where B is the covariance
    of the mean and the first window.
    """
    ratio = np.clip(ratio, 0.0, MAX_CORRELATION)
    free = np.maximum(n - 1, 1)
    found = ratio
    for _ in range(_ROUNDS):
        share = variance_of_mean(found, n)
        first = (1 - found**n) / (n * (1 - found))
        found = ratio * (1 - share) * n / free + share + 2 * (share - first) / free
        found = np.clip(found, 0.0, MAX_CORRELATION)
    return found


def _spread(per_sort: Floats, alike: Starts) -> Floats:
    """Return (D, K) of (D, sorts)."""
    return np.repeat(per_sort, alike, axis=-1)
