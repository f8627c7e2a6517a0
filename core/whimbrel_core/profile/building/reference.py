"""Build a baseline from the rows that a model was trained or validated on (build machine).

Cells of a numeric feature are cut at order statistics of the reference, never at interpolated
numbers, so that each edge is a float32 that occurs and shares are exact:

- 79 quantiles k/80: 80 is a multiple of ten, so deciles are unions of cells and PSI on deciles is
  exact after any merge;
- a tail ladder: quantiles .0005 .002 .01 .99 .998 .9995, one edge just below the minimum, the
  maximum, and Q1 − IQR·2^k, Q3 + IQR·2^k for k = 0 … 6, so that a drift far outside the reference
  still has a distance.

Sums are correctly rounded (`math.fsum`), so that equal rows give equal bytes on every machine.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from whimbrel_core.errors import ProfileError
from whimbrel_core.profile.baseline import Baseline, FeatureStats
from whimbrel_core.profile.counting.accumulator import Accumulator, rounded
from whimbrel_core.profile.counting.cells import cells_of
from whimbrel_core.profile.flat import flatten
from whimbrel_core.profile.layout import (
    MAX_VALUES,
    MAX_VOCABULARY,
    MAX_WORD_CHARS,
    Feature,
    Kind,
    Layout,
    Role,
    Task,
)
from whimbrel_core.profile.quality.calibration import calibrate, declare_errors, scores_of
from whimbrel_core.profile.quality.scores import EQUAL_EDGES, score_edges
from whimbrel_core.profile.slices import MAX_COARSE_EDGES

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from whimbrel_core.profile.counts import FeatureCounts
    from whimbrel_core.profile.descriptors import Descriptor
    from whimbrel_core.profile.slices import Slice
    from whimbrel_core.profile.window import Window

QUANTILE_CELLS = 80
_TAILS = (0.0005, 0.002, 0.01, 0.99, 0.998, 0.9995)
_RUNGS = tuple(2.0**k for k in range(7))
_REPEATS = 5  # values of a discrete feature occur this often on average; fewer are a continuum


@dataclass(frozen=True)
class ColumnSpec:
    """One column of reference data.

    Args:
        name: unique feature name.
        role: "input" or "output".
        tensor: name of the model's input or output tensor.
        column: index into the tensor's flattened trailing dimensions.
        values: (n,) numbers (any numeric or bool dtype; NaN is null) or strings (object, str or
            bytes dtype; None and NaN are null). All columns have the same n.
        unit: physical unit, or None.
        kind: None: decided from the values (see `build`).
    """

    name: str
    role: Role
    tensor: str
    column: int
    values: NDArray[Any]
    unit: str | None = None
    kind: Kind | None = None


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

    Kinds: strings are categorical; at most 64 distinct float32 values, which repeat, are discrete;
    else numeric. Score bins: `score_edges` of the reference rows' scores; where their columns are not
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
        labels: (m,) true classes of held-out rows, as class names or class indices; or their true
            values (regression with one output).
        scores: the model's probabilities on the same rows: (m,) or (m, 1) of the positive class,
            or (m, classes).
        predicted: (m,) predicted classes of the same rows; None: the largest probability, and
            with one column the positive class from one half on. Of a regression: predicted values.

    Raises:
        ProfileError: no rows, lengths that differ, unknown labels, or beyond the layout's limits.
    """
    _require_rows(columns)
    prepared = [_prepare(column) for column in columns]
    layout = Layout(
        task=task,
        features=tuple(
            _feature(column, values, kind)
            for column, (values, kind) in zip(columns, prepared, strict=True)
        ),
        classes=tuple(classes),
        positive=positive,
        score_tensor=score_tensor,
        descriptors=tuple(descriptors),
    )
    if task == "regression" and (labels is None) != (predicted is None):
        raise ProfileError("labels and predictions of held-out rows belong together")
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
        errors=(
            None
            if task != "regression" or labels is None or predicted is None
            else declare_errors(layout, flatten(window).cells, predicted, labels)
        ),
    )
    baseline.check()
    return baseline


def features(columns: Sequence[ColumnSpec]) -> tuple[Feature, ...]:
    """Return columns as features with cells of their own, for counting more rows than these.

    Raises:
        ProfileError: a column cannot be what its ``kind`` says.
    """
    prepared = [_prepare(column) for column in columns]
    return tuple(
        _feature(column, values, kind)
        for column, (values, kind) in zip(columns, prepared, strict=True)
    )


def _require_rows(columns: Sequence[ColumnSpec]) -> None:
    lengths = {column.name: len(np.asarray(column.values)) for column in columns}
    if not columns or min(lengths.values()) == 0:
        raise ProfileError("a baseline needs at least one column and one row")
    first = columns[0]
    for column in columns:
        if np.ndim(column.values) != 1:
            raise ProfileError(
                f"column {column.name!r} has shape {np.shape(column.values)}; (n,) is needed"
            )
        if lengths[column.name] != lengths[first.name]:
            raise ProfileError(
                f"column {column.name!r} has {lengths[column.name]} rows, "
                f"{first.name!r} has {lengths[first.name]}"
            )


def _prepare(column: ColumnSpec) -> tuple[NDArray[Any], Kind]:
    """Return float32 numbers with "numeric" or "discrete", or words with "categorical"."""
    values = np.asarray(column.values)
    numbers = _numbers(values)
    if numbers is None:
        if column.kind not in (None, "categorical"):
            raise ProfileError(f"column {column.name!r} holds strings and cannot be {column.kind}")
        return values, "categorical"
    if column.kind == "categorical":
        raise ProfileError(
            f"column {column.name!r} holds numbers and cannot be categorical",
            hint="convert it to strings if the model reads strings; else leave the kind out",
        )
    distinct = np.unique(numbers[np.isfinite(numbers)])
    if column.kind == "discrete" and len(distinct) > MAX_VALUES:
        raise ProfileError(
            f"column {column.name!r} has {len(distinct)} values and cannot be discrete "
            f"({MAX_VALUES} at most)"
        )
    few = len(distinct) <= MAX_VALUES
    repeats = len(distinct) <= 2 or len(distinct) * _REPEATS <= len(numbers)  # noqa: PLR2004 — a flag
    return numbers, column.kind or ("discrete" if few and repeats else "numeric")


def _numbers(values: NDArray[Any]) -> NDArray[np.float32] | None:
    """Return ``values`` as float32 (null is NaN), or None when they are strings."""
    if values.dtype.kind not in "fiubO":
        return None
    if values.dtype.kind == "O":
        if any(isinstance(value, (str, bytes)) for value in values.tolist()):
            return None
        values = values.astype(np.float64)
    with np.errstate(over="ignore", invalid="ignore"):
        numbers: NDArray[np.float32] = values.astype(np.float32)
        numbers += np.float32(0)  # −0.0 and 0.0 are one value
    return numbers


def _feature(column: ColumnSpec, values: NDArray[Any], kind: Kind) -> Feature:
    edges: tuple[float, ...] = ()
    known: tuple[float, ...] = ()
    vocabulary: tuple[str, ...] = ()
    centre, scale = 0.0, 1.0
    if kind == "categorical":
        vocabulary = _vocabulary(column.name, values)
    else:
        finite = np.sort(values[np.isfinite(values)])
        if len(finite):
            centre, sd = _moments(finite)
            scale = sd or 1.0
            if kind == "discrete":
                known = tuple(np.unique(finite).tolist())
            else:
                edges = _edges(finite, sd)
    return Feature(
        name=column.name,
        kind=kind,
        role=column.role,
        tensor=column.tensor,
        column=column.column,
        unit=column.unit,
        edges=edges,
        values=known,
        vocabulary=vocabulary,
        centre=centre,
        scale=scale,
    )


def _edges(ascending: NDArray[np.float32], sd: float) -> tuple[float, ...]:
    """Return the interior cell edges for sorted finite ``ascending`` (n,)."""
    n = len(ascending)

    def order_statistic(numerator: int, denominator: int) -> float:
        """Smallest value with at least this share of rows at or below it."""
        return float(ascending[max(-(-numerator * n // denominator) - 1, 0)])

    quantiles = [order_statistic(k, QUANTILE_CELLS) for k in range(1, QUANTILE_CELLS)]
    tails = [order_statistic(round(q * 10_000), 10_000) for q in _TAILS]
    low, high = ascending[0], ascending[-1]
    q1, q3 = order_statistic(1, 4), order_statistic(3, 4)
    step = (q3 - q1) or sd
    rungs = [edge for rung in _RUNGS for edge in (q1 - step * rung, q3 + step * rung)]
    with np.errstate(over="ignore"):
        edges = np.unique(np.array([*quantiles, *tails, high, *rungs], np.float32) + np.float32(0))
        below = np.nextafter(low, np.float32(-np.inf))
    edges = np.unique(np.append(edges, below))
    return tuple(edges[np.isfinite(edges)].tolist())


def _sliced(layout: Layout, slices: Sequence[Slice], columns: Sequence[NDArray[Any]]) -> Layout:
    """Return ``layout`` with slices, and the coarse edges that these need."""
    features = tuple(
        msgspec.structs.replace(feature, coarse=_coarse(feature, values))
        for feature, values in zip(layout.features, columns, strict=True)
    )
    return msgspec.structs.replace(layout, features=features, slices=tuple(slices))


def _coarse(feature: Feature, values: NDArray[Any]) -> tuple[float, ...]:
    """Return deciles of the reference that are edges of the feature, or its first nine words."""
    if feature.kind == "categorical":
        return tuple(map(float, range(min(MAX_COARSE_EDGES, len(feature.vocabulary)))))
    finite = np.sort(values[np.isfinite(values)])
    places = {max(-(-k * len(finite) // 10) - 1, 0) for k in range(1, 10)} if len(finite) else ()
    deciles = {float(finite[place]) for place in places}
    return tuple(sorted(edge for edge in deciles if edge < finite[-1]))


def _vocabulary(name: str, values: NDArray[Any]) -> tuple[str, ...]:
    """Return the most frequent words, ties in alphabetical order."""
    counted: Counter[str] = Counter()
    mixed = [
        type(v).__name__
        for v in values.tolist()
        if not isinstance(v, (str, bytes)) and not _null(v)
    ]
    if mixed:
        raise ProfileError(
            f"column {name!r} mixes strings with {mixed[0]} values",
            hint="a column of words holds strings, None or NaN",
        )
    for value, count in Counter(values.tolist()).items():
        if _null(value):
            continue
        try:
            word = value if isinstance(value, str) else value.decode()
        except UnicodeDecodeError:
            continue  # counted as `other`: a vocabulary is readable text
        if len(word) <= MAX_WORD_CHARS:
            counted[word] += count
    ranked = sorted(counted.items(), key=lambda item: (-item[1], item[0]))
    return tuple(word for word, _ in ranked[:MAX_VOCABULARY])


def _null(value: object) -> bool:
    return value is None or (isinstance(value, float) and math.isnan(value))


def _stats(feature: Feature, counts: FeatureCounts, values: NDArray[np.float32]) -> FeatureStats:
    n = counts.rows
    null_rate = counts.invalid / n
    finite = np.sort(values[np.isfinite(values)])
    if not feature.ordered:
        return FeatureStats(n=n, null_rate=null_rate)
    means = _cell_means(feature, finite)
    if not len(finite):
        return FeatureStats(n=n, null_rate=null_rate, cell_means=means)
    mean, sd = _moments(finite)
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
    if feature.kind == "discrete":
        return (*feature.values, feature.centre)
    edges = feature.edges
    if not edges:
        return (feature.centre,)
    cuts = [
        0,
        *ascending.searchsorted(np.array(edges, np.float32), "right").tolist(),
        len(ascending),
    ]
    inner = [(a + b) / 2 for a, b in pairwise(edges)]
    # The open cells have no middle: a point as far beyond the edge as the neighbour's middle is
    # inside of it.
    reach_low = (edges[1] - edges[0]) / 2 if len(edges) > 1 else 0.0
    reach_high = (edges[-1] - edges[-2]) / 2 if len(edges) > 1 else 0.0
    empty = [edges[0] - reach_low, *inner, edges[-1] + reach_high]
    return tuple(
        math.fsum(ascending[a:b].tolist()) / (b - a) if b > a else middle
        for a, b, middle in zip(cuts[:-1], cuts[1:], empty, strict=True)
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


def _moments(finite: NDArray[np.float32]) -> tuple[float, float]:
    """Return mean and (population) standard deviation, correctly rounded sums."""
    numbers = finite.tolist()
    mean = math.fsum(numbers) / len(numbers)
    return mean, math.sqrt(math.fsum((x - mean) ** 2 for x in numbers) / len(numbers))


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
