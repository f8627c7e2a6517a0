"""Grow the error tree of a regression, from held-out rows (build machine).

A tree is grown best split first: of all leaves and all thresholds, the one that takes most off the
squared distance to the leaves' means. What is told apart is |e| and e², each in its own standard
deviations, so that expected MAE and RMSE profit alike (e² alone would chase a few outliers).
Thresholds are the edges, values and words of the layout's own cells: one histogram per feature and
node tries them all.

A leaf has at least 20 held-out rows and a three-hundredth of all, and its means are not shrunk: under
drift rows gather in few leaves, and whatever pulls these towards the mean of the reference makes the
drift look harmless. Growing on one half and taking means of the other was worse than both on all.

Sums are added in the order of rows, and rounded correctly where numpy's order is its own, so that
equal rows give equal bytes on every machine.
"""

from __future__ import annotations

import math
from heapq import heappop, heappush
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from whimbrel_core.errors import ProfileError
from whimbrel_core.profile.counting.leaves import Leaves
from whimbrel_core.profile.errortree import MAX_DEPTH, MAX_LEAVES, ErrorTree, Split
from whimbrel_core.profile.quality.errormodel import ErrorModel

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from whimbrel_core.profile.feature import Feature

    Floats = NDArray[np.float64]
    Floats32 = NDArray[np.float32]
    Indices = NDArray[np.intp]

LEAST_ROWS = 20
_LEAST_SHARE = 300  # one of so many rows
_MOST_ROWS = 100_000  # more of them tell no more, and take their time
_NO_GAIN = 1e-9  # of the variance of all rows: less is rounding


def held_out(
    features: Sequence[Feature], columns: Sequence[Floats32], labels: NDArray[Any]
) -> tuple[list[Floats32], Floats]:
    """Return the rows of known error, as for `grow`, and how far off each was.

    Args:
        features: of a regression with one output.
        columns: (n,) of each feature, all reference rows.
        labels: (n,) true values; NaN where there is none, or the model was trained on the row.

    Raises:
        ProfileError: it does not predict one number, lengths that differ, or no such row.
    """
    outputs = [index for index, one in enumerate(features) if one.role == "output"]
    if len(outputs) != 1 or not features[outputs[0]].ordered:
        raise ProfileError(
            "an error is expected of a regression that predicts one number, and this layout has "
            f"{len(outputs)} outputs"
        )
    predicted, truth = columns[outputs[0]], np.asarray(labels, np.float64).ravel()
    if len(predicted) != len(truth):
        raise ProfileError(
            f"{len(truth)} labels and {len(predicted)} reference rows must be equally many",
            hint="NaN stands for a label that is not known, or was trained on",
        )
    with np.errstate(over="ignore", invalid="ignore"):
        error = predicted.astype(np.float64) - truth
        known = np.isfinite(error**2)
    if not known.any():
        raise ProfileError("an expected error needs held-out rows with a label and a prediction")
    return [column[known] for column in columns], error[known]


def error_model(tree: ErrorTree, columns: Sequence[Floats32], error: Floats) -> ErrorModel:
    """Return how far off rows were in each leaf of ``tree``; arguments as for `grow`."""
    leaf = Leaves(tree).of(np.stack(columns))
    own = [error[leaf == index] for index in range(tree.leaves)]
    return ErrorModel(
        rows=tuple(map(len, own)),
        absolute=tuple(_mean(np.abs(one)) for one in own),
        squared=tuple(_mean(one**2) for one in own),
    )


def _mean(values: Floats) -> float:
    return math.fsum(values.tolist()) / len(values)


class _Cut(NamedTuple):
    """The best split of a node: which feature, and up to which of its thresholds goes left."""

    gain: float
    feature: int
    place: int


class _Node:
    """A leaf, until it is split."""

    def __init__(self, rows: Indices, depth: int) -> None:
        self.rows, self.depth = rows, depth
        self.split: Split | None = None
        self.parts: tuple[_Node, _Node] | None = None

    def walk(self) -> list[Split | None]:
        """Return the nodes from here on in the order of `ErrorTree`."""
        if self.parts is None:
            return [None]
        left, right = self.parts
        return [self.split, *left.walk(), *right.walk()]


def grow(features: Sequence[Feature], columns: Sequence[Floats32], error: Floats) -> ErrorTree:
    """Return the tree whose leaves tell best how large ``error`` is.

    Args:
        features: of the layout.
        columns: (m,) of each feature, m ≥ 1 rows as in the ring: words are places.
        error: (m,) predicted − true, finite.
    """
    step = -(-len(error) // _MOST_ROWS)
    ground = _Ground(features, [column[::step] for column in columns], error[::step])
    root = _Node(np.arange(ground.rows), 0)
    leaves, heap = 1, list[tuple[float, int, _Node, _Cut]]()

    def consider(node: _Node, number: int) -> None:
        cut = ground.best(node.rows) if node.depth < MAX_DEPTH else None
        if cut is not None:
            heappush(heap, (-cut.gain, number, node, cut))

    consider(root, 0)
    while heap and leaves < MAX_LEAVES:
        _, _, node, cut = heappop(heap)
        node.split = Split(cut.feature, float(ground.thresholds[cut.feature][cut.place]))
        left = ground.codes[cut.feature][node.rows] <= cut.place
        node.parts = tuple(_Node(node.rows[side], node.depth + 1) for side in (left, ~left))  # type: ignore[assignment]
        for number, part in enumerate(node.parts or ()):
            consider(part, 2 * leaves + number)
        leaves += 1
    return ErrorTree(tuple(root.walk()))


class _Ground:
    """Rows to grow on: the thresholds that each value is above, and how far off the row was."""

    def __init__(
        self, features: Sequence[Feature], columns: Sequence[Floats32], error: Floats
    ) -> None:
        self.rows = len(error)
        self.thresholds = [thresholds(feature) for feature in features]
        self.codes = [
            _codes(numbers, column)
            for numbers, column in zip(self.thresholds, columns, strict=True)
        ]
        self._bins = max(map(len, self.thresholds)) + 1
        self._least = max(LEAST_ROWS, -(-self.rows // _LEAST_SHARE))
        self._errors = [one for one in map(_standardised, (np.abs(error), error**2)) if one.any()]

    def best(self, rows: Indices) -> _Cut | None:
        """Return the split of ``rows`` that tells most; None where none tells anything."""
        n = len(rows)
        if n < 2 * self._least:
            return None
        errors = [error[rows] for error in self._errors]
        left = np.zeros((len(self.codes), self._bins))
        sums = np.zeros((len(errors), *left.shape))
        for index, codes in enumerate(self.codes):
            own = codes[rows]
            left[index] = np.bincount(own, minlength=self._bins)
            for target, error in enumerate(errors):
                sums[target, index] = np.bincount(own, error, minlength=self._bins)
        left, sums = left.cumsum(axis=1), sums.cumsum(axis=2)
        fits = (left >= self._least) & (n - left >= self._least)
        if not fits.any():
            return None
        gain = np.zeros_like(left)
        for total in sums:
            whole = total[0, -1]
            with np.errstate(divide="ignore", invalid="ignore"):
                gain += total**2 / left + (whole - total) ** 2 / (n - left) - whole**2 / n
        gain = np.where(fits, gain, -np.inf)
        feature, place = divmod(int(gain.argmax()), self._bins)
        if gain[feature, place] <= _NO_GAIN * self.rows:
            return None
        return _Cut(float(gain[feature, place]), feature, place)


def thresholds(feature: Feature) -> Floats32:
    """Return the ascending float32 numbers that values of ``feature`` may be compared with.

    The least tells what is missing from what is there.
    """
    if feature.kind == "categorical":
        return np.arange(-1, len(feature.vocabulary), dtype=np.float32)
    found = np.array(feature.edges or feature.values, np.float32)
    if feature.kind == "discrete" and len(found):
        found = np.insert(found, 0, np.nextafter(found[0], np.float32(-np.inf)))
    return found[np.isfinite(found)]


def _codes(numbers: Floats32, column: Floats32) -> NDArray[np.uint8]:
    """Return (m,) how many of ``numbers`` each value is greater than."""
    codes = numbers.searchsorted(column, "left").astype(np.uint8)
    codes[np.isnan(column)] = 0
    return codes


def _standardised(values: Floats) -> Floats:
    """Return ``values`` about their mean in standard deviations; zeros where all are the same."""
    with np.errstate(over="ignore", invalid="ignore"):
        about = values - math.fsum(values.tolist()) / len(values)
        sd = math.sqrt(math.fsum((about**2).tolist()) / len(values))
    if not 0 < sd < math.inf:
        return np.zeros(len(values))
    standard: Floats = about / sd
    return standard
