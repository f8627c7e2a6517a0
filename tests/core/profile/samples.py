"""Layouts, baselines and rows that the tests of profiles share."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
from hypothesis import strategies as st

from whimbrel_core.profile.building.columns import ColumnSpec
from whimbrel_core.profile.building.reference import build
from whimbrel_core.profile.counting.accumulator import Accumulator
from whimbrel_core.profile.errortree import ErrorTree, Split
from whimbrel_core.profile.feature import Feature
from whimbrel_core.profile.layout import Layout
from whimbrel_core.profile.quality.scores import EQUAL_EDGES
from whimbrel_core.profile.slices import Slice
from whimbrel_core.profile.window import (
    FeatureCounts,
    OpsCounts,
    QualityCounts,
    SliceCounts,
    Window,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from whimbrel_core.profile.baseline import Baseline
    from whimbrel_core.profile.counting.kernel import Kernel

WORDS = np.array(["AA", "DL", "UA", "WN"], object)

SMALL = Layout(
    task="classification",
    features=(
        Feature(
            name="temp", kind="numeric", role="input", tensor="temp", edges=(0.0, 10.0, 20.0),
            unit="degC", centre=9.5, scale=8.0,
        ),
        Feature(name="hour", kind="discrete", role="input", tensor="hour", values=(5.0, 6.0, 7.0)),
        Feature(
            name="carrier", kind="categorical", role="input", tensor="carrier",
            vocabulary=("UA", "AA"),
        ),
        Feature(
            name="p_late", kind="numeric", role="output", tensor="probabilities", column=1,
            edges=(0.125, 0.25, 0.5), centre=0.25, scale=0.25,
        ),
    ),
    classes=("on time", "late"),
    positive=1,
    score_tensor="probabilities",
    score_edges=EQUAL_EDGES,
)  # fmt: skip


def _with_coarse(feature: Feature, *edges: float) -> Feature:
    return msgspec.structs.replace(feature, coarse=edges)


SLICED = msgspec.structs.replace(
    SMALL,
    features=(
        _with_coarse(SMALL.features[0], 0.0, 20.0),
        _with_coarse(SMALL.features[1], 6.0),
        _with_coarse(SMALL.features[2], 0.0, 1.0),
        SMALL.features[3],
    ),
    slices=(
        Slice(name="united", feature="carrier", words=("UA",)),
        Slice(name="any known", feature="carrier", words=("UA", "AA")),
        Slice(name="rush", feature="hour", values=(6.0, 7.0)),
        Slice(name="mild", feature="temp", low=0.0, high=10.5),
        Slice(name="likely", feature="p_late", low=0.5),
        Slice(name="early", feature="hour", high=5.0),
    ),
)

REGRESSION = Layout(
    task="regression",
    features=(
        _with_coarse(SMALL.features[0], 0.0, 20.0),
        _with_coarse(SMALL.features[2], 0.0, 1.0),
        Feature(
            name="delay", kind="numeric", role="output", tensor="delay", edges=(0.0, 15.0, 60.0),
            unit="min", centre=10.0, scale=20.0, coarse=(15.0,),
        ),
    ),
    slices=(
        Slice(name="united", feature="carrier", words=("UA",)),
        Slice(name="mild", feature="temp", low=0.0, high=10.5),
    ),
    error_tree=ErrorTree(
        (
            Split(2, 15.0),
            Split(0, 10.0), None, Split(1, 0.0), None, None,
            Split(0, 0.0), None, None,
        )
    ),
)  # fmt: skip


def flight_rows(
    seed: int, n: int, *, shift: float = 0.0, unseen: float = 0.0, missing: float = 0.01
) -> dict[str, NDArray[Any]]:
    """Return tensors of a late-flight classifier: numeric matrix, hour, carrier, probabilities."""
    rng = np.random.default_rng(seed)
    x = rng.normal(10, 5, size=(n, 3)).astype(np.float32)
    x[:, 1] = np.exp(x[:, 1] / 5)
    x[:, 0] += 5 * shift
    x[rng.random((n, 3)) < missing] = np.nan
    hour = rng.integers(5, 23, size=(n, 1))
    carrier = WORDS[rng.choice(4, n, p=[0.4, 0.3, 0.2, 0.1])]
    carrier[: round(unseen * n)] = "ZZ"
    late = rng.beta(2, 5, size=n).astype(np.float32)
    return {
        "x": x,
        "hour": hour,
        "carrier": carrier.reshape(-1, 1),
        "probabilities": np.column_stack([1 - late, late]),
    }


FLIGHT_SLICES = (
    Slice(name="American", feature="carrier", words=("AA",)),
    Slice(name="evening", feature="hour", low=17.0),
    Slice(name="frost", feature="temp", high=0.0),
)


@lru_cache(maxsize=2)
def flight_baseline(slices: tuple[Slice, ...] = ()) -> Baseline:
    """Return the baseline of 20,000 reference rows with labels that come true as scored."""
    rows = flight_rows(0, 20_000)
    late = rows["probabilities"][:, 1]
    return build(
        [
            ColumnSpec("temp", "input", "x", 0, rows["x"][:, 0], unit="degC"),
            ColumnSpec("precip", "input", "x", 1, rows["x"][:, 1]),
            ColumnSpec("wind", "input", "x", 2, rows["x"][:, 2]),
            ColumnSpec("hour", "input", "hour", 0, rows["hour"][:, 0]),
            ColumnSpec("carrier", "input", "carrier", 0, rows["carrier"][:, 0]),
            ColumnSpec("p_late", "output", "probabilities", 1, late),
        ],
        task="classification",
        classes=["on time", "late"],
        positive=1,
        score_tensor="probabilities",
        labels=(np.random.default_rng(9).random(len(late)) < late).astype(int),
        scores=late,
        slices=slices,
    )


def flight_window(seed: int, n: int, *, kernel: Kernel | None = None, **changes: float) -> Window:
    """Return the window of ``n`` rows."""
    accumulator = Accumulator(flight_baseline(), kernel=kernel)
    accumulator.update(flight_rows(seed, n, **changes))
    return accumulator.window(seed * 3_600_000, (seed + 1) * 3_600_000)


@st.composite
def windows(draw: st.DrawFn, layout: Layout = SMALL) -> Window:
    """Draw a window of ``layout`` whose counts add up.

    Hypothesis chooses what is there and how large it is; the many counts come from one seed, because
    drawing each by itself takes a hundred times as long.
    """
    rng = np.random.default_rng(draw(st.integers(0, 1 << 32)))
    rows = draw(st.one_of(st.just(0), st.integers(1, 300), st.integers(1, 1 << 40)))
    start = draw(st.integers(0, 1 << 41))
    latency = _up_to(rng, 1 << 20, 32)
    rejected, failed, mistyped = sorted(_up_to(rng, 1 << 20, 3), reverse=True)
    labels = draw(st.one_of(st.just(0), st.integers(1, 1 << 20)))
    return Window(
        profile_id=layout.profile_id,
        start_ms=start,
        end_ms=start + draw(st.integers(0, 1 << 36)),
        rows=rows,
        features=tuple(_features(draw, rng, feature.cells, rows) for feature in layout.features),
        ops=OpsCounts(sum(latency), rejected, failed, latency, mistyped),
        quality=_quality(rng, layout, labels),
        score_cells=_parts(rng, rows, layout.score_cells),
        duplicates=int(rng.integers(0, rows + 1)),
        slices=tuple(_slice(rng, layout, rows, labels) for _ in layout.slices),
    )


def _slice(rng: np.random.Generator, layout: Layout, rows: int, labels: int) -> SliceCounts:
    inside = int(rng.integers(0, rows + 1))
    return SliceCounts(
        rows=inside,
        cells=tuple(_parts(rng, inside, size + 1)[:-1] for size in layout.coarse_sizes),
        scores=_parts(rng, inside, layout.score_cells + 1)[:-1],
        quality=_quality(rng, layout, int(rng.integers(0, labels + 1))),
    )


# Sums as an accumulator rounds them: multiples of a power of two, so that they add exactly.
_values = st.floats(-(2.0**100), 2.0**100, width=32)


def _features(draw: st.DrawFn, rng: np.random.Generator, cells: int, rows: int) -> FeatureCounts:
    *counts, nulls, pos_inf, neg_inf = _parts(rng, rows, cells + 3)
    repeats = int(rng.integers(0, rows + 1))
    if not sum(counts):
        return FeatureCounts(tuple(counts), nulls, pos_inf, neg_inf, repeats=repeats)
    low, high = sorted([draw(_values), draw(_values)])
    total, squares = (int(steps) / 4096 for steps in rng.integers(-(1 << 40), 1 << 40, 2))
    return FeatureCounts(
        tuple(counts), nulls, pos_inf, neg_inf, total, abs(squares), low, high, repeats
    )


def _quality(rng: np.random.Generator, layout: Layout, rows: int) -> QualityCounts | None:
    if not rows:
        return None
    if layout.task == "regression":
        error, absolute, squared = (int(steps) / 64 for steps in rng.integers(-99, 1 << 40, 3))
        return QualityCounts(rows, 0, (), (), error, abs(absolute), abs(squared))
    confusion = _parts(rng, rows, 4)
    right = confusion[0] + confusion[3]
    return QualityCounts(rows, right, _parts(rng, rows, 2 * layout.score_cells), confusion)


def _up_to(rng: np.random.Generator, limit: int, pieces: int) -> tuple[int, ...]:
    return tuple(rng.integers(0, limit, pieces).tolist())


def _parts(rng: np.random.Generator, total: int, pieces: int) -> tuple[int, ...]:
    """Return ``pieces`` counts that add up to ``total``, often zero."""
    cuts = np.sort(rng.integers(0, total + 1, pieces - 1))
    return tuple(np.diff(cuts, prepend=0, append=total).tolist())
