"""Which of many tests to believe, so that few of those believed are false."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]


def benjamini_hochberg(p_values: ArrayLike, q: float) -> Flags:
    """Return (…, n) which of n hypotheses to reject so that a share ``q`` at most is false.

    Args:
        p_values: (…, n); each last axis is a family of its own.
        q: expected share of false ones among the rejected.

    >>> benjamini_hochberg([0.001, 0.02, 0.03, 0.8], q=0.05).tolist()
    [True, True, True, False]
    """
    p = np.asarray(p_values, float)
    n = p.shape[-1]
    ascending = np.sort(p, axis=-1)
    limits = q * np.arange(1, n + 1) / n
    # The largest p value that is at most its limit, or −1: all up to it are rejected.
    largest = np.max(np.where(ascending <= limits, ascending, -1.0), axis=-1, keepdims=True)
    rejected: Flags = np.less_equal(p, largest)
    return rejected


def e_benjamini_hochberg(log_e: Floats, q: float) -> NDArray[np.bool_]:
    """Return which of many streams to call changed, of which at most a share ``q`` are false.

    The e-value counterpart of Benjamini–Hochberg (Wang & Ramdas 2022): valid however the streams
    depend on each other.

    Args:
        log_e: (n,) logarithms of e-values.
        q: false discovery rate, 0 to 1.

    >>> e_benjamini_hochberg(np.log([100.0, 50.0, 1.0]), q=0.1).tolist()
    [True, True, False]
    """
    order = np.argsort(-log_e)
    n = len(log_e)
    passed = np.flatnonzero(log_e[order] >= math.log(n / q) - np.log(np.arange(1, n + 1)))
    rejected = np.zeros(n, bool)
    if passed.size:
        rejected[order[: passed[-1] + 1]] = True
    return rejected
