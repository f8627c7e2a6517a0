"""Windows as arrays: the same content, the same refusals."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.core.profile.samples import REGRESSION, SLICED, SMALL, flight_window, windows
from whimbrel_core.errors import ProfileError
from whimbrel_core.profile import flat
from whimbrel_core.profile.counts import OpsCounts
from whimbrel_core.profile.encoding.fields import Sliced, unwrap, wrap
from whimbrel_core.profile.window import Window, decode, empty, encode

if TYPE_CHECKING:
    from collections.abc import Callable

    from whimbrel_core.profile.flat import FlatWindow


def content(window: FlatWindow) -> dict[str, object]:
    fields = msgspec.structs.asdict(window)
    return {
        name: value.tolist() if isinstance(value, np.ndarray) else value
        for name, value in fields.items()
    }


def read(data: bytes) -> tuple[dict[str, object] | None, dict[str, object] | None]:
    """Return what the reader without numpy and the one with it make of ``data``."""
    plain = refused_or(lambda: flat.flatten(decode(data)))
    return plain, refused_or(lambda: flat.decode(data))


def refused_or(reader: Callable[[], FlatWindow]) -> dict[str, object] | None:
    try:
        return content(reader())
    except ProfileError:
        return None


@given(st.one_of(windows(SLICED), windows(REGRESSION)))
def test_both_readers_read_the_same(window: Window) -> None:
    plain, arrays = read(encode(window))
    assert plain == arrays == content(flat.flatten(window))


@given(st.one_of(windows(SLICED), windows(REGRESSION)))
def test_arrays_are_written_as_the_same_bytes(window: Window) -> None:
    arrays = flat.flatten(window)
    assert flat.encode(arrays) == encode(window)
    assert decode(flat.encode(arrays, level=1)) == window == arrays.window()


@given(windows(SLICED), st.data())
def test_both_readers_refuse_the_same_damage(window: Window, data: st.DataObject) -> None:
    fields = bytearray(unwrap(encode(window))[1])
    for _ in range(data.draw(st.integers(1, 3))):
        fields[data.draw(st.integers(0, len(fields) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, 12))
    damaged = bytes(fields[: len(fields) - cut])
    plain, arrays = read(wrap(window.profile_id, damaged))
    # Negative zero among sums and extremes is equal to zero, NaN is refused or means none.
    assert plain == arrays


@given(st.binary(max_size=200))
def test_both_readers_refuse_bytes_that_are_no_window(data: bytes) -> None:
    assert read(wrap("ab" * 32, data)) == read(data)


def test_wide_counts_and_missing_values_are_read() -> None:
    for rows in (300, 70_000):
        window = flight_window(3, rows)
        plain, arrays = read(encode(window))
        assert plain == arrays
        assert plain is not None
        assert plain["rows"] == rows


def test_the_widest_profile_of_the_largest_fleet_can_be_stored_and_read() -> None:
    rng = np.random.default_rng(4)
    features, cells, slices, coarse = 256, 103, 6, 10
    rows = 1 << 40
    counts = rng.integers(0, 1 << 32, (features, cells))
    nulls = rows - counts.sum(axis=1)
    own = rng.integers(0, 1 << 28, (slices, features * coarse))
    sliced = np.column_stack([np.full(slices, 1 << 32), own])
    widest = flat.FlatWindow(
        profile_id="ab" * 32,
        start_ms=0,
        end_ms=1,
        rows=rows,
        sizes=bytes([cells] * features),
        counts=np.concatenate([counts.ravel(), nulls, np.zeros(3 * features, np.int64)]),
        sums=np.abs(rng.normal(size=2 * features)),
        low=np.zeros(features),
        high=np.ones(features),
        ops=OpsCounts(),
        score_cells=None,
        quality=None,
        sliced=Sliced(
            slices, bytes([coarse] * features), tuple(sliced.ravel().tolist()), (None,) * slices
        ),
    )
    again = flat.decode(flat.encode(widest, level=1))
    assert content(again) == content(widest)


def test_nulls_and_infinities_are_counted_together() -> None:
    window = flight_window(5, 500)
    arrays = flat.decode(encode(window))
    assert arrays.invalid.tolist() == [feature.invalid for feature in window.features]
    assert arrays.cells.tolist() == [cell for one in window.features for cell in one.cells]


def test_a_window_with_other_cells_than_its_layout_does_not_fit() -> None:
    window = empty(SMALL, 0, 1)
    flat.require_fit(flat.flatten(window), SMALL)
    fewer = msgspec.structs.replace(window, features=window.features[1:])
    other = msgspec.structs.replace(window, profile_id="0" * 64)
    scoreless = msgspec.structs.replace(window, score_cells=None)
    for wrong in (fewer, other, scoreless):
        with pytest.raises(ProfileError):
            flat.require_fit(flat.flatten(wrong), SMALL)
