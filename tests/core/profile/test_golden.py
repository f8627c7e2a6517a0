"""Files of every released format stay readable for ever."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.core.profile.described import delays
from whimbrel_core.errors import ProfileError
from whimbrel_core.profile.baseline import Baseline
from whimbrel_core.profile.building.dataset import DatasetProfile
from whimbrel_core.profile.counting.accumulator import Accumulator
from whimbrel_core.profile.quality.estimates import expected_of
from whimbrel_core.profile.window import decode, encode, require_fit

GOLDEN = Path(__file__).parent / "golden"


def test_a_window_of_format_1_is_read_as_it_was_written() -> None:
    window = decode((GOLDEN / "window-1.bin").read_bytes())
    assert window.profile_id == "3d6b0b9fe315977177dfdc928cf71d8ab7da9f109f2235873db564232610b35b"
    assert (window.start_ms, window.end_ms, window.rows) == (
        1_357_000_000_000,
        1_357_003_600_000,
        500,
    )
    temp, _, _, hour, carrier, _ = window.features
    assert sum(temp.cells) + temp.nulls == 500
    assert (temp.nulls, temp.total, temp.min, temp.max) == (
        5,
        -189.0625,
        -4.097846984863281,
        24.144493103027344,
    )
    assert hour.cells == (35, 22, 27, 26, 35, 29, 31, 28, 34, 21, 24, 28, 26, 25, 27, 29, 30, 23, 0)
    assert carrier.cells == (203, 140, 94, 63, 0)
    assert window.score_cells == (
        38,
        36,
        31,
        37,
        35,
        40,
        27,
        31,
        24,
        34,
        37,
        33,
        29,
        40,
        13,
        3,
        7,
        3,
        2,
        0,
    )
    assert window.ops.requests == 2
    assert (window.ops.rejected, window.ops.mistyped) == (2, 1)
    assert (hour.repeats, carrier.repeats, window.duplicates) == (34, 147, 0)
    assert window.quality is not None
    assert window.quality.confusion == (1, 1, 0, 1)
    american, evening, frost = window.slices
    assert (american.rows, evening.rows, frost.rows) == (203, 134, 11)
    assert american.cells[4] == (203, 0, 0, 0, 0)
    assert evening.quality is not None
    assert evening.quality.confusion == (0, 1, 0, 1)
    assert decode(encode(window)) == window


def test_a_baseline_of_format_1_is_read_and_written_byte_for_byte() -> None:
    data = (GOLDEN / "baseline-1.bin").read_bytes()
    baseline = Baseline.decode(data)
    assert baseline.profile_id == "3d6b0b9fe315977177dfdc928cf71d8ab7da9f109f2235873db564232610b35b"
    assert baseline.encode() == data
    require_fit(decode((GOLDEN / "window-1.bin").read_bytes()), baseline.layout)


def test_a_regression_of_format_1_has_the_leaves_and_errors_that_it_had() -> None:
    data = (GOLDEN / "regression-baseline-1.bin").read_bytes()
    baseline = Baseline.decode(data)
    assert baseline.profile_id == "cf31dfa5a441a9b906dbe6806a7e94ad0073569dee2581a8c2013f7abd54d47e"
    assert baseline.encode() == data
    window = decode((GOLDEN / "regression-window-1.bin").read_bytes())
    require_fit(window, baseline.layout)
    assert baseline.layout.error_tree is not None
    assert baseline.layout.error_tree.leaves == len(window.score_cells or ()) == 64
    assert (window.score_cells or ())[:8] == (5, 3, 12, 10, 6, 3, 2, 25)
    assert sum(window.score_cells or ()) == window.rows == 500
    (american,) = window.slices
    assert (american.rows, sum(american.scores or ()), american.quality) == (
        197, 197, window.quality,
    )  # fmt: skip
    expected = expected_of(window, baseline)
    assert expected is not None
    assert (expected.mae, expected.rmse) == (5.3927827573315055, 10.71275530560224)
    accumulator = Accumulator(baseline)
    accumulator.update(delays(7, 500, together=0.5))
    assert accumulator.window(0, 1).score_cells == window.score_cells


def test_a_profile_of_format_1_is_read_and_written_byte_for_byte() -> None:
    data = (GOLDEN / "profile-1.wprof").read_bytes()
    profile = DatasetProfile.decode(data)
    assert profile.encode() == data
    assert profile.baseline == Baseline.decode((GOLDEN / "baseline-1.bin").read_bytes())
    assert (profile.name, profile.like, profile.coarse) == ("flights.csv", "flights 1.0.0", False)
    assert profile.absent == ("pressure",)
    assert profile.unlike == {"hour": "words ('noon') where numbers were"}
    assert (profile.new, profile.notes) == (("gate",), ("column 'tail' looks like an id",))


def test_a_truncated_or_damaged_baseline_is_refused() -> None:
    data = (GOLDEN / "baseline-1.bin").read_bytes()
    for length in range(0, len(data), 997):
        with pytest.raises(ProfileError):
            Baseline.decode(data[:length])
    with pytest.raises(ProfileError):
        Baseline.decode(data + b"\0")
    damaged = bytearray(data)
    damaged[7] = 2
    with pytest.raises(ProfileError, match="format 1"):
        Baseline.decode(bytes(damaged))
    for at in range(8, len(data), 401):
        damaged = bytearray(data)
        damaged[at] ^= 0x55
        try:
            Baseline.decode(bytes(damaged))
        except ProfileError:
            continue  # refused, or another well-formed baseline: the bundle's signature tells


def test_the_golden_buffer_of_an_open_window_can_be_attached() -> None:
    baseline = Baseline.decode((GOLDEN / "baseline-1.bin").read_bytes())
    buffer = bytearray(Accumulator.size(baseline))
    first = Accumulator(baseline, buffer)
    first.count_rejected()
    assert Accumulator.attach(baseline, bytearray(buffer)).window(0, 1).ops.rejected == 1
