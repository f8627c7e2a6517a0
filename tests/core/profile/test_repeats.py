"""Values and rows that are the same as in the row before are counted, whoever is killed when."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import TYPE_CHECKING

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.core.profile.samples import SMALL
from whimbrel_core.profile.counting.accumulator import Accumulator

if TYPE_CHECKING:
    from whimbrel_core.profile.counting.kernel import Kernel

KERNELS: list[Kernel] = ["sorted", "plain"]
_OTHER_NAN = float(np.array([0xFFC00001], np.uint32).view(np.float32)[0])
_value = st.sampled_from([0.0, -0.0, 1.0, 2.0, math.inf, -math.inf, math.nan, _OTHER_NAN])
_row = st.tuples(_value, _value, _value, _value)


def same(a: float, b: float) -> bool:
    return a == b or (math.isnan(a) and math.isnan(b))


@pytest.mark.parametrize("kernel", KERNELS)
@given(st.lists(_row, min_size=1, max_size=40), st.sets(st.integers(1, 40)))
def test_what_repeats_is_counted_one_by_one_whenever_it_is_flushed(
    kernel: Kernel, rows: list[tuple[float, ...]], flushes: set[int]
) -> None:
    accumulator = Accumulator(SMALL, kernel=kernel)
    for count, row in enumerate(rows, 1):
        accumulator.update_row(np.array(row, np.float32))
        if count in flushes:
            accumulator.flush()
    window = accumulator.window(0, 1)
    for index, feature in enumerate(window.features):
        assert feature.repeats == sum(same(a[index], b[index]) for a, b in pairwise(rows))
    # The last feature is an output: the same question may be answered in another way.
    assert window.duplicates == sum(all(map(same, a[:3], b[:3])) for a, b in pairwise(rows))


@pytest.mark.parametrize("kernel", KERNELS)
def test_a_stuck_sensor_repeats_in_all_rows_but_the_first(kernel: Kernel) -> None:
    accumulator = Accumulator(SMALL, kernel=kernel)
    rng = np.random.default_rng(1)
    for _ in range(5):
        accumulator.update(
            {"temp": np.full(2000, 21.5), "hour": np.arange(2000) % 3 + 5,
             "probabilities": rng.random((2000, 2))}
        )  # fmt: skip
    temp, hour, carrier, p_late = accumulator.window(0, 1).features
    assert temp.repeats == carrier.repeats == 9_999  # the words are missing in every row
    assert hour.repeats == 0
    assert p_late.repeats <= 2
    assert accumulator.window(0, 1).duplicates == 0


def test_a_layout_without_inputs_has_no_duplicates() -> None:
    layout = msgspec.structs.replace(SMALL, features=SMALL.features[3:])
    accumulator = Accumulator(layout)
    accumulator.update({"probabilities": np.full((5, 2), 0.5)})
    accumulator.flush()
    accumulator.update({"probabilities": np.full((5, 2), 0.5)})
    window = accumulator.window(0, 1)
    assert (window.features[0].repeats, window.duplicates) == (9, 0)


def test_the_row_before_is_known_after_a_restart() -> None:
    buffer = bytearray(Accumulator.size(SMALL))
    row = np.array([3.0, 6.0, 1.0, 0.25], np.float32)
    accumulator = Accumulator(SMALL, buffer)
    accumulator.update_row(row)
    accumulator.flush()
    again = Accumulator.attach(SMALL, bytearray(buffer))
    again.update_row(row)
    window = again.window(0, 1)
    assert [feature.repeats for feature in window.features] == [1] * 4
    assert window.duplicates == 1


def test_a_request_of_wrong_types_is_a_refused_one() -> None:
    accumulator = Accumulator(SMALL)
    accumulator.count_rejected()
    accumulator.count_rejected(mistyped=True)
    ops = accumulator.window(0, 1).ops
    assert (ops.rejected, ops.mistyped) == (2, 1)
