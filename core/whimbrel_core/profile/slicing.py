"""Count rows per slice, over coarse cells.

Each value gets the number of its coarse cell by comparing with at most nine edges, a whole matrix
at a time. Rows of equal membership are counted together, however many slices there are: few of the
possible combinations occur.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from whimbrel_core.profile.slices import MAX_COARSE_EDGES

if TYPE_CHECKING:
    from whimbrel_core.profile.layout import Feature, Layout
    from whimbrel_core.profile.slices import Slice
    from whimbrel_core.profile.tables import Counts, Floats32, Tables

Bits = NDArray[np.uint16]
Codes = NDArray[np.uint8]

_TOP = float(np.finfo(np.float32).max)
_INVALID = MAX_COARSE_EDGES + 1  # the code of what is in no cell
_CODES = _INVALID + 1


class Slicing:
    """The slices of one layout, prepared for counting.

    Args:
        layout: with slices.
        score_column: of the ring; None without scores.
    """

    def __init__(self, layout: Layout, score_column: int | None) -> None:
        features = layout.features
        self._features = len(features)
        names = [feature.name for feature in features]
        self._tests = [
            (names.index(one.feature), *_test(one, features[names.index(one.feature)]))
            for one in layout.slices
        ]
        # (9, F, 1): edges, filled up with what no value is above
        self._edges = np.full((MAX_COARSE_EDGES, len(features), 1), np.inf, np.float32)
        for index, feature in enumerate(features):
            self._edges[: len(feature.coarse), index, 0] = feature.coarse
        self._score_column = score_column
        self._score_edges = np.array(layout.score_edges, np.float32)
        # Which of a feature's codes are cells of its own, in the order of a slice's counts.
        self._cells = np.concatenate(
            [_CODES * i + np.arange(size) for i, size in enumerate(layout.coarse_sizes)]
        )

    def members(self, columns: NDArray[Any]) -> Bits:
        """Return (n,) the slices of each row of ``columns`` (width, n), as bits."""
        bits = np.zeros(columns.shape[1], np.uint16)
        for bit, (index, low, high, values) in enumerate(self._tests):
            column = columns[index]
            if len(values):
                inside = column == values[0]
                for value in values[1:]:
                    inside |= column == value
            else:
                inside = (column > low) & (column <= high)
            bits |= inside * np.uint16(1 << bit)
        return bits

    def count(self, columns: Floats32, into: Tables) -> None:
        """Add ``columns`` (width, n), in the order of rows, to the slices of ``into``."""
        bits = self.members(columns)
        kinds, kind = np.unique(bits, return_inverse=True)
        if not kinds[-1]:
            return
        codes = self._codes(columns[: self._features])
        groups = len(kinds)
        # (groups, F · codes): how many rows of each membership have which code
        counted = np.empty((groups, self._features, _CODES), np.int64)
        start = kind * _CODES
        for index in range(self._features):
            found = np.bincount(start + codes[index], minlength=groups * _CODES)
            counted[:, index] = found.reshape(groups, _CODES)
        cells = counted.reshape(groups, -1)[:, self._cells]
        rows = np.bincount(kind, minlength=groups)
        parts = [rows[:, np.newaxis], cells]
        if self._score_column is not None:
            parts.append(self._scores(columns[self._score_column], kind, groups))
        # (S, groups): which slices rows of each membership are in
        slices = np.arange(len(self._tests), dtype=np.uint16)[:, np.newaxis]
        inside = (kinds >> slices & 1).astype(np.int64)
        into.slices += inside @ np.concatenate(parts, axis=1)

    def _codes(self, columns: Floats32) -> Codes:
        """Return (F, n) the coarse cell of every value."""
        codes = np.zeros(columns.shape, np.uint8)
        above = np.empty(columns.shape, np.bool_)
        for edges in self._edges:
            np.greater(columns, edges, out=above)
            codes += above.view(np.uint8)
        np.isfinite(columns, out=above)
        np.logical_not(above, out=above)
        codes[above] = _INVALID
        return codes

    def _scores(self, scores: Floats32, kind: Counts, groups: int) -> Counts:
        bins = len(self._score_edges) + 1
        code = self._score_edges.searchsorted(scores, "left")
        code[np.isnan(scores)] = bins
        found = np.bincount(kind * (bins + 1) + code, minlength=groups * (bins + 1))
        counted: Counts = found.reshape(groups, bins + 1)[:, :bins]
        return counted


def _test(one: Slice, feature: Feature) -> tuple[np.float32, np.float32, Floats32]:
    """Return the bounds (above, up to) and the values that put a row into ``one``."""
    # The largest float32, not inf: infinities are in no slice, as they are in no cell.
    low = np.float32(-np.inf if one.low is None else one.low)
    high = np.float32(_TOP if one.high is None else one.high)
    codes = [float(feature.vocabulary.index(word)) for word in one.words]
    return low, high, np.array(codes or one.values, np.float32)
