"""The simulated fleet of the benchmark sends what devices would, and is judged as the server does."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks._fleets import FEATURES, HOUR_MS, Change, Draws, Setting, reference, wander
from benchmarks.false_alarms import found, quiet
from whimbrel_core.profile.counting.accumulator import Accumulator

ROWS = 3600


@pytest.fixture(scope="module")
def draws() -> Draws:
    return Draws(reference(3), ROWS, seed=4, windows=60)


def test_a_window_that_was_counted_beforehand_is_that_of_its_rows(draws: Draws) -> None:
    rng = np.random.default_rng(5)
    means = np.round(rng.normal(size=(2, FEATURES)) * 0.4, 2)
    expected_which = np.random.default_rng(6).integers(draws.windows, size=means.shape)
    for device, window in enumerate(draws.hour(means, 7, np.random.default_rng(6))):
        rows = (draws.drawn[expected_which[device]] + means[device, :, np.newaxis]).T
        accumulator = Accumulator(draws.baseline)
        accumulator.update({"x": rows.astype(np.float32)})
        counted = accumulator.window(7 * HOUR_MS, 8 * HOUR_MS)
        made = window.window()
        assert (made.start_ms, made.rows) == (counted.start_ms, ROWS)
        for ours, theirs in zip(made.features, counted.features, strict=True):
            # A row within a rounding of an edge may be on its other side.
            assert np.abs(np.subtract(ours.cells, theirs.cells)).sum() <= 2
            assert ours.total == pytest.approx(theirs.total, rel=1e-4, abs=0.05)
            assert ours.squares == pytest.approx(theirs.squares, rel=1e-4)
            assert ours.min == pytest.approx(theirs.min, rel=1e-5)
            assert ours.max == pytest.approx(theirs.max, rel=1e-5)


def test_fleets_wander_as_they_are_set_to_and_change_when_told() -> None:
    setting = Setting(0.1, 0.8)
    change = Change(0.5, 150, (0, 3))
    walk = np.array(
        [means for _, means in wander(setting, 60, 300, np.random.default_rng(1), change)]
    )
    calm = walk[:, :, 1] - walk[:, :, 1].mean(axis=0)
    assert walk[0].std() == pytest.approx(np.hypot(0.2, 0.1), rel=0.1)
    assert calm.std() == pytest.approx(0.1, rel=0.1)
    assert (calm[1:] * calm[:-1]).mean() / calm.var() == pytest.approx(0.8, abs=0.05)
    moved = walk[150:, :, [0, 3]].mean() - walk[:150, :, [0, 3]].mean()
    assert moved == pytest.approx(0.5, abs=0.05)


def test_a_device_that_sleeps_wanders_on_meanwhile() -> None:
    setting = Setting(0.1, 0.9, habit="asleep")
    hours, means = zip(*wander(setting, 200, 16, np.random.default_rng(2)), strict=True)
    assert hours == (*range(8), *range(24, 32))
    steps = np.diff(np.array(means), axis=0).std(axis=(1, 2))
    assert steps[:7] == pytest.approx(0.1 * np.sqrt(2 - 2 * 0.9), rel=0.1)
    assert steps[7] == pytest.approx(0.1 * np.sqrt(2 - 2 * 0.9**17), rel=0.1)


def test_a_small_fleet_is_quiet_and_a_change_in_it_is_found(draws: Draws) -> None:
    setting = Setting(0.05, 0.5)
    calm = quiet(draws, setting, 3, seed=7)
    assert calm.alarms == 0
    assert calm.windows == 672
    # Devices that differ from the reference for good are told again and again by the others.
    assert min(calm.flagged) > 0.4
    soon = found(draws, setting, 0.5, 24, seed=8)
    assert soon.median <= 2
    assert soon.missed == 0
