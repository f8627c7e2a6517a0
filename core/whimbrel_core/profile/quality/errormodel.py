"""The declared error model of a regression: how far off predictions of each kind of row were.

Kinds of rows are the leaves of the layout's error tree (`whimbrel_core.profile.errortree`). Per leaf, on
held-out rows, the model has the mean of |e| and of e², e = predicted − true. The MAE and RMSE expected
of any merge of windows are those means weighed with its counts:

    MAE = Σ_b n_b a_b / Σ n_b        RMSE = √(Σ_b n_b s_b / Σ n_b)

Like every estimate without labels it holds while rows of a kind are as far off as they were, and says
nothing about a change of that.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import msgspec

from whimbrel_core.errors import ProfileError

if TYPE_CHECKING:
    from whimbrel_core.profile.layout import Layout


class ErrorModel(msgspec.Struct, frozen=True, kw_only=True):
    """How far off a regression was on held-out rows, per leaf of its error tree.

    Args:
        rows: held-out rows, at least one.
        absolute: mean |predicted − true|.
        squared: mean (predicted − true)².
    """

    rows: tuple[int, ...]
    absolute: tuple[float, ...]
    squared: tuple[float, ...]

    def check(self, layout: Layout) -> None:
        """Require that it belongs to ``layout``. Raises `ProfileError`."""
        leaves = 0 if layout.error_tree is None else layout.error_tree.leaves
        if not len(self.rows) == len(self.absolute) == len(self.squared) == leaves > 0:
            raise ProfileError("an error model has a number per leaf of its layout's error tree")
        numbers = (*self.absolute, *self.squared)
        if min(self.rows) < 1 or not all(math.isfinite(x) and x >= 0 for x in numbers):
            raise ProfileError("a number of an error model is out of range")
