"""Rows without a gap take a shorter way through the counting, to the same counts."""

from __future__ import annotations

import math

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.core.profile.samples import SMALL
from whimbrel_core.profile.counting.accumulator import Accumulator
from whimbrel_core.profile.layout import Layout

EDGES = (-20.0, -1.0, -(2.0**-149), -0.0, 10.0, 20.0)
TEMP = msgspec.structs.replace(SMALL.features[0], edges=EDGES)
FAR = msgspec.structs.replace(TEMP, name="far", column=1, centre=1.5e19)
LAYOUT = Layout(
    task="classification", features=(TEMP, FAR), classes=("a", "b"), positive=1,
    score_tensor="temp", score_edges=(-1.0, 0.0, 1.0),
)  # fmt: skip
_numbers = st.one_of(
    st.floats(width=32, allow_nan=False, allow_infinity=False),
    st.floats(-50, 50, width=32),
    st.sampled_from([0.0, -0.0, 2.0**-149, -1.0, -(2.0**-149), -20.0, 20.0, 1e19, -1e19]),
)


@given(st.lists(st.tuples(_numbers, _numbers), min_size=1, max_size=60))
def test_both_ways_count_the_same(rows: list[tuple[float, float]]) -> None:
    matrix = np.array(rows, np.float32)
    gap = np.vstack([matrix, np.full((1, 2), np.nan, np.float32)])
    windows = []
    for tensor in (matrix, gap):
        accumulator = Accumulator(LAYOUT, kernel="sorted")
        accumulator.update({"temp": tensor})
        windows.append(accumulator.window(0, 1))
    short, long = windows
    assert short.score_cells == long.score_cells
    assert sum(short.score_cells or ()) == len(rows)
    exact = [sum(edge < value for edge in EDGES) for value in matrix[:, 0].tolist()]
    assert short.features[0].cells == tuple(exact.count(cell) for cell in range(7))
    for index, (a, b) in enumerate(zip(short.features, long.features, strict=True)):
        values = matrix[:, index].astype(float) - LAYOUT.features[index].centre
        assert (a.cells, a.min, a.max, a.repeats) == (b.cells, b.min, b.max, b.repeats)
        assert (a.nulls, a.pos_inf, a.neg_inf, b.nulls) == (0, 0, 0, 1)
        size = math.fsum(np.abs(values))
        for one in (a, b):
            assert one.total == pytest.approx(math.fsum(values), abs=1e-5 * size + 1)
            assert one.squares == pytest.approx(math.fsum(values**2), rel=1e-5, abs=2)
