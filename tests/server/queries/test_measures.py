"""Latency as people are shown it: inside the right cell, ordered, exact at a cell's ends."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from whimbrel_core.profile.counts import LATENCY_CELLS, OpsCounts
from whimbrel_server.queries.measures import latency_us
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
