"""Rows are counted into the right cells."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tests.core.profile.rows import small_rows, without_sums
from tests.core.profile.samples import SMALL, flight_baseline, flight_rows
from whimbrel_core.errors import ProfileError
from whimbrel_core.profile.counting.accumulator import Accumulator
from whimbrel_core.profile.counting.cells import cells_of
from whimbrel_core.profile.counting.kernel import Kernel, fastest_kernel
from whimbrel_core.profile.layout import Layout
from whimbrel_core.profile.window import decode, empty, encode, merge, require_fit

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from whimbrel_core.profile.feature import Feature


KERNELS: list[Kernel] = ["sorted", "plain"]


def one_by_one(feature: Feature, values: list[float]) -> list[int]:
    """Count as the layout's docstring says it, with no trick."""
    cells = [0] * feature.cells
    for value in values:
        if not math.isfinite(value):
            continue
        if feature.kind == "discrete":
            known = feature.values.index(value) if value in feature.values else len(feature.values)
            cells[known] += 1
        else:
            cells[sum(edge < value for edge in feature.edges)] += 1
    return cells


_numbers = st.one_of(
    st.sampled_from([-0.0, 0.0, 5.0, 6.0, 7.0, 10.0, 20.0, math.inf, -math.inf, math.nan]),
    st.floats(width=32),
    st.sampled_from([10.0, 20.0, 5.0]).map(
        lambda x: float(np.nextafter(np.float32(x), np.float32(99)))
    ),
    st.sampled_from([10.0, 20.0, 5.0]).map(
        lambda x: float(np.nextafter(np.float32(x), np.float32(-99)))
    ),
)


@pytest.mark.parametrize("kernel", KERNELS)
@given(st.lists(_numbers, min_size=1, max_size=80))
@example([-1.7e38, -1.8e38, -1.7e38])  # their sum and squares leave float32 on opposite sides
def test_every_value_is_counted_in_its_cell(kernel: Kernel, values: list[float]) -> None:
    accumulator = Accumulator(SMALL, kernel=kernel)
    column = np.array(values, np.float32)
    accumulator.update({"temp": column, "hour": column})
    temp, hour, carrier, _ = accumulator.window(0, 1).features
    exact = column.tolist()
    finite = [value for value in exact if math.isfinite(value)]
    for counts, feature in ((temp, SMALL.features[0]), (hour, SMALL.features[1])):
        assert list(counts.cells) == one_by_one(feature, exact)
        assert counts.nulls == sum(map(math.isnan, exact))
        assert counts.pos_inf == exact.count(math.inf)
        assert counts.neg_inf == exact.count(-math.inf)
        assert counts.min == (min(finite) if finite else None)
        assert counts.max == (max(finite) if finite else None)
        total = math.fsum(value - feature.centre for value in finite)
        size = math.fsum(abs(value - feature.centre) for value in finite)
        assert counts.total == pytest.approx(total, abs=1e-5 * size + feature.total_quantum)
        squares = math.fsum((value - feature.centre) ** 2 for value in finite)
        assert counts.squares == pytest.approx(squares, rel=1e-5, abs=feature.squares_quantum)
    assert carrier.nulls == len(values)  # its tensor was not there


@pytest.mark.parametrize("kernel", KERNELS)
def test_words_are_counted_as_known_unseen_or_missing(kernel: Kernel) -> None:
    accumulator = Accumulator(SMALL, kernel=kernel)
    words = np.array(["UA", b"UA", "AA", "ZZ", "", None, math.nan, b"\xff"], object)
    accumulator.update({"carrier": words})
    accumulator.update({"carrier": np.array([["AA"], ["UA"]])})  # fixed width, as numpy has it
    accumulator.update({"carrier": np.array([b"AA"])})
    carrier = accumulator.window(0, 1).features[2]
    assert carrier.cells == (3, 3, 3)
    assert carrier.nulls == 2
    assert (carrier.total, carrier.squares, carrier.min, carrier.max) == (0, 0, None, None)


@pytest.mark.parametrize("kernel", KERNELS)
def test_scores_are_counted_in_the_bins_of_the_layout(kernel: Kernel) -> None:
    edges = np.array([0, *SMALL.score_edges, 1], np.float32)
    late = np.array(
        [
            *edges,
            *np.nextafter(edges, np.float32(-1)),
            *np.nextafter(edges, np.float32(2)),
            *(-0.5, 1.5, np.nan, np.inf, -np.inf),
        ],
        np.float32,
    )
    accumulator = Accumulator(SMALL, kernel=kernel)
    accumulator.update({"probabilities": np.column_stack([1 - late, late])})
    bins = [SMALL.score_bin(float(score)) for score in late]
    counted = [bins.count(bin_) for bin_ in range(20)]
    assert accumulator.window(0, 1).score_cells == tuple(counted)


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("edges", [(), (0.5,), (0.25, 0.5)], ids=str)
def test_few_score_bins_are_counted_joined_and_sent(
    kernel: Kernel, edges: tuple[float, ...]
) -> None:
    layout = msgspec.structs.replace(SMALL, score_edges=edges)
    buffer = bytearray(Accumulator.size(layout))
    accumulator = Accumulator(layout, buffer, kernel=kernel)
    late = np.array([0.1, 0.3, 0.5, 0.7, np.nan], np.float32)
    accumulator.update({"probabilities": np.column_stack([1 - late, late])})
    for score in late.tolist():
        accumulator.record_label(layout.score_bin(score), 0, 0)
    with pytest.raises(ProfileError):
        accumulator.record_label(layout.score_bins, 0, 0)
    window = Accumulator.attach(layout, buffer, kernel=kernel).window(0, 1)
    bins = [layout.score_bin(score) for score in late.tolist()]
    counted = tuple(bins.count(bin_) for bin_ in range(layout.score_bins))
    assert window.score_cells == counted
    assert window.quality is not None
    assert window.quality.scores[::2] == counted
    require_fit(decode(encode(window)), layout)
    assert decode(encode(window)) == window
    assert merge(window, empty(layout, 0, 1)) == window


def test_the_score_of_many_classes_is_the_largest_probability() -> None:
    layout = msgspec.structs.replace(
        SMALL, features=SMALL.features[:1], classes=("a", "b", "c"), positive=None
    )
    accumulator = Accumulator(layout)
    accumulator.update({"probabilities": np.array([[0.2, 0.71, 0.09], [0.34, 0.33, 0.33]])})
    scores = accumulator.window(0, 1).score_cells
    assert scores is not None
    assert [bin_ for bin_, count in enumerate(scores) if count] == [6, 14]


def test_both_kernels_count_the_same() -> None:
    windows = []
    for kernel in KERNELS:
        accumulator = Accumulator(flight_baseline(), kernel=kernel)
        for seed in range(3):
            accumulator.update(flight_rows(seed, 3000, missing=0.1, unseen=0.2))
        windows.append(accumulator.window(0, 1))
    a, b = windows
    assert a.score_cells == b.score_cells
    features = flight_baseline().layout.features
    for feature, one, other in zip(features, a.features, b.features, strict=True):
        assert (one.cells, one.nulls, one.min, one.max) == (
            other.cells, other.nulls, other.min, other.max,
        )  # fmt: skip
        quantum = feature.total_quantum
        assert one.total == pytest.approx(other.total, rel=1e-5, abs=quantum + 1e-2)


def test_the_kernel_is_chosen_by_a_trial_of_a_few_milliseconds() -> None:
    ticks = iter(range(1000))
    assert fastest_kernel.__wrapped__(lambda: float(next(ticks))) == "sorted"  # a tie
    assert fastest_kernel() in KERNELS


def test_batches_of_any_size_count_like_single_rows() -> None:
    rows = small_rows(9000)
    whole = Accumulator(SMALL)
    whole.update(rows)
    pieces = Accumulator(SMALL)
    cuts = [0, 1, 2, 300, 4095, 4096, 4097, 9000]
    for a, b in pairwise(cuts):
        pieces.update({name: tensor[a:b] for name, tensor in rows.items()})
        assert pieces.rows == b
    single = Accumulator(SMALL)
    codes = cells_of(SMALL).encode(2, rows["carrier"])
    matrix = np.column_stack([rows["temp"], rows["hour"], codes, rows["probabilities"][:, 1]])
    for row in matrix.astype(np.float32):
        single.update_row(row)
    assert single.rows == 9000
    plain = Accumulator(SMALL)
    for values in matrix.tolist():
        plain.update_values(values)
    expected = without_sums(whole.window(0, 1))
    assert without_sums(pieces.window(0, 1)) == expected
    assert without_sums(single.window(0, 1)) == expected
    assert plain.window(0, 1) == single.window(0, 1)


def test_a_row_of_another_type_or_stride_counts_like_one_of_float32() -> None:
    row = np.array([3.0, 6.0, 1.0, 0.25], np.float32)
    odd = np.zeros((4, 2), np.float32)
    odd[:, 1] = row
    expected = Accumulator(SMALL)
    expected.update_row(row)
    others: list[NDArray[Any]] = [row.astype(np.float64), row.astype(">f4"), odd[:, 1]]
    for same in others:
        other = Accumulator(SMALL)
        other.update_row(same)
        assert other.window(0, 1) == expected.window(0, 1)


def test_a_request_of_one_row_is_counted_with_its_latency() -> None:
    by_values, by_parts = Accumulator(SMALL), Accumulator(SMALL)
    for latency_us in (0.4, 33.0, 1e12):
        by_values.update_values([3.0, 6, True, math.nan], latency_us)
        by_parts.update_row(np.array([3.0, 6.0, 1.0, np.nan], np.float32))
        by_parts.count_request(latency_us)
    assert by_values.window(0, 1) == by_parts.window(0, 1)
    assert by_values.window(0, 1).ops.requests == 3


@pytest.mark.parametrize(
    "values",
    [[], [1.0] * 3, [1.0] * 5, [1.0, 2.0, None, 4.0], [1.0, 2.0, "UA", 4.0], [1e39, 1.0, 1.0, 1.0]],
)
def test_what_is_no_row_of_numbers_is_not_counted(values: list[Any]) -> None:
    accumulator = Accumulator(SMALL)
    accumulator.update_values([1.0] * 4, 5.0)
    with pytest.raises(ProfileError):
        accumulator.update_values(values, 5.0)
    accumulator.update_values([2.0] * 4, 5.0)
    window = accumulator.window(0, 1)
    assert (window.rows, window.ops.requests) == (2, 2)
    assert window.features[0].cells == (0, 2, 0, 0)


@pytest.mark.parametrize(
    ("tensors", "complaint"),
    [
        ({}, "none of the tensors"),
        ({"other": np.zeros(3)}, "none of the tensors"),
        ({"temp": np.zeros(3), "hour": np.zeros(2)}, "rows"),
        ({"temp": np.array(["cold"], object)}, "numbers"),
        ({"temp": np.float32(3)}, "scalar"),
        ({"temp": np.zeros(2, "datetime64[s]")}, "numbers"),
        ({"carrier": np.zeros(2)}, "categorical"),
        ({"carrier": np.array([["UA"]], object), "temp": np.zeros(2)}, "rows"),
        ({"carrier": np.array([[], [1]], object)}, "no string"),
        ({"probabilities": np.zeros((2, 1))}, "column 1"),
        ({"probabilities": np.zeros((2, 3)), "temp": np.zeros(1)}, "rows"),
    ],
    ids=str,
)
def test_a_batch_that_does_not_fit_is_refused_and_none_of_it_counted(
    tensors: dict[str, NDArray[Any]], complaint: str
) -> None:
    accumulator = Accumulator(SMALL)
    accumulator.update(small_rows(5))
    before = accumulator.window(0, 1)
    with pytest.raises(ProfileError, match=complaint):
        accumulator.update(tensors)
    assert accumulator.window(0, 1) == before


def test_wide_numbers_and_objects_are_counted_as_float32() -> None:
    accumulator = Accumulator(SMALL)
    accumulator.update({"temp": np.array([1e300, -1e300, 5.0])})
    accumulator.update({"temp": np.array([None, 3, 4.5], object)})
    accumulator.update({"temp": np.array([True, False])})
    accumulator.update({"temp": np.array([2**62], np.int64)})
    temp = accumulator.window(0, 1).features[0]
    assert (temp.pos_inf, temp.neg_inf, temp.nulls) == (1, 1, 1)
    assert sum(temp.cells) == 6
    assert temp.max == float(np.float32(2**62))


def test_no_rows_are_no_rows() -> None:
    accumulator = Accumulator(SMALL)
    assert accumulator.update({"temp": np.zeros((0, 1), np.float32)}) == 0
    assert accumulator.window(0, 1).rows == 0


def test_requests_and_labels_are_counted() -> None:
    accumulator = Accumulator(SMALL)
    for latency_us in (0.4, 1, 90, 100, 3e9):
        accumulator.count_request(latency_us)
    accumulator.count_rejected()
    accumulator.count_failed()
    accumulator.record_label(3, 0, 0)
    accumulator.record_label(12, 1, 0)
    accumulator.record_label(None, 1, 1)
    window = accumulator.window(0, 1)
    assert (window.ops.requests, window.ops.rejected, window.ops.failed) == (5, 1, 1)
    assert window.ops.latency[0] == window.ops.latency[1] == window.ops.latency[31] == 1
    assert window.ops.latency[7] == 2
    assert window.ops.latency_us(0.5) == 128
    assert window.quality is not None
    assert window.quality.confusion == (1, 0, 1, 1)
    assert (window.quality.rows, window.quality.right) == (3, 2)
    assert window.quality.scores[2 * 3] == window.quality.scores[2 * 12] == 1
    assert sum(window.quality.scores) == 2
    for label in ((20, 0, 0), (None, 2, 0), (None, 0, -1)):
        with pytest.raises(ProfileError):
            accumulator.record_label(*label)


def test_many_classes_count_right_and_wrong_without_a_confusion_matrix() -> None:
    layout = msgspec.structs.replace(
        SMALL, features=SMALL.features[:1], positive=None, classes=tuple(map(str, range(40)))
    )
    accumulator = Accumulator(layout)
    accumulator.record_label(19, 39, 39)
    accumulator.record_label(2, 0, 39)
    quality = accumulator.window(0, 1).quality
    assert quality is not None
    assert (quality.rows, quality.right, quality.confusion) == (2, 1, ())
    assert (quality.scores[2 * 19 + 1], quality.scores[2 * 2]) == (1, 1)


def test_errors_of_a_regression_are_summed() -> None:
    layout = Layout(task="regression", features=SMALL.features[:1])
    accumulator = Accumulator(layout)
    accumulator.record_error(3.0, 1.0)
    accumulator.record_error(1.0, 2.0)
    with pytest.raises(ProfileError):
        accumulator.record_error(math.nan, 1.0)
    quality = accumulator.window(0, 1).quality
    assert quality is not None
    assert (quality.rows, quality.error, quality.absolute, quality.squared) == (2, 1.0, 3.0, 5.0)
    with pytest.raises(ProfileError):
        accumulator.record_label(None, 0, 0)
    with pytest.raises(ProfileError):
        Accumulator(SMALL).record_error(1.0, 1.0)
