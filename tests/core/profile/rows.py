"""Rows to count, and what of a window depends on no order of adding."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from whimbrel_core.profile.window import Window


def small_rows(n: int, seed: int = 0) -> dict[str, NDArray[Any]]:
    rng = np.random.default_rng(seed)
    late = rng.random(n).astype(np.float32)
    return {
        "temp": rng.normal(9.5, 8, n).astype(np.float32),
        "hour": rng.integers(4, 9, n),
        "carrier": np.array(["UA", "AA", "ZZ", None], object)[rng.integers(0, 4, n)],
        "probabilities": np.column_stack([1 - late, late]),
    }


def without_sums(window: Window) -> Window:
    features = tuple(
        msgspec.structs.replace(
            counts, total=round(counts.total), squares=round(counts.squares, -3)
        )
        for counts in window.features
    )
    return msgspec.structs.replace(window, features=features)
