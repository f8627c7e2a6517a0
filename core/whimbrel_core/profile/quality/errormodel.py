"""The declared error model of a regression: how far off predictions of each size were.

The cells of the output feature itself are grouped into bins of about equally many reference rows.
Per bin, on held-out rows, the model has the mean of |e| and of e², e = predicted − true. The MAE
and RMSE expected of any merge of windows are those means weighed with its counts:

    MAE = Σ_b n_b a_b / Σ n_b        RMSE = √(Σ_b n_b s_b / Σ n_b)

It needs nothing of a window but what is counted anyway. Like every estimate without labels it
holds while errors go with predictions as they did, and says nothing about a change of that.

A bin's means are shrunk with `PRIOR_ROWS` rows of the whole, so that a bin without held-out rows
has a value. Predictions beyond the reference's count as the outermost bin does.
"""

from __future__ import annotations

import math
from itertools import pairwise
from typing import TYPE_CHECKING

import msgspec

from whimbrel_core.errors import ProfileError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from whimbrel_core.profile.layout import Layout

ERROR_BINS = 20
PRIOR_ROWS = 5


class ErrorModel(msgspec.Struct, frozen=True, kw_only=True):
    """How far off a regression was on held-out rows, by the size of what it predicted.

    Args:
        feature: index of the output feature in the layout.
        starts: first cell of each bin, among the feature's cells; the first is 0.
        rows: held-out rows per bin.
        absolute: mean |predicted − true| per bin, shrunk.
        squared: mean (predicted − true)² per bin, shrunk.
    """

    feature: int
    starts: tuple[int, ...]
    rows: tuple[int, ...]
    absolute: tuple[float, ...]
    squared: tuple[float, ...]

    def binned(self, cells: Sequence[int]) -> tuple[int, ...]:
        """Return counts of the feature's ``cells`` per bin; they add, as windows do."""
        return tuple(sum(cells[a:b]) for a, b in pairwise([*self.starts, len(cells)]))

    def check(self, layout: Layout) -> None:
        """Require that it belongs to ``layout``. Raises `ProfileError`."""
        rows = (self.starts, self.rows, self.absolute, self.squared)
        bins = len(self.starts)
        if not 0 <= self.feature < len(layout.features) or any(len(row) != bins for row in rows):
            raise ProfileError("an error model has as many numbers in each of its rows")
        cells = layout.features[self.feature].cells
        ascending = self.starts[:1] == (0,) and all(a < b for a, b in pairwise(self.starts))
        if layout.task != "regression" or not ascending or self.starts[-1] >= cells:
            raise ProfileError("an error model must belong to the predictions of its layout")
        numbers = (*self.rows, *self.absolute, *self.squared)
        if not all(math.isfinite(number) and number >= 0 for number in numbers):
            raise ProfileError("a number of an error model is out of range")
