"""Layouts, baselines and rows that the tests of profiles share."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
from hypothesis import strategies as st

from whimbrel_core.profile.accumulator import Accumulator
from whimbrel_core.profile.layout import Feature, Layout
from whimbrel_core.profile.reference import ColumnSpec, build
from whimbrel_core.profile.scores import EQUAL_EDGES
from whimbrel_core.profile.window import FeatureCounts, OpsCounts, QualityCounts, Window

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from whimbrel_core.profile.baseline import Baseline
    from whimbrel_core.profile.cells import Kernel

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


@lru_cache(maxsize=1)
def flight_baseline() -> Baseline:
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
    )


def flight_window(seed: int, n: int, *, kernel: Kernel | None = None, **changes: float) -> Window:
    """Return the window of ``n`` rows."""
    accumulator = Accumulator(flight_baseline(), kernel=kernel)
    accumulator.update(flight_rows(seed, n, **changes))
    return accumulator.window(seed * 3_600_000, (seed + 1) * 3_600_000)


_counts = st.integers(0, 1 << 20)
# Sums as an accumulator rounds them: multiples of a power of two, so that they add exactly.
_sums = st.integers(-(1 << 40), 1 << 40).map(lambda steps: steps / 4096)
_values = st.floats(-(2.0**100), 2.0**100, width=32)


@st.composite
def windows(draw: st.DrawFn, layout: Layout = SMALL) -> Window:
    """Draw a window of ``layout`` whose counts add up."""
    rows = draw(st.one_of(st.just(0), st.integers(1, 1 << 40)))
    start = draw(st.integers(0, 1 << 41))
    features = [draw(_features(feature.cells, rows)) for feature in layout.features]
    scores = draw(_parts(rows, layout.score_bins))
    latency = tuple(draw(st.lists(_counts, min_size=32, max_size=32)))
    rejected = draw(_counts)
    return Window(
        profile_id=layout.profile_id,
        start_ms=start,
        end_ms=start + draw(st.integers(0, 1 << 36)),
        rows=rows,
        features=tuple(features),
        ops=OpsCounts(
            sum(latency), rejected, draw(_counts), latency, draw(st.integers(0, rejected))
        ),
        quality=draw(st.one_of(st.none(), _quality(layout.score_bins))),
        score_cells=scores,
        duplicates=draw(st.integers(0, rows)),
    )


@st.composite
def _features(draw: st.DrawFn, cells: int, rows: int) -> FeatureCounts:
    *counts, nulls, pos_inf, neg_inf = draw(_parts(rows, cells + 3))
    repeats = draw(st.integers(0, rows))
    if not sum(counts):
        return FeatureCounts(tuple(counts), nulls, pos_inf, neg_inf, repeats=repeats)
    low, high = sorted([draw(_values), draw(_values)])
    return FeatureCounts(
        tuple(counts), nulls, pos_inf, neg_inf, draw(_sums), abs(draw(_sums)), low, high, repeats
    )


@st.composite
def _quality(draw: st.DrawFn, bins: int) -> QualityCounts:
    rows = draw(st.integers(1, 1 << 20))
    confusion = draw(_parts(rows, 4))
    return QualityCounts(rows, confusion[0] + confusion[3], draw(_parts(rows, 2 * bins)), confusion)


@st.composite
def _parts(draw: st.DrawFn, total: int, pieces: int) -> tuple[int, ...]:
    """Draw ``pieces`` counts that add up to ``total``."""
    cuts = sorted(draw(st.lists(st.integers(0, total), min_size=pieces - 1, max_size=pieces - 1)))
    return tuple(b - a for a, b in zip([0, *cuts], [*cuts, total], strict=True))
