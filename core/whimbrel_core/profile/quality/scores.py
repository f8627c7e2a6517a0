"""Where the score bins of a layout lie: found in the reference scores (build machine).

AUC from counts loses the order of two scores within one bin. Bins of equally many reference rows
lose least while scores stay as they were, but leave one bin for all that lies above them: scores
that drift upwards would all be ties. So most edges lie at quantiles, and the rest halve the widest
bins. For scores from beta(2, 8), AUC is .001 off; drifted to beta(4, 3), less than .01, where
twenty quantiles alone are .09 off and, on the undrifted ones, twenty equal bins .003.

An edge lies halfway between two neighbouring scores that occur, so that a score which another
processor rounds otherwise stays in its bin.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from whimbrel_core.profile.layout import MAX_SCORE_BINS

if TYPE_CHECKING:
    from numpy.typing import NDArray

_QUANTILE_BINS = 15
_MAX_EDGES = MAX_SCORE_BINS - 1
EQUAL_EDGES: tuple[float, ...] = tuple(
    (np.arange(1, MAX_SCORE_BINS) / MAX_SCORE_BINS).astype(np.float32).tolist()
)


def score_edges(scores: NDArray[np.float32]) -> tuple[float, ...]:
    """Return the interior edges of at most 20 score bins for reference ``scores`` (n,).

    Up to 20 distinct scores get a bin each (a constant one has no edge at all). More get edges at
    quantiles, with a bin of its own for a score that many rows have, and then halved bins.
    Without a finite score: `EQUAL_EDGES`.
    """
    finite = scores[np.isfinite(scores)].astype(np.float32) + np.float32(0)  # −0.0 and 0.0 are one
    if not len(finite):
        return EQUAL_EDGES
    distinct, counts = np.unique(finite, return_counts=True)
    if len(distinct) <= MAX_SCORE_BINS:
        return tuple(_between(distinct, at) for at in range(len(distinct) - 1))
    ranks = [-(-k * len(finite) // _QUANTILE_BINS) for k in range(1, _QUANTILE_BINS)]
    places: list[int] = np.cumsum(counts).searchsorted(ranks, "left").tolist()
    cuts = set(places)
    # A score on two quantiles is frequent: cut below it as well, with the edge that it saves.
    cuts.update(a - 1 for a, b in pairwise(places) if a == b)
    edges = {_between(distinct, at) for at in cuts if 0 <= at < len(distinct) - 1}
    return _halved(edges, min(0.0, float(distinct[0])), max(1.0, float(distinct[-1])))


def _between(ascending: NDArray[np.float32], at: int) -> float:
    """Return a float32 that is at least ``ascending[at]`` and below the next."""
    low, high = float(ascending[at]), float(ascending[at + 1])
    middle = float(np.float32((low + high) / 2))
    return middle if low < middle < high else low


def _halved(edges: set[float], low: float, high: float) -> tuple[float, ...]:
    """Return ``edges`` and middles of the widest bins between ``low`` and ``high``, 19 in all."""
    found = sorted(edges)
    while len(found) < _MAX_EDGES:
        a, b = max(pairwise([low, *found, high]), key=lambda ends: ends[1] - ends[0])
        middle = float(np.float32((a + b) / 2))
        if not a < middle < b:
            break
        found = sorted([*found, middle])
    return tuple(found)
