"""Windows add up in any order, and no bytes can hurt who reads them."""

from __future__ import annotations

import struct
import tracemalloc
import zlib
from typing import TYPE_CHECKING

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.core.profile.samples import (
    REGRESSION,
    SLICED,
    SMALL,
    flight_baseline,
    flight_window,
    windows,
)
from whimbrel_core.errors import ProfileError
from whimbrel_core.profile.encoding.fields import unwrap, wrap
from whimbrel_core.profile.window import (
    MAGIC,
    MAX_ENCODED_BYTES,
    OpsCounts,
    Window,
    decode,
    empty,
    encode,
    merge,
    require_fit,
)

if TYPE_CHECKING:
    from whimbrel_core.profile.layout import Layout


@given(windows(SLICED), windows(SLICED), windows(SLICED))
def test_merging_is_associative(a: Window, b: Window, c: Window) -> None:
    assert merge(merge(a, b), c) == merge(a, merge(b, c))


@given(windows(SLICED), windows(SLICED))
def test_merging_is_commutative(a: Window, b: Window) -> None:
    assert merge(a, b) == merge(b, a)


@given(windows(SLICED))
def test_an_empty_window_changes_nothing(window: Window) -> None:
    nothing = empty(SLICED, window.start_ms, window.end_ms)
    assert merge(window, nothing) == window
    assert merge(nothing, window) == window


@given(st.one_of(windows(SLICED), windows(REGRESSION)))
def test_a_window_comes_back_from_its_bytes(window: Window) -> None:
    assert decode(encode(window)) == window


@given(windows(SLICED), st.data())
def test_a_truncated_window_is_refused(window: Window, data: st.DataObject) -> None:
    whole = encode(window)
    with pytest.raises(ProfileError):
        decode(whole[: data.draw(st.integers(0, len(whole) - 1))])
    with pytest.raises(ProfileError):
        decode(whole + b"\0")


@given(st.binary(max_size=300))
def test_any_bytes_are_a_window_or_refused(data: bytes) -> None:
    for attempt in (data, MAGIC + data, wrap("ab" * 32, data)):
        with pytest.raises(ProfileError):
            decode(attempt)


@given(windows(SLICED), st.data())
def test_damage_inside_is_refused_or_gives_another_window_that_adds_up(
    window: Window, data: st.DataObject
) -> None:
    plain = bytearray(unwrap(encode(window))[1])
    for _ in range(data.draw(st.integers(1, 3))):
        plain[data.draw(st.integers(0, len(plain) - 1))] = data.draw(st.integers(0, 255))
    try:
        found = decode(wrap(window.profile_id, bytes(plain)))
    except ProfileError:
        return
    assert all(feature.rows == found.rows for feature in found.features)
    assert decode(encode(found)) == found


def test_a_bomb_is_not_inflated() -> None:
    bomb = MAGIC + bytes(32) + zlib.compress(bytes(50_000_000), 9)
    assert len(bomb) < MAX_ENCODED_BYTES
    tracemalloc.start()
    with pytest.raises(ProfileError, match="inflates"):
        decode(bomb)
    assert tracemalloc.get_traced_memory()[1] < 2_000_000
    tracemalloc.stop()


def test_too_many_bytes_are_not_even_looked_at() -> None:
    with pytest.raises(ProfileError, match="limit") as refusal:
        decode(MAGIC + bytes(MAX_ENCODED_BYTES))
    assert refusal.value.code == "profile.too_large"


def test_a_future_format_is_named_as_such() -> None:
    with pytest.raises(ProfileError, match="WPW2") as refusal:
        decode(b"WPW2" + encode(empty(SMALL, 0, 1))[4:])
    assert refusal.value.code == "profile.version"
    assert refusal.value.hint is not None


def test_counts_that_do_not_add_up_are_refused() -> None:
    window = flight_window(1, 500)
    wrong = msgspec.structs.replace(window, rows=501)
    with pytest.raises(ProfileError, match="500 values in a window of 501 rows"):
        decode(encode(wrong))


def test_a_sum_that_is_no_number_is_refused_both_ways() -> None:
    window = flight_window(1, 500)
    spoiled = msgspec.structs.replace(window.features[0], total=float("nan"))
    with pytest.raises(ProfileError, match="nan"):
        encode(msgspec.structs.replace(window, features=(spoiled, *window.features[1:])))
    huge = msgspec.structs.replace(window.features[0], total=1e200)
    with pytest.raises(ProfileError, match="limit"):
        decode(encode(msgspec.structs.replace(window, features=(huge, *window.features[1:]))))


def test_negative_and_enormous_counts_are_refused() -> None:
    window = empty(SMALL, 0, 1)
    for count in (-1, (1 << 53) + 1):
        ops = OpsCounts(count, 0, 0, (count,) + (0,) * 31)
        with pytest.raises(ProfileError):
            encode(msgspec.structs.replace(window, ops=ops))


def test_windows_of_different_layouts_are_not_added() -> None:
    other = msgspec.structs.replace(SMALL, classes=("in time", "late"))
    with pytest.raises(ProfileError, match="cannot be merged") as refusal:
        merge(empty(SMALL, 0, 1), empty(other, 0, 1))
    assert refusal.value.code == "profile.mismatch"


def test_a_window_with_other_cells_than_its_layout_does_not_fit() -> None:
    window = empty(SMALL, 0, 1)
    fewer = msgspec.structs.replace(window, features=window.features[1:])
    for wrong in (
        fewer,
        msgspec.structs.replace(window, score_cells=None),
        msgspec.structs.replace(window, score_cells=(0,) * 19),
    ):
        with pytest.raises(ProfileError):
            require_fit(wrong, SMALL)
    require_fit(window, SMALL)


def test_counts_merge_to_what_counting_together_gives() -> None:
    parts = [flight_window(seed, 700) for seed in range(4)]
    together = parts[0]
    for part in parts[1:]:
        together = merge(together, part)
    assert together.rows == 2800
    for index, feature in enumerate(flight_baseline().layout.features):
        counts = together.features[index]
        assert counts.rows == 2800
        assert counts.cells == tuple(
            int(n) for n in np.sum([part.features[index].cells for part in parts], axis=0)
        )
        if feature.ordered:
            mean = counts.mean(feature)
            assert mean is not None
            assert counts.min is not None
            assert counts.min <= mean
    assert (together.start_ms, together.end_ms) == (0, 4 * 3_600_000)


def test_a_window_of_labels_alone_is_small() -> None:
    labels = msgspec.structs.replace(
        empty(flight_baseline().layout, 0, 1), quality=flight_quality()
    )
    assert decode(encode(labels)) == labels
    assert len(encode(labels)) < 200


def flight_quality() -> object:
    from whimbrel_core.profile.counting.accumulator import Accumulator

    accumulator = Accumulator(flight_baseline())
    accumulator.record_label(3, 0, 1)
    return accumulator.window(0, 1).quality


def test_a_window_of_twenty_features_fits_in_one_and_a_half_kilobytes() -> None:
    layout, window = twenty_features(3600)
    assert len(encode(window)) <= 1500
    assert layout.cells > 1900


def twenty_features(rows: int) -> tuple[Layout, Window]:
    from whimbrel_core.profile.building.columns import ColumnSpec
    from whimbrel_core.profile.building.reference import build
    from whimbrel_core.profile.counting.accumulator import Accumulator

    rng = np.random.default_rng(0)
    x = rng.normal(size=(20_000, 20)).astype(np.float32)
    baseline = build(
        [ColumnSpec(f"f{i}", "input", "x", i, x[:, i]) for i in range(20)], task="regression"
    )
    accumulator = Accumulator(baseline)
    accumulator.update({"x": x[:rows]})
    return baseline.layout, accumulator.window(0, 1)


def test_floats_travel_exactly() -> None:
    window = flight_window(2, 200)
    lows = [feature.min for feature in decode(encode(window)).features]
    assert lows == [feature.min for feature in window.features]
    assert all(low is None or struct.unpack("<f", struct.pack("<f", low))[0] == low for low in lows)
