"""The counts and sums of all features of a layout, flat, in the memory of an accumulator."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from whimbrel_core.profile.layout import Layout

Floats32 = NDArray[np.float32]
Floats = NDArray[np.float64]
Counts = NDArray[np.int64]


class Tables:
    """Flat counts and sums of all features of a layout, as views into two arrays.

    Args:
        counts: (`count_length`,) int64: cells of all features, score cells, then nulls, +inf, −inf
            and repeats per feature, then rows and duplicates, then of each slice its rows, coarse
            cells of all features and score cells.
        sums: (4 F + width,) float64: total, squares, min and max per feature (extremes NaN when
            none), then the row of the ring that was counted last.
    """

    __slots__ = ("cells", "counts", "duplicates", "high", "last", "low", "neg_inf", "nulls",
                 "pos_inf", "repeats", "rows", "scores", "slices", "squares", "sums",
                 "total")  # fmt: skip

    def __init__(self, layout: Layout, counts: Counts, sums: Floats) -> None:
        f, c = len(layout.features), layout.cells
        s = c + layout.score_cells
        self.counts, self.sums = counts, sums
        self.cells, self.scores = counts[:c], counts[c:s]
        self.nulls, self.pos_inf, self.neg_inf, self.repeats = counts[s : s + 4 * f].reshape(4, f)
        self.rows = counts[s + 4 * f : s + 4 * f + 1]
        self.duplicates = counts[s + 4 * f + 1 : s + 4 * f + 2]
        self.slices = counts[s + 4 * f + 2 :].reshape(-1, slice_length(layout))
        self.total, self.squares, self.low, self.high = sums[: 4 * f].reshape(4, f)
        self.last = sums[4 * f :]

    @staticmethod
    def count_length(layout: Layout) -> int:
        """Return the length of ``counts``."""
        own = layout.cells + layout.score_cells + 4 * len(layout.features) + 2
        return own + len(layout.slices) * slice_length(layout)


def slice_length(layout: Layout) -> int:
    """Return the number of counts of one slice: rows, coarse cells of all features, score cells."""
    return 1 + sum(layout.coarse_sizes) + layout.score_cells
