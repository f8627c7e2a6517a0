"""Changes in one series: what is found, what is not, and what the evidence does not depend on."""

from __future__ import annotations

import math

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from whimbrel_core.errors import ProfileError
from whimbrel_core.profile.watching.series import (
    MEMORY,
    Change,
    SeriesSettings,
    SeriesState,
    locate,
    start,
    update,
    update_together,
)

Floats = NDArray[np.float64]
USUAL = SeriesSettings()


def watch(
    values: Floats,
    options: SeriesSettings = USUAL,
    state: SeriesState | None = None,
    since: int = 0,
) -> tuple[SeriesState, list[Change]]:
    state, changes = start() if state is None else state, []
    for at, value in enumerate(values.tolist(), since):
        state, change = update(state, at, value, options)
        changes += [] if change is None else [change]
    return state, changes


def noise(seed: int, n: int, correlation: float = 0.0) -> Floats:
    shocks = np.random.default_rng(seed).normal(size=n + 50)
    for i in range(1, len(shocks)):
        shocks[i] += correlation * shocks[i - 1]
    return shocks[50:]


@pytest.mark.parametrize(("shift", "within"), [(3.0, 8), (-3.0, 8), (6.0, 4), (1.5, 25)])
def test_a_shift_is_found_soon_and_placed_where_it_began(shift: float, within: int) -> None:
    values = noise(11, 100)
    values[60:] += shift
    _, changes = watch(values)
    assert len(changes) == 1
    (change,) = changes
    assert change.kind == "level"
    assert change.direction == math.copysign(1, shift)
    assert abs(change.began_at - 60) <= 3
    assert change.at <= 60 + within
    assert change.before == pytest.approx(0, abs=0.5)
    assert change.after == pytest.approx(shift, abs=1.5)
    assert change.log_e >= change.threshold == math.log(720)


def test_every_change_of_several_is_found_because_the_detector_starts_anew() -> None:
    values = noise(12, 200)
    values[50:100] += 6
    values[100:150] -= 4
    _, changes = watch(values)
    assert [round(change.began_at / 10) for change in changes] == [5, 10, 15]
    assert [change.direction for change in changes] == [1, -1, 1]


def test_wider_noise_is_told_apart_from_a_shift() -> None:
    values = noise(13, 120)
    values[60:] *= 4
    _, changes = watch(values)
    assert [(change.kind, change.direction) for change in changes] == [("spread", 1)]
    assert changes[0].sd_after > 2 * changes[0].sd_before


def test_a_steady_trend_is_no_change_and_a_kink_in_it_is_one() -> None:
    values = noise(14, 140) + 0.5 * np.arange(140)
    assert watch(values)[1] == []
    values[100:] += 1.5 * np.arange(40)
    _, changes = watch(values)
    assert changes
    assert abs(changes[0].began_at - 100) <= 5


def test_a_small_shift_is_found_where_a_trend_would_be_no_excuse() -> None:
    values = noise(22, 160)
    values[100:] += 1.0
    assert watch(values)[1] == []
    _, changes = watch(values, SeriesSettings(trends=False))
    assert [abs(change.began_at - 100) <= 10 for change in changes] == [True]


@pytest.mark.parametrize("correlation", [0.0, 0.5, 0.9])
def test_without_a_change_false_alarms_keep_to_the_promise(correlation: float) -> None:
    """9 series of 80 observations: at most n / arl = 1/3 of them may alarm, by the promise."""
    options = SeriesSettings(arl=240)
    alarmed = [bool(watch(noise(100 + seed, 80, correlation), options)[1]) for seed in range(9)]
    assert sum(alarmed) <= 3


@pytest.mark.parametrize("odd", [50.0, -1e9])
def test_one_odd_observation_is_no_change(odd: float) -> None:
    values = noise(15, 100)
    values[60] = odd
    assert watch(values)[1] == []


def test_a_constant_series_says_nothing_until_it_stays_elsewhere() -> None:
    values = np.full(60, 7.0)
    state, changes = watch(values)
    assert (changes, state.log_e) == ([], -math.inf)
    assert watch(np.append(values, [9.0, 7.0, 7.0, 7.0, 7.0, 7.0]))[1] == []  # a blip
    _, changes = watch(np.append(values, [9.0, 9.0, 9.0]))
    assert [(change.began_at, change.before, change.after) for change in changes] == [
        (60, 7.0, 9.0)
    ]


def test_what_is_below_the_noise_floor_is_not_looked_for() -> None:
    values = np.where(np.arange(80) < 60, 0.0, 0.001)
    assert watch(values)[1]
    assert watch(values, SeriesSettings(noise_floor=0.01))[1] == []


@settings(max_examples=15, deadline=None)
@given(
    values=st.lists(st.floats(-100, 100), min_size=1, max_size=40),
    cut=st.integers(0, 40),
)
def test_a_state_that_was_stored_goes_on_with_the_same_bits(values: list[float], cut: int) -> None:
    whole, changes = watch(np.array(values))
    half, early = watch(np.array(values[:cut]))
    again = msgspec.msgpack.decode(msgspec.msgpack.encode(half), type=SeriesState)
    resumed, late = watch(np.array(values[cut:]), state=again, since=min(cut, len(values)))
    assert resumed == whole
    assert early + late == changes


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 1000), power=st.integers(-30, 30), offset=st.integers(-1000, 1000))
def test_evidence_depends_neither_on_the_unit_nor_on_the_origin(
    seed: int, power: int, offset: int
) -> None:
    values = np.round(noise(seed, 40) * 256) / 256
    values[25:] += 1.0
    moved = (values + offset) * 2.0**power  # no digit is lost
    (first, changes), (second, same) = watch(values), watch(moved)
    assert second.log_e == pytest.approx(first.log_e, rel=1e-6)
    assert [c.began_at for c in same] == [c.began_at for c in changes]


def test_what_is_no_number_or_comes_late_changes_nothing() -> None:
    state, _ = watch(noise(16, 20))
    for at, value in [(20, math.nan), (21, math.inf), (19, 5.0), (3, 5.0)]:
        assert update(state, at, value) == (state, None)


def test_a_state_stays_small_and_knows_what_left_its_memory() -> None:
    values = noise(17, MEMORY + 60)
    values[-12:] += 4
    state, _ = watch(values[: MEMORY + 40])
    assert len(msgspec.msgpack.encode(state)) <= 6_800
    assert state.n == MEMORY + 40
    _, changes = watch(values)
    assert [abs(change.began_at - (MEMORY + 48)) <= 3 for change in changes] == [True]


def test_series_that_change_together_are_told_once() -> None:
    columns = np.stack([noise(seed, 90) for seed in (18, 19, 20)], axis=1)
    columns[50:, 1] += 5
    columns[52:, 2] -= 5
    states: tuple[SeriesState, ...] = (start(),) * 3
    changes = []
    for at, row in enumerate(columns.tolist()):
        states, change = update_together(states, at, row, USUAL)
        changes += [] if change is None else [change]
    assert [abs(change.began_at - 50) <= 3 for change in changes] == [True]
    assert changes[0].series == 1
    assert update_together(states, 89, [9.0, 9.0, 9.0], USUAL) == (states, None)


def test_settings_without_meaning_are_refused_and_too_few_observations_have_no_change() -> None:
    with pytest.raises(ProfileError, match="ARL of two observations"):
        SeriesSettings(arl=1)
    with pytest.raises(ProfileError, match="noise floor"):
        SeriesSettings(noise_floor=-1)
    with pytest.raises(ProfileError, match="2 observations say nothing"):
        locate(watch(np.array([1.0, 2.0]))[0], USUAL)
