"""Noise on what leaves a device: counts stay counts, hide a row, and still tell a drift."""

from __future__ import annotations

import math
import random
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
import pytest

from tests.core.profile import samples
from tests.core.profile.described import delay_baseline, delays
from whimbrel_core.errors import ProfileError
from whimbrel_core.profile import flat
from whimbrel_core.profile import window as windows
from whimbrel_core.profile.building.columns import ColumnSpec
from whimbrel_core.profile.building.reference import build
from whimbrel_core.profile.counting.accumulator import Accumulator
from whimbrel_core.profile.drift.judge import Judge
from whimbrel_core.profile.drift.levels import Thresholds
from whimbrel_core.profile.privacy.noise import _Noise, noised, variance
from whimbrel_core.profile.quality.estimates import expected_of
from whimbrel_core.profile.slices import Slice

if TYPE_CHECKING:
    from whimbrel_core.profile.baseline import Baseline
    from whimbrel_core.profile.window import Window

FEATURES = 10


@lru_cache
def baseline() -> Baseline:
    rows = np.random.default_rng(0).normal(size=(20_000, FEATURES)).astype(np.float32)
    return build(
        [ColumnSpec(f"f{i}", "input", "x", i, rows[:, i]) for i in range(FEATURES)],
        task="regression",
    )


def counted(seed: int, rows: int, shift: float = 0.0) -> Window:
    accumulator = Accumulator(baseline())
    drawn = np.random.default_rng(seed).normal(size=(rows, FEATURES)) + shift
    accumulator.update({"x": drawn.astype(np.float32)})
    return accumulator.window(0, 1)


@pytest.mark.parametrize("epsilon", [0.2, 1.0, 3.0])
def test_the_noise_has_the_promised_distribution(epsilon: float) -> None:
    noise = _Noise(epsilon, random.Random(5).random)
    drawn = np.array([noise.draw() for _ in range(40_000)])
    assert abs(drawn.mean()) < 4 * math.sqrt(variance(epsilon) / len(drawn))
    assert drawn.var() == pytest.approx(variance(epsilon), rel=0.06)
    # What makes it hide a row: each step outwards is e^-epsilon as likely as the one before.
    near, next_to_it = (drawn == 0).sum(), (drawn == 1).sum()
    assert next_to_it / near == pytest.approx(math.exp(-epsilon), rel=0.1)


@pytest.mark.parametrize("sliced", [False, True])
@pytest.mark.parametrize("epsilon", [0.05, 1.0])
def test_noisy_windows_are_windows_that_add_up(epsilon: float, sliced: bool) -> None:
    slices = (Slice(name="early", feature="hour", high=7.0),) if sliced else ()
    of = samples.flight_baseline(slices)
    total = windows.empty(of.layout, 0, 1)
    for seed in range(3):
        accumulator = Accumulator(of)
        accumulator.update(samples.flight_rows(seed, 150))
        exact = accumulator.window(0, 1)
        told = noised(exact, of, epsilon, random.Random(seed).random)
        assert told != exact
        assert windows.decode(windows.encode(told)) == told
        flat.require_fit(flat.decode(windows.encode(told)), of.layout)
        assert {counts.rows for counts in told.features} == {exact.rows}
        assert all(counts.min is counts.max is None for counts in told.features)
        total = windows.merge(total, told)
    assert windows.decode(windows.encode(total)) == total


def test_a_window_without_rows_has_nothing_to_hide() -> None:
    nothing = windows.empty(baseline().layout, 0, 1)
    assert noised(nothing, baseline(), 1.0, random.Random(0).random) is nothing


@pytest.mark.parametrize(("rows", "shift"), [(300, 1.5), (3600, 0.5)])
def test_evidence_keeps_its_promise_under_noise(rows: int, shift: float) -> None:
    judge = Judge(baseline(), thresholds=Thresholds(noise=variance(0.3)))
    naive = Judge(baseline())
    small, wrong, drifted = [], [], []
    for seed in range(30):
        uniform = random.Random(seed).random
        told = noised(counted(seed, rows), baseline(), 0.3, uniform)
        small += [(one.p_value or 0) < 0.05 for one in judge.judge(told)]
        wrong += [(one.p_value or 0) < 0.05 for one in naive.judge(told)]
        moved = noised(counted(seed, rows, shift), baseline(), 0.3, uniform)
        drifted += [(one.p_value or 0) < 0.01 for one in judge.judge(moved)]
    assert np.mean(small) < 0.09
    assert np.mean(wrong) > 2 * np.mean(small)
    assert np.mean(drifted) > 0.95


def test_many_noisy_windows_together_are_nearly_exact() -> None:
    uniform = random.Random(1).random
    exact = told = windows.empty(baseline().layout, 0, 1)
    for seed in range(40):
        window = counted(seed, 1000)
        exact = windows.merge(exact, window)
        told = windows.merge(told, noised(window, baseline(), 1.0, uniform))
    judge = Judge(baseline())
    for one, other in zip(judge.judge(exact), judge.judge(told), strict=True):
        assert one.psi == pytest.approx(other.psi, abs=0.002)
        assert one.w1_sd == pytest.approx(other.w1_sd, abs=0.02)


def test_a_far_away_row_is_hidden_and_many_are_not() -> None:
    for far, seen in ((1, False), (200, True)):
        accumulator = Accumulator(baseline())
        rows = np.random.default_rng(3).normal(size=(1000, FEATURES))
        rows[:far, 0] = 50.0
        accumulator.update({"x": rows.astype(np.float32)})
        told = noised(accumulator.window(0, 1), baseline(), 1.0, random.Random(3).random)
        mean = told.features[0].mean(baseline().layout.features[0])
        assert mean is not None
        assert (mean > 1.0) is seen


@pytest.mark.parametrize("epsilon", [0.0, -1.0, 0.001, math.inf, math.nan])
def test_an_epsilon_that_means_nothing_is_refused(epsilon: float) -> None:
    with pytest.raises(ProfileError, match="epsilon"):
        noised(counted(0, 10), baseline(), epsilon, random.Random(0).random)


def test_the_expected_error_of_a_regression_survives_noise() -> None:
    of = delay_baseline()
    exact = told = windows.empty(of.layout, 0, 1)
    for seed in range(20):
        accumulator = Accumulator(of)
        accumulator.update(delays(seed, 1000, together=0.5))
        window = accumulator.window(0, 1)
        noisy = noised(window, of, 1.0, random.Random(seed).random)
        assert noisy.score_cells != window.score_cells
        assert sum(noisy.score_cells or ()) <= window.rows
        exact, told = windows.merge(exact, window), windows.merge(told, noisy)
    windows.require_fit(told, of.layout)
    known, hidden = expected_of(exact, of), expected_of(told, of)
    assert known is not None
    assert hidden is not None
    assert hidden.mae == pytest.approx(known.mae, rel=0.02)
    assert hidden.rmse == pytest.approx(known.rmse, rel=0.02)
