"""Features of a layout, with their cells cut from the columns of reference data.

Cells of a numeric feature are cut at order statistics of the reference, never at interpolated
numbers, so that each edge is a float32 that occurs and shares are exact:

- 79 quantiles k/80: 80 is a multiple of ten, so deciles are unions of cells and PSI on deciles is
  exact after any merge;
- a tail ladder: quantiles .0005 .002 .01 .99 .998 .9995, one edge just below the minimum, the
  maximum, and Q1 − IQR·2^k, Q3 + IQR·2^k for k = 0 … 6, so that a drift far outside the reference
  still has a distance.

Cells of a discrete feature are its values, those of words the most frequent ones.
"""

from __future__ import annotations

import math
from collections import Counter
from typing import TYPE_CHECKING, Any

import numpy as np

from whimbrel_core.errors import ProfileError
from whimbrel_core.profile.building.columns import is_null, prepare
from whimbrel_core.profile.feature import (
    MAX_COARSE_EDGES,
    MAX_VOCABULARY,
    MAX_WORD_CHARS,
    Feature,
    Kind,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from whimbrel_core.profile.building.columns import ColumnSpec

QUANTILE_CELLS = 80
_TAILS = (0.0005, 0.002, 0.01, 0.99, 0.998, 0.9995)
_RUNGS = tuple(2.0**k for k in range(7))


def features(columns: Sequence[ColumnSpec]) -> tuple[Feature, ...]:
    """Return columns as features with cells of their own, for counting more rows than these.

    Raises:
        ProfileError: a column cannot be what its ``kind`` says.
    """
    prepared = [prepare(column) for column in columns]
    return tuple(
        feature_of(column, values, kind)
        for column, (values, kind) in zip(columns, prepared, strict=True)
    )


def feature_of(column: ColumnSpec, values: NDArray[Any], kind: Kind) -> Feature:
    """Return a column as a feature, with cells cut from its ``values`` (as `prepare` returns them)."""
    edges: tuple[float, ...] = ()
    known: tuple[float, ...] = ()
    vocabulary: tuple[str, ...] = ()
    centre, scale = 0.0, 1.0
    if kind == "categorical":
        vocabulary = _vocabulary(column.name, values)
    else:
        finite = np.sort(values[np.isfinite(values)])
        if len(finite):
            centre, sd = moments(finite)
            scale = sd or 1.0
            if kind == "discrete":
                known = tuple(np.unique(finite).tolist())
            else:
                edges = _edges(finite, sd)
    return Feature(
        name=column.name,
        kind=kind,
        role=column.role,
        tensor=column.tensor,
        column=column.column,
        unit=column.unit,
        edges=edges,
        values=known,
        vocabulary=vocabulary,
        centre=centre,
        scale=scale,
    )


def coarse_edges(feature: Feature, values: NDArray[Any]) -> tuple[float, ...]:
    """Return deciles of the reference that are edges of the feature, or its first nine words."""
    if feature.kind == "categorical":
        return tuple(map(float, range(min(MAX_COARSE_EDGES, len(feature.vocabulary)))))
    finite = np.sort(values[np.isfinite(values)])
    places = {max(-(-k * len(finite) // 10) - 1, 0) for k in range(1, 10)} if len(finite) else ()
    deciles = {float(finite[place]) for place in places}
    return tuple(sorted(edge for edge in deciles if edge < finite[-1]))


def moments(finite: NDArray[np.float32]) -> tuple[float, float]:
    """Return mean and (population) standard deviation, correctly rounded sums."""
    numbers = finite.tolist()
    mean = math.fsum(numbers) / len(numbers)
    return mean, math.sqrt(math.fsum((x - mean) ** 2 for x in numbers) / len(numbers))


def _edges(ascending: NDArray[np.float32], sd: float) -> tuple[float, ...]:
    """Return the interior cell edges for sorted finite ``ascending`` (n,)."""
    n = len(ascending)

    def order_statistic(numerator: int, denominator: int) -> float:
        """Smallest value with at least this share of rows at or below it."""
        return float(ascending[max(-(-numerator * n // denominator) - 1, 0)])

    quantiles = [order_statistic(k, QUANTILE_CELLS) for k in range(1, QUANTILE_CELLS)]
    tails = [order_statistic(round(q * 10_000), 10_000) for q in _TAILS]
    low, high = ascending[0], ascending[-1]
    q1, q3 = order_statistic(1, 4), order_statistic(3, 4)
    step = (q3 - q1) or sd
    rungs = [edge for rung in _RUNGS for edge in (q1 - step * rung, q3 + step * rung)]
    with np.errstate(over="ignore"):
        edges = np.unique(np.array([*quantiles, *tails, high, *rungs], np.float32) + np.float32(0))
        below = np.nextafter(low, np.float32(-np.inf))
    edges = np.unique(np.append(edges, below))
    return tuple(edges[np.isfinite(edges)].tolist())


def _vocabulary(name: str, values: NDArray[Any]) -> tuple[str, ...]:
    """Return the most frequent words, ties in alphabetical order."""
    counted: Counter[str] = Counter()
    mixed = [
        type(v).__name__
        for v in values.tolist()
        if not isinstance(v, (str, bytes)) and not is_null(v)
    ]
    if mixed:
        raise ProfileError(
            f"column {name!r} mixes strings with {mixed[0]} values",
            hint="a column of words holds strings, None or NaN",
        )
    for value, count in Counter(values.tolist()).items():
        if is_null(value):
            continue
        try:
            word = value if isinstance(value, str) else value.decode()
        except UnicodeDecodeError:
            continue  # counted as `other`: a vocabulary is readable text
        if len(word) <= MAX_WORD_CHARS:
            counted[word] += count
    ranked = sorted(counted.items(), key=lambda item: (-item[1], item[0]))
    return tuple(word for word, _ in ranked[:MAX_VOCABULARY])
