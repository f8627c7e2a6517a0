"""Build a baseline from the rows that a model was trained or validated on (build machine).

The columns' cells are cut first, then all rows are counted in them as a device counts its own.
Sums are correctly rounded (`math.fsum`), so that equal rows give equal bytes on every machine.
"""

from __future__ import annotations

import math
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from whimbrel_core.errors import ProfileError
from whimbrel_core.profile.baseline import Baseline, FeatureStats
from whimbrel_core.profile.building.columns import prepare, require_rows
from whimbrel_core.profile.building.dataset import middles
from whimbrel_core.profile.building.features import coarse_edges, feature_of, moments
from whimbrel_core.profile.counting.accumulator import Accumulator, rounded
from whimbrel_core.profile.counting.cells import cells_of
from whimbrel_core.profile.layout import Layout
from whimbrel_core.profile.quality.calibration import calibrate, scores_of
from whimbrel_core.profile.quality.growing import error_model, grow, held_out
from whimbrel_core.profile.quality.scores import EQUAL_EDGES, score_edges

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from whimbrel_core.profile.building.columns import ColumnSpec
    from whimbrel_core.profile.counts import FeatureCounts
    from whimbrel_core.profile.descriptors import Descriptor
    from whimbrel_core.profile.feature import Feature, Kind
    from whimbrel_core.profile.layout import Task
    from whimbrel_core.profile.slices import Slice
    from whimbrel_core.profile.window import Window


def build(
    columns: Sequence[ColumnSpec],
    *,
    task: Task,
    classes: Sequence[str] = (),
    positive: int | None = None,
    score_tensor: str | None = None,
    descriptors: Sequence[Descriptor] = (),
    slices: Sequence[Slice] = (),
    labels: NDArray[Any] | None = None,
    scores: NDArray[Any] | None = None,
    predicted: NDArray[Any] | None = None,
) -> Baseline:
    """Return the baseline of reference ``columns``.

    Score bins: `score_edges` of the reference rows' scores; where their columns are not
    profiled, of ``scores``; without these, equal bins over [0, 1].

    Args:
        columns: inputs and outputs of the model on the same n ≥ 1 reference rows.
        task: "classification" or "regression".
        classes: class names by index (classification).
        positive: index of the positive class of a two-class model, or None.
        score_tensor: output tensor of the probabilities; required with ``scores``. None: scores
            are not profiled.
        descriptors: that made some of the columns; those name the tensors that they make.
        slices: segments of the rows that get a small profile of their own.
        labels: (m,) true classes of held-out rows, as class names or class indices. Of a regression
            with one output: (n,) true values of the reference rows, NaN where they are not known
            or were trained on.
        scores: the model's probabilities on the same rows: (m,) or (m, 1) of the positive class,
            or (m, classes).
        predicted: (m,) predicted classes of the same rows; None: the largest probability, and
            with one column the positive class from one half on.

    Raises:
        ProfileError: no rows, lengths that differ, unknown labels, or beyond the layout's limits.
    """
    require_rows(columns)
    prepared = [prepare(column) for column in columns]
    layout = Layout(
        task=task,
        features=tuple(
            feature_of(column, values, kind)
            for column, (values, kind) in zip(columns, prepared, strict=True)
        ),
        classes=tuple(classes),
        positive=positive,
        score_tensor=score_tensor,
        descriptors=tuple(descriptors),
    )
    if task == "regression" and predicted is not None:
        raise ProfileError("what a regression predicts is its output column; leave predicted out")
    if task == "classification" and (scores is None) != (labels is None):
        raise ProfileError("scores and labels of held-out rows belong together; one is missing")
    known = _reference_scores(columns, prepared, layout)
    if layout.score_tensor is not None:
        if known is None and scores is not None:
            edges = score_edges(scores_of(layout, scores))
        else:
            edges = EQUAL_EDGES if known is None else score_edges(known)
        layout = msgspec.structs.replace(layout, score_edges=edges)
    if slices:
        layout = _sliced(layout, slices, [values for values, _ in prepared])
    cells = cells_of(layout)
    encoded = [
        cells.encode(index, values) if kind == "categorical" else values
        for index, (values, kind) in enumerate(prepared)
    ]
    errors = None
    if task == "regression" and labels is not None:
        told = held_out(layout.features, encoded, labels)
        tree = grow(layout.features, *told)
        layout = msgspec.structs.replace(layout, error_tree=tree)
        errors = error_model(tree, *told)
    if cells.width > len(columns):
        encoded.append(np.full(len(encoded[0]), np.nan, np.float32) if known is None else known)
    accumulator = Accumulator(layout)
    accumulator.update_rows(np.column_stack(encoded))
    window = _with_exact_sums(accumulator.window(0, 0), layout, encoded)
    baseline = Baseline(
        layout=layout,
        window=window,
        stats=tuple(
            _stats(feature, counts, values)
            for feature, counts, values in zip(
                layout.features, window.features, encoded, strict=False
            )
        ),
        calibration=(
            None
            if scores is None or labels is None
            else calibrate(layout, labels, scores, predicted)
        ),
        errors=errors,
    )
    baseline.check()
    return baseline


def _sliced(layout: Layout, slices: Sequence[Slice], columns: Sequence[NDArray[Any]]) -> Layout:
    """Return ``layout`` with slices, and the coarse edges that these need."""
    features = tuple(
        msgspec.structs.replace(feature, coarse=coarse_edges(feature, values))
        for feature, values in zip(layout.features, columns, strict=True)
    )
    return msgspec.structs.replace(layout, features=features, slices=tuple(slices))


def _stats(feature: Feature, counts: FeatureCounts, values: NDArray[np.float32]) -> FeatureStats:
    n = counts.rows
    null_rate = counts.invalid / n
    finite = np.sort(values[np.isfinite(values)])
    if not feature.ordered:
        return FeatureStats(n=n, null_rate=null_rate)
    means = _cell_means(feature, finite)
    if not len(finite):
        return FeatureStats(n=n, null_rate=null_rate, cell_means=means)
    mean, sd = moments(finite)
    return FeatureStats(
        n=n,
        null_rate=null_rate,
        mean=mean,
        sd=sd,
        min=float(finite[0]),
        max=float(finite[-1]),
        cell_means=means,
    )


def _cell_means(feature: Feature, ascending: NDArray[np.float32]) -> tuple[float, ...]:
    points = middles(feature)
    if feature.kind == "discrete" or not feature.edges:
        return points
    at = ascending.searchsorted(np.array(feature.edges, np.float32), "right").tolist()
    cuts = [0, *at, len(ascending)]
    return tuple(
        math.fsum(ascending[a:b].tolist()) / (b - a) if b > a else middle
        for (a, b), middle in zip(pairwise(cuts), points, strict=True)
    )


def _with_exact_sums(
    window: Window, layout: Layout, encoded: Sequence[NDArray[np.float32]]
) -> Window:
    """Return ``window`` with correctly rounded sums: a kernel's depend on the CPU in the last bits."""
    features = []
    for feature, counts, values in zip(layout.features, window.features, encoded, strict=False):
        if not feature.ordered:
            features.append(counts)
            continue
        finite = values[np.isfinite(values)].tolist()
        total = math.fsum(value - feature.centre for value in finite)
        squares = math.fsum((value - feature.centre) ** 2 for value in finite)
        features.append(
            msgspec.structs.replace(
                counts,
                total=rounded(total, feature.total_quantum),
                squares=rounded(squares, feature.squares_quantum),
            )
        )
    return msgspec.structs.replace(window, features=tuple(features))


def _reference_scores(
    columns: Sequence[ColumnSpec], prepared: Sequence[tuple[NDArray[Any], Kind]], layout: Layout
) -> NDArray[np.float32] | None:
    """Return the score of every reference row, None where its columns are not profiled."""
    found = {
        column.column: values
        for column, (values, kind) in zip(columns, prepared, strict=True)
        if column.tensor == layout.score_tensor and kind != "categorical"
    }
    if layout.positive is not None:
        return found.get(layout.positive, found[0] if set(found) == {0} else None)
    if layout.classes and set(found) == set(range(len(layout.classes))):
        best: NDArray[np.float32] = np.max(list(found.values()), axis=0)
        return best
    return None
