"""Split thresholds of a source's trees, as the framework itself holds them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

Thresholds: TypeAlias = "NDArray[Any]"
"""(n,) records of a ``feature`` index and a ``value``; a forest may have millions."""

_RECORD = np.dtype([("feature", np.int64), ("value", np.float64)])


def listed(pairs: Iterable[tuple[int, float]] = ()) -> Thresholds:
    """Return pairs of a feature index and a threshold."""
    return np.array(list(pairs), _RECORD)


def columns(features: NDArray[Any], values: NDArray[Any]) -> Thresholds:
    """Return the thresholds whose features and values are given as two arrays (n,)."""
    made = np.empty(len(features), _RECORD)
    made["feature"], made["value"] = features, values
    return made


def joined(parts: Iterable[Thresholds]) -> Thresholds:
    """Return those of several trees or models, in their order."""
    return np.concatenate([listed(), *parts])
