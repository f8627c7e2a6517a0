"""Windows of one layout side by side, as arrays: their counts, and what else is known of their rows."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from whimbrel_core.profile.flat import require_fit

if TYPE_CHECKING:
    from collections.abc import Sequence

    from whimbrel_core.profile.flat import FlatWindow
    from whimbrel_core.profile.layout import Layout

Floats = NDArray[np.float64]
Counts = NDArray[np.int64]


def stacked(windows: Sequence[FlatWindow], layout: Layout) -> tuple[Counts, Counts, Counts]:
    """Return cells (N, C), nulls and infinities (N, F) and rows (N,) of N windows of ``layout``.

    Raises:
        ProfileError: a window belongs to another layout.
    """
    for window in windows:
        require_fit(window, layout)
    counts = np.array([window.counts for window in windows]).reshape(len(windows), -1)
    missing = counts[:, layout.cells :].reshape(len(windows), 4, -1)[:, :3]
    rows = np.array([window.rows for window in windows], np.int64)
    return counts[:, : layout.cells], missing.sum(axis=1), rows


class Extent(NamedTuple):
    """What N windows know of F features besides counts, as arrays (N, F).

    Args:
        total: Σ (x − centre) of the finite values.
        squares: Σ (x − centre)² of them.
        low: smallest value; above ``high`` where nothing is known.
        high: largest value.
    """

    total: Floats
    squares: Floats
    low: Floats
    high: Floats

    def take(self, part: slice) -> Extent:
        """Return the windows of ``part``."""
        return Extent(*(array[part] for array in self))


def extent(windows: Sequence[FlatWindow]) -> Extent:
    """Return the extent of windows of one layout, one at least."""
    sums = np.array([window.sums for window in windows]).reshape(len(windows), 2, -1)
    return Extent(
        sums[:, 0],
        sums[:, 1],
        np.array([window.low for window in windows]),
        np.array([window.high for window in windows]),
    )
