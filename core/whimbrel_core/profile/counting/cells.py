"""Sort values into the cells of a layout: the inner loop of profiles (numpy).

Rows are held as a float32 matrix with a column per feature, and one more for the score where no
feature is it already. Categories are codes: the index of the word, ``len(vocabulary)`` for any
other; NaN is null.

Two kernels give the same counts (`whimbrel_core.profile.counting.kernel`).
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from whimbrel_core.errors import ProfileError
from whimbrel_core.profile.counting.leaves import Leaves, rows_in
from whimbrel_core.profile.counting.ranks import Ranks
from whimbrel_core.profile.counting.repeats import Repeats
from whimbrel_core.profile.counting.slicing import Slicing

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from whimbrel_core.profile.counting.kernel import Kernel
    from whimbrel_core.profile.counting.tables import Counts, Floats, Floats32, Tables
    from whimbrel_core.profile.feature import Feature
    from whimbrel_core.profile.layout import Layout

_TOP = np.finfo(np.float32).max
_BLOCK_ROWS = 512  # transposed in pieces that stay in the cache
_FLOAT32_SQUARES = (1e-12, 1e12)  # scales whose squares, times many rows, float32 can hold


class Cells:
    """The cells of one layout, prepared for counting.

    Shared by everything of that layout in a process; its scratch memory makes it one thread's.
    """

    def __init__(self, layout: Layout) -> None:
        self.layout = layout
        features = layout.features
        self.score_column: int | None = None
        self.width = len(features)
        if layout.score_tensor is not None:
            self.score_column = next(
                (
                    index
                    for index, feature in enumerate(features)
                    if feature.kind != "categorical"
                    and feature.tensor == layout.score_tensor
                    and feature.column == layout.positive
                ),
                self.width,
            )
            self.width = max(self.width, self.score_column + 1)
        self.starts = np.cumsum([0, *(feature.cells for feature in features)]).tolist()
        self._ordered = np.array([feature.ordered for feature in features])
        self._all_ordered = bool(self._ordered.all())
        self._discrete = [i for i, feature in enumerate(features) if feature.kind == "discrete"]
        self._edges = [_lookup(feature) for feature in features]
        # "How many are at most this", as `Layout.score_bin`; NaN is above all of them.
        self._score_queries = np.array([*layout.score_edges, np.inf], np.float32)
        self._codes = [
            _code_table(feature) if feature.kind == "categorical" else {} for feature in features
        ]
        # Sums are of x − float32(centre), which float32 arithmetic rounds correctly; the rest of
        # the centre is put back per value counted.
        centres = np.array([feature.centre for feature in features])
        with np.errstate(over="ignore"):
            self._centres = centres.astype(np.float32)[:, np.newaxis]
        self._centre_rest = self._centres[:, 0].astype(np.float64) - centres
        self._exact = [
            i
            for i, feature in enumerate(features)
            if not _FLOAT32_SQUARES[0] < feature.scale < _FLOAT32_SQUARES[1]
        ]
        self._prepare_queries(features)
        self._repeats = Repeats(layout)
        self._leaves = None if layout.error_tree is None else Leaves(layout.error_tree)
        self.slicing = Slicing(layout, self.score_column) if layout.slices else None
        # A float32 holds the squares of these, and they have no cells without order.
        self._simple = not self._exact and all(one.kind == "numeric" for one in features)
        self._ones = np.ones(0, np.float32)
        # Scratch of the kernels, kept because fresh pages cost as much as the counting.
        self._scratch = np.empty((self.width, 0), np.float32)

    def _prepare_queries(self, features: tuple[Feature, ...]) -> None:
        """Say what is looked up, and where in the flat results each cell begins and ends."""
        all_queries = [_queries(feature) for feature in features]
        ends = np.cumsum([len(queries) for queries in all_queries])
        lookups = list(enumerate(all_queries))
        self._scores_at = int(ends[-1])
        if self.score_column is not None:
            lookups.append((self.score_column, self._score_queries))
        self._ranks = Ranks(lookups)
        self._slots = []
        lower, upper, at = [], [], 0
        for feature, queries in zip(features, all_queries, strict=True):
            self._slots.append((at, at + len(queries)))
            last = at + len(queries) - 2
            if feature.kind == "discrete":
                lower += [*range(at + 1, last, 2), last]
                upper += [*range(at + 2, last, 2), last]  # `other` is what the rest leaves
            else:
                lower += range(at, last)
                upper += range(at + 1, last + 1)
            at += len(queries)
        self._lower, self._upper = np.array(lower), np.array(upper)
        self._first = np.array([start for start, _ in self._slots])
        self._last, self._valid = ends - 2, ends - 1
        self._index = np.arange(len(features))

    def encode(self, index: int, values: NDArray[Any]) -> Floats32:
        """Return the words ``values`` (n,) as codes (n,) float32. Raises `ProfileError`."""
        codes = self._codes[index]
        feature = self.layout.features[index]
        if values.dtype.kind not in "OSUT":
            raise ProfileError(
                f"feature {feature.name!r} is categorical and got {values.dtype} numbers",
                code="profile.dtype",
            )
        other = float(len(feature.vocabulary))
        try:
            # NaN is not equal to itself, so a dict cannot find it: it falls to `_code_of_rare`.
            found = [
                code if (code := codes.get(word)) is not None else _code_of_rare(word, other)
                for word in values.tolist()
            ]
        except TypeError:
            raise ProfileError(
                f"feature {feature.name!r} is categorical and got something that is no string",
                code="profile.dtype",
            ) from None
        return np.array(found, np.float32)

    def count(self, rows: Floats32, into: Tables, kernel: Kernel) -> None:
        """Add ``rows`` (n, width) to the tables ``into``; ``rows`` is unchanged."""
        if not len(rows):
            return
        n = len(rows)
        if n > self._scratch.shape[1]:
            self._scratch = np.empty((self.width, n), np.float32)
            self._ones = np.ones(n, np.float32)
        columns = self._scratch[:, :n]
        for at in range(0, n, _BLOCK_ROWS):
            columns[:, at : at + _BLOCK_ROWS] = rows[at : at + _BLOCK_ROWS].T
        # The sum of squares is finite only where all numbers are: cheaper than asking for each.
        flat = rows.reshape(-1)
        with np.errstate(over="ignore", invalid="ignore", under="ignore"):
            whole = bool(flat.dot(flat) < np.inf)
        self._repeats.count(columns, rows, into, whole=whole)
        self._count_groups(columns, into, whole=whole)
        if kernel == "sorted":
            if whole and self._simple:
                found = self._count_whole(columns, rows, into)
            else:
                found = self._count_sorted(columns, rows, into)
            if self.score_column is not None:
                into.scores += np.diff(found[self._scores_at :], prepend=0)
        else:
            for index, feature in enumerate(self.layout.features):
                self._count_plain(index, feature, columns[index], into)
            if self.score_column is not None:
                found = np.sort(columns[self.score_column]).searchsorted(
                    self._score_queries, "right"
                )
                into.scores += np.diff(found, prepend=0)
        into.rows += n

    def _count_groups(self, columns: Floats32, into: Tables, *, whole: bool) -> None:
        """Count rows by the leaf of the error tree that they end in, and by slice."""
        leaves = None
        if self._leaves is not None:
            leaves = self._leaves.masks(columns)
            into.scores += rows_in(leaves)
        if self.slicing is not None:
            self.slicing.count(columns, into, whole=whole, leaves=leaves)

    def _count_whole(self, columns: Floats32, rows: Floats32, into: Tables) -> Counts:
        """Do as `_count_sorted` where all features are numeric and all numbers finite."""
        found, negative = self._ranks.of_bits(columns)
        n = columns.shape[1]
        columns, negative = columns[: len(self._slots)], negative[: len(self._slots)]
        into.cells += found.take(self._upper)
        into.cells -= found.take(self._lower)
        # The negative ones are first, the smallest of them last.
        low = columns[self._index, np.maximum(negative - 1, 0)]
        high = columns[self._index, np.where(negative < n, n - 1, 0)]
        np.fmin(into.low, low, out=into.low)
        np.fmax(into.high, high, out=into.high)
        with np.errstate(over="ignore", invalid="ignore", under="ignore"):
            columns -= self._centres
            total = columns.dot(self._ones[:n]) + n * self._centre_rest
            squares = np.vecdot(columns, columns).astype(np.float64)
        for index in np.flatnonzero(~np.isfinite(squares)).tolist():
            total[index], squares[index] = self._exact_sums(index, rows[:, index])
        into.total += total
        into.squares += squares
        return found

    def _count_sorted(self, columns: Floats32, rows: Floats32, into: Tables) -> Counts:
        """Count ``columns`` (width, n) of ``rows`` (n, width), and return all ranks.

        ``columns`` is used up.
        """
        found = self._ranks.of_floats(columns)
        into.cells += found.take(self._upper) - found.take(self._lower)
        first, last = found.take(self._first), found.take(self._last)
        valid = found.take(self._valid)
        finite = last - first
        for index in self._discrete:
            stop = self.starts[index + 1]
            at = self._slots[index][0]
            known = int((found[at + 2 : self._last[index] : 2]).sum()) - int(
                (found[at + 1 : self._last[index] : 2]).sum()
            )
            into.cells[stop - 1] += int(finite[index]) - known
        n = columns.shape[1]
        into.neg_inf += first
        into.pos_inf += valid - last
        into.nulls += n - valid
        seen = finite > 0 if self._all_ordered else (finite > 0) & self._ordered
        low = columns[self._index, np.minimum(first, n - 1)]
        high = columns[self._index, last - 1]
        np.fmin(into.low, low, out=into.low, where=seen)
        np.fmax(into.high, high, out=into.high, where=seen)
        total, squares = self._sums(columns[: len(finite)], first, last)
        beyond = ~(np.isfinite(total) & np.isfinite(squares))
        for index in {*self._exact, *np.flatnonzero(beyond).tolist()}:
            values = rows[:, index]
            total[index], squares[index] = self._exact_sums(index, values[np.isfinite(values)])
        np.add(into.total, total, out=into.total, where=seen)
        np.add(into.squares, squares, out=into.squares, where=seen)
        return found

    def _sums(self, columns: Floats32, first: Counts, last: Counts) -> tuple[Floats, Floats]:
        """Return Σ (x − centre) and Σ (x − centre)² of ``columns`` (F, n), which are used up.

        In float32, with a relative error of about 1e-6; not finite where that overflows.
        """
        n = columns.shape[1]
        finite = last - first
        with np.errstate(over="ignore", invalid="ignore", under="ignore"):
            columns -= self._centres
            for index in np.flatnonzero(finite < n).tolist():
                columns[index, : first[index]] = 0
                columns[index, last[index] :] = 0
            total = np.vecdot(columns, np.ones(n, np.float32)).astype(np.float64)
            squares = np.vecdot(columns, columns).astype(np.float64)
        return total + finite * self._centre_rest, squares

    def _exact_sums(self, index: int, finite: Floats32) -> tuple[float, float]:
        """Return Σ (x − centre) and Σ (x − centre)² in float64."""
        distance = finite - np.float64(self.layout.features[index].centre)
        return float(distance.sum()), float(distance.dot(distance))

    def _count_plain(self, index: int, feature: Feature, column: Floats32, into: Tables) -> None:
        finite = column[np.isfinite(column)]
        if len(finite) < len(column):
            nulls = int(np.isnan(column).sum())
            above = int((column == np.inf).sum())
            into.nulls[index] += nulls
            into.pos_inf[index] += above
            into.neg_inf[index] += len(column) - len(finite) - nulls - above
        points = self._edges[index]
        cell = points.searchsorted(finite, "left")
        if feature.kind == "discrete" and len(points):
            # A value between two known ones belongs to `other`, not to the next one.
            cell[points[np.minimum(cell, len(points) - 1)] != finite] = len(points)
        cells = into.cells[self.starts[index] : self.starts[index + 1]]
        cells += np.bincount(cell, minlength=len(cells))
        if len(finite) and feature.ordered:
            total, squares = self._exact_sums(index, finite)
            into.total[index] += total
            into.squares[index] += squares
            into.low[index] = np.fmin(into.low[index], finite.min())
            into.high[index] = np.fmax(into.high[index], finite.max())


@lru_cache(maxsize=32)
def cells_of(layout: Layout) -> Cells:
    """Return the prepared cells of ``layout``, made once per process."""
    return Cells(layout)


def _lookup(feature: Feature) -> Floats32:
    """Return the ascending points at which the plain kernel looks values up."""
    if feature.kind == "categorical":
        return np.arange(len(feature.vocabulary), dtype=np.float32)
    return np.array(feature.edges or feature.values, np.float32)


def _queries(feature: Feature) -> Floats32:
    """Return what the sorted kernel looks up, all "how many are at most this".

    −inf, then the edges (numeric, categorical) or each value with its lower neighbour (discrete),
    then the largest finite number and inf.
    """
    points = _lookup(feature)
    if feature.kind == "discrete":
        below = np.nextafter(points, np.float32(-np.inf))
        points = np.column_stack([below, points]).ravel()
    ends = np.array([-np.inf, _TOP, np.inf], np.float32)
    return np.concatenate([ends[:1], points, ends[1:]])


def _code_table(feature: Feature) -> dict[object, float]:
    table: dict[object, float] = {}
    for code, word in enumerate(feature.vocabulary):
        table[word] = table[word.encode()] = float(code)
    return table


def _code_of_rare(word: object, other: float) -> float:
    missing = word is None or (isinstance(word, float) and word != word)  # noqa: PLR0124 — NaN
    return float("nan") if missing else other
