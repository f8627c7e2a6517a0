"""Count rows per slice, over coarse cells.

Each value gets the number of its coarse cell by comparing with at most nine edges, a whole matrix
at a time. Slices are taken four by four: rows fall into one of sixteen combinations of these, which
are counted in one go and then added up.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from whimbrel_core.profile.counting.leaves import packed, rows_in
from whimbrel_core.profile.feature import MAX_COARSE_EDGES

if TYPE_CHECKING:
    from whimbrel_core.profile.counting.leaves import Masks
    from whimbrel_core.profile.counting.tables import Counts, Floats32, Tables
    from whimbrel_core.profile.feature import Feature
    from whimbrel_core.profile.layout import Layout
    from whimbrel_core.profile.slices import Slice

Bits = NDArray[np.uint16]
Codes = NDArray[np.uint8]

_TOP = float(np.finfo(np.float32).max)
_INVALID = MAX_COARSE_EDGES + 1  # the code of what is in no cell
_CODES = _INVALID + 1
_TOGETHER = 4
_GROUPS = 1 << _TOGETHER
# (4, 16): whether a slice is in a combination
_INSIDE = np.arange(_GROUPS) >> np.arange(_TOGETHER)[:, np.newaxis] & 1


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

    def count(
        self, columns: Floats32, into: Tables, *, whole: bool, leaves: Masks | None = None
    ) -> None:
        """Add ``columns`` (width, n), in the order of rows, to the slices of ``into``.

        Args:
            columns: of the ring.
            into: where to.
            whole: no number is missing or infinite.
            leaves: which rows end in each leaf of the error tree, where there is one.
        """
        bits = self.members(columns)
        if not bits.any():
            return
        codes = self._codes(columns[: self._features], whole=whole)
        scores = None
        if self._score_column is not None:
            scores = self._score_codes(columns[self._score_column])
        for first in range(0, len(self._tests), _TOGETHER):
            slices = into.slices[first : first + _TOGETHER]
            kind = (bits >> first & _GROUPS - 1).astype(np.intp)
            if kind.any():
                counted = self._grouped(kind, codes, scores)
                slices[:, : counted.shape[1]] += _INSIDE[: len(slices)] @ counted
        if leaves is not None:
            inside = bits >> np.arange(len(self._tests))[:, np.newaxis] & 1
            members = packed(inside.astype(np.bool_), leaves.shape[1])
            into.slices[:, -len(leaves) :] += rows_in(members[:, np.newaxis] & leaves)

    def _grouped(self, kind: Counts, codes: Codes, scores: Counts | None) -> Counts:
        """Return (16, …) the counts of a slice's row, per combination ``kind`` (n,)."""
        start = kind * _CODES
        counted = np.empty((_GROUPS, self._features, _CODES), np.int64)
        for index in range(self._features):
            found = np.bincount(start + codes[index], minlength=_GROUPS * _CODES)
            counted[:, index] = found.reshape(_GROUPS, _CODES)
        rows = np.bincount(kind, minlength=_GROUPS)[:, np.newaxis]
        parts = [rows, counted.reshape(_GROUPS, -1)[:, self._cells]]
        if scores is not None:
            length = len(self._score_edges) + 2
            found = np.bincount(kind * length + scores, minlength=_GROUPS * length)
            parts.append(found.reshape(_GROUPS, length)[:, :-1])
        return np.concatenate(parts, axis=1)

    def _codes(self, columns: Floats32, *, whole: bool) -> Codes:
        """Return (F, n) the coarse cell of every value."""
        codes = np.zeros(columns.shape, np.uint8)
        above = np.empty(columns.shape, np.bool_)
        for edges in self._edges:
            np.greater(columns, edges, out=above)
            codes += above.view(np.uint8)
        if not whole:
            np.isfinite(columns, out=above)
            np.logical_not(above, out=above)
            np.copyto(codes, _INVALID, where=above)
        return codes

    def _score_codes(self, scores: Floats32) -> Counts:
        """Return (n,) the bin of every score; one beyond the last for NaN."""
        code = self._score_edges.searchsorted(scores, "left")
        code[np.isnan(scores)] = len(self._score_edges) + 1
        return code


def _test(one: Slice, feature: Feature) -> tuple[np.float32, np.float32, Floats32]:
    """Return the bounds (above, up to) and the values that put a row into ``one``."""
    # The largest float32, not inf: infinities are in no slice, as they are in no cell.
    low = np.float32(-np.inf if one.low is None else one.low)
    high = np.float32(_TOP if one.high is None else one.high)
    codes = [float(feature.vocabulary.index(word)) for word in one.words]
    return low, high, np.array(codes or one.values, np.float32)
