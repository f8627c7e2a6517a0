"""A segment's small profile counts exactly its rows, and its labels follow them."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.core.profile.samples import SLICED, SMALL, WORDS, flight_rows
from whimbrel_core.errors import ProfileError
from whimbrel_core.profile.baseline import Baseline
from whimbrel_core.profile.building.columns import ColumnSpec
from whimbrel_core.profile.building.reference import build
from whimbrel_core.profile.counting.accumulator import Accumulator
from whimbrel_core.profile.counting.memberships import Memberships
from whimbrel_core.profile.layout import Layout
from whimbrel_core.profile.slices import MAX_SLICES, Slice
from whimbrel_core.profile.window import decode, empty, encode, merge, require_fit

if TYPE_CHECKING:
    from whimbrel_core.profile.counting.kernel import Kernel

KERNELS: list[Kernel] = ["sorted", "plain"]
_temp = st.sampled_from(
    [-1.0, 0.0, 1e-30, 10.0, 10.5, 10.625, 20.0, 21.0, math.inf, -math.inf, math.nan]
)
_hour = st.sampled_from([4.0, 5.0, 6.0, 6.5, 7.0, 8.0, math.nan])
_code = st.sampled_from([0.0, 1.0, 2.0, math.nan])
_late = st.sampled_from([-1.0, 0.0, 0.05, 0.3, 0.5, 0.75, 1.0, 2.0, math.inf, -math.inf, math.nan])
_row = st.tuples(_temp, _hour, _code, _late)


def inside(one: Slice, row: tuple[float, ...]) -> bool:
    """Say it as `Slice` does, with no trick."""
    index = [feature.name for feature in SLICED.features].index(one.feature)
    value, feature = row[index], SLICED.features[index]
    if not math.isfinite(value):
        return False
    if one.words:
        return int(value) in [feature.vocabulary.index(word) for word in one.words]
    if one.values:
        return value in one.values
    return (one.low is None or value > one.low) and (one.high is None or value <= one.high)


def coarse(edges: tuple[float, ...], values: list[float]) -> tuple[int, ...]:
    cells = [0] * (len(edges) + 1)
    for value in values:
        if math.isfinite(value):
            cells[sum(edge < value for edge in edges)] += 1
    return tuple(cells)


@pytest.mark.parametrize("kernel", KERNELS)
@given(st.lists(_row, max_size=40), st.integers(0, 40))
def test_each_slice_counts_its_rows_one_by_one(
    kernel: Kernel, rows: list[tuple[float, ...]], cut: int
) -> None:
    accumulator = Accumulator(SLICED, kernel=kernel)
    for part in (rows[:cut], rows[cut:]):
        accumulator.update_rows(np.array(part, np.float32).reshape(-1, 4))
        accumulator.flush()
    exact = [tuple(np.array(row, np.float32).tolist()) for row in rows]
    window = accumulator.window(0, 1)
    for one, counts in zip(SLICED.slices, window.slices, strict=True):
        own = [row for row in exact if inside(one, row)]
        assert counts.rows == len(own)
        for index, feature in enumerate(SLICED.features):
            assert counts.cells[index] == coarse(feature.coarse, [row[index] for row in own])
        bins = [SLICED.score_bin(row[3]) for row in own]
        assert counts.scores == tuple(bins.count(bin_) for bin_ in range(SLICED.score_bins))
    assert decode(encode(window)) == window
    require_fit(window, SLICED)


def small_batch(n: int) -> dict[str, Any]:
    rng = np.random.default_rng(2)
    late = rng.random(n).astype(np.float32)
    return {
        "temp": rng.normal(9.5, 8, n),
        "hour": rng.integers(4, 9, n),
        "carrier": np.array(["UA", "AA", "ZZ", None], object)[rng.integers(0, 4, n)],
        "probabilities": np.column_stack([1 - late, late]),
    }


def test_the_slices_of_a_row_are_known_before_it_is_counted() -> None:
    accumulator = Accumulator(SLICED)
    bits = Memberships(SLICED).of(small_batch(500), 500)
    accumulator.update(small_batch(500))
    counted = [one.rows for one in accumulator.window(0, 1).slices]
    assert [sum(one >> index & 1 for one in bits) for index in range(6)] == counted
    assert min(counted) > 0
    assert Memberships(SMALL).of(small_batch(5), 5) == [0] * 5


def test_labels_are_counted_in_the_slices_of_their_row() -> None:
    buffer = bytearray(Accumulator.size(SLICED))
    accumulator = Accumulator(SLICED, buffer)
    accumulator.record_label(12, 1, 1, 0b101)
    accumulator.record_label(3, 0, 1, 0b100)
    accumulator.record_label(None, 0, 0)
    with pytest.raises(ProfileError):
        accumulator.record_label(None, 7, 0, 0b1)
    window = Accumulator.attach(SLICED, bytearray(buffer)).window(0, 1)
    quality = [one.quality for one in window.slices]
    assert [0 if one is None else one.rows for one in quality] == [1, 0, 2, 0, 0, 0]
    assert quality[2] is not None
    assert quality[2].confusion == (0, 1, 0, 1)
    assert quality[2].scores[2 * 12 + 1] == quality[2].scores[2 * 3 + 1] == 1
    assert window.quality is not None
    assert window.quality.rows == 3
    assert decode(encode(window)) == window
    assert merge(window, empty(SLICED, 0, 1)) == window


def test_errors_of_a_regression_are_summed_per_slice() -> None:
    feature = msgspec.structs.replace(SLICED.features[0], role="input")
    layout = Layout(
        task="regression", features=(feature,), slices=(Slice(name="warm", feature="temp", low=20.0),)
    )  # fmt: skip
    accumulator = Accumulator(layout)
    accumulator.record_error(3.0, 1.0, 1)
    accumulator.record_error(1.0, 5.0, 0)
    [warm] = accumulator.window(0, 1).slices
    assert warm.quality is not None
    assert (warm.quality.rows, warm.quality.absolute, warm.scores) == (1, 2.0, None)
    require_fit(decode(encode(accumulator.window(0, 1))), layout)


def test_many_classes_have_no_confusion_matrix_per_slice() -> None:
    layout = msgspec.structs.replace(
        SLICED, positive=None, classes=tuple("abcdefghi"), slices=SLICED.slices[:1]
    )
    accumulator = Accumulator(layout)
    accumulator.record_label(19, 8, 8, 1)
    accumulator.record_label(19, 8, 7, 1)
    window = accumulator.window(0, 1)
    assert window.quality is not None
    assert len(window.quality.confusion) == 81
    [quality] = [one.quality for one in window.slices]
    assert quality is not None
    assert (quality.rows, quality.right, quality.confusion) == (2, 1, ())


def test_a_layout_without_slices_pays_nothing() -> None:
    assert Accumulator.size(SMALL) < Accumulator.size(SLICED)
    window = Accumulator(SMALL).window(0, 1)
    assert window.slices == ()
    assert len(encode(window)) < len(encode(Accumulator(SLICED).window(0, 1)))


def flights(**slices: Any) -> Baseline:  # noqa: ANN401
    rows = flight_rows(0, 5000)
    late = rows["probabilities"][:, 1]
    return build(
        [
            ColumnSpec("temp", "input", "x", 0, rows["x"][:, 0]),
            ColumnSpec("hour", "input", "hour", 0, rows["hour"][:, 0]),
            ColumnSpec("carrier", "input", "carrier", 0, rows["carrier"][:, 0]),
            ColumnSpec("p_late", "output", "probabilities", 1, late),
        ],
        task="classification", classes=["on time", "late"], positive=1,
        score_tensor="probabilities",
        slices=[Slice(name="united", feature="carrier", words=("UA",)),
                Slice(name="evening", feature="hour", low=17.0)],
    )  # fmt: skip


def test_the_reference_has_the_slices_of_its_rows() -> None:
    baseline = flights()
    rows = flight_rows(0, 5000)
    united, evening = baseline.window.slices
    assert united.rows == int((rows["carrier"] == "UA").sum())
    assert evening.rows == int((rows["hour"] > 17).sum())
    temp, hour, carrier, _ = baseline.layout.features
    assert len(temp.coarse) == 9
    assert set(temp.coarse) < set(temp.edges)
    assert set(hour.coarse) < set(hour.values)
    assert carrier.coarse == (0.0, 1.0, 2.0, 3.0)
    assert carrier.vocabulary == tuple(sorted(WORDS))
    assert united.cells[2] == (0, 0, united.rows, 0, 0)
    # Deciles of all rows, so about a tenth of the slice's rows each.
    assert min(united.cells[0]) > united.rows / 15
    assert Baseline.decode(baseline.encode()) == baseline
    assert Baseline.decode(baseline.encode()).layout.slices[1].condition == "17 < hour"


@pytest.mark.parametrize(
    ("one", "complaint"),
    [
        ({}, "needs one of words, values, or a range"),
        ({"words": ("UA",), "low": 1.0}, "needs one of"),
        ({"feature": "hour", "low": 7.0, "high": 7.0}, "is empty"),
        ({"feature": "speed", "low": 7.0}, "'speed', which is not profiled"),
        ({"words": ("ZZ",)}, "'ZZ' is not among the values of 'carrier'"),
        ({"feature": "hour", "values": (99.0,)}, "99.0 is not among"),
        ({"feature": "temp", "values": (1.0,)}, "is numeric; values belong to a discrete"),
        ({"feature": "carrier", "low": 1.0}, "is categorical; low and high belong"),
        ({"feature": "temp", "words": ("UA",)}, "is numeric; words belong to a categorical"),
    ],
    ids=str,
)
def test_a_slice_that_cannot_be_is_refused(one: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ProfileError, match=complaint):
        msgspec.structs.replace(
            SLICED, slices=(Slice(**{"name": "s", "feature": "carrier", **one}),)
        )


def test_too_many_slices_and_equal_names_are_refused() -> None:
    many = tuple(
        Slice(name=str(i), feature="carrier", words=("UA",)) for i in range(MAX_SLICES + 1)
    )
    with pytest.raises(ProfileError, match="16 slices at most"):
        msgspec.structs.replace(SLICED, slices=many)
    with pytest.raises(ProfileError, match="names of their own"):
        msgspec.structs.replace(SLICED, slices=many[:1] * 2)
    with pytest.raises(ProfileError, match="coarse edges"):
        msgspec.structs.replace(SMALL.features[0], coarse=(0.5,))


def test_windows_whose_slices_do_not_add_up_or_fit_are_refused() -> None:
    accumulator = Accumulator(SLICED)
    accumulator.update(small_batch(50))
    window = accumulator.window(0, 1)
    first = window.slices[0]
    for wrong in (
        msgspec.structs.replace(first, rows=51),
        msgspec.structs.replace(first, rows=0),
        msgspec.structs.replace(first, quality=accumulator_quality()),
    ):
        with pytest.raises(ProfileError):
            decode(encode(msgspec.structs.replace(window, slices=(wrong, *window.slices[1:]))))
    for slices in ((), window.slices[1:]):
        with pytest.raises(ProfileError):
            require_fit(msgspec.structs.replace(window, slices=slices), SLICED)
    with pytest.raises(ProfileError, match="cannot be merged"):
        merge(window, msgspec.structs.replace(window, slices=window.slices[1:]))


def accumulator_quality() -> object:
    accumulator = Accumulator(SLICED)
    accumulator.record_label(3, 0, 0, 1)
    return accumulator.window(0, 1).slices[0].quality
