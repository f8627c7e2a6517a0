"""What is measured of merged counts.

Latency as people are shown it is inside the right cell, ordered, exact at a cell's ends. A regression
has expected and realised errors.
"""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from whimbrel_core.profile.building.columns import ColumnSpec
from whimbrel_core.profile.building.reference import build
from whimbrel_core.profile.counting.accumulator import Accumulator
from whimbrel_core.profile.counts import LATENCY_CELLS, OpsCounts
from whimbrel_server.queries.measures import latency_us, measure
from whimbrel_server.web import written

counts = st.lists(st.integers(0, 1000), min_size=LATENCY_CELLS, max_size=LATENCY_CELLS)


@given(counts, st.floats(0.01, 1.0), st.floats(0.01, 1.0))
def test_latency_is_within_its_cell_and_rises(cells: list[int], a: float, b: float) -> None:
    low, high = sorted((a, b))
    if not sum(cells):
        assert latency_us(cells, a) is None
        return
    first, second = latency_us(cells, low), latency_us(cells, high)
    assert first is not None
    assert second is not None
    assert first <= second * (1 + 1e-12)
    bound = OpsCounts(sum(cells), 0, 0, tuple(cells)).latency_us(low)
    assert bound is not None
    assert bound / 2 * (1 - 1e-9) <= first <= bound * (1 + 1e-9) or bound == 1.0


@pytest.mark.parametrize(
    ("us", "text"),
    [
        (None, "–"),
        (0.0, "≈ 0 µs"),
        (0.42, "≈ 0.42 µs"),
        (3.14, "≈ 3.1 µs"),
        (377.3, "≈ 380 µs"),
        (9_960.0, "≈ 10,000 µs"),
        (12_345.0, "≈ 12 ms"),
        (2_500_000.0, "≈ 2,500 ms"),
    ],
)
def test_latency_claims_two_digits(us: float | None, text: str) -> None:
    assert written.latency(us) == text


def test_a_regression_has_the_errors_that_its_model_expects_and_its_labels_tell() -> None:
    predicted = np.linspace(0, 9, 1000).astype(np.float32)
    actual = predicted - 1 - (predicted > 5)
    columns = [ColumnSpec("y", "output", "y", 0, predicted)]
    of = build(columns, task="regression", labels=actual)
    accumulator = Accumulator(of)
    accumulator.update({"y": predicted[predicted > 6, np.newaxis]})
    accumulator.record_error(8.0, 5.0)
    found = measure(accumulator.window(0, 1), of)
    assert found.mae_expected == pytest.approx(2.0, abs=0.1)
    assert found.rmse_expected == pytest.approx(2.0, abs=0.1)
    assert (found.mae_realised, found.rmse_realised, found.labelled_rows) == (3.0, 3.0, 1)
    assert found.auc_expected is None
    assert found.accuracy_expected is None
