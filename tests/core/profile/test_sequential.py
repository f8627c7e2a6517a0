"""Lasting changes are found soon, and streams that only wander raise no alarm."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.core.profile.samples import flight_baseline, flight_window
from whimbrel_core.errors import ProfileError
from whimbrel_core.profile.building.columns import ColumnSpec
from whimbrel_core.profile.building.reference import build
from whimbrel_core.profile.drift.discoveries import e_benjamini_hochberg
from whimbrel_core.profile.watching.sequential import Detector, DetectorSettings, DetectorState
from whimbrel_core.profile.window import Window, empty, merge

if TYPE_CHECKING:
    from collections.abc import Callable

    from whimbrel_core.profile.baseline import Baseline
    from whimbrel_core.profile.watching.evidence import Evidence

HOUR = 3_600_000
FEATURES = 100


@lru_cache
def hundred() -> Baseline:
    """Return the baseline of many numeric features."""
    rng = np.random.default_rng(0)
    return build(
        [ColumnSpec(str(i), "input", "x", i, rng.normal(size=2000)) for i in range(FEATURES)],
        task="regression",
    )


def fleet(**settings: int) -> Detector:
    """Return a detector of as many streams."""
    return Detector(hundred(), DetectorSettings(**settings))


def simulated(
    detector: Detector,
    windows: int,
    *,
    shift: float = 0.0,
    at: int = 0,
    wander: float = 0.05,
    correlation: float = 0.5,
    rows: int = 3600,
    hours: Callable[[int], int] = int,
    seed: int = 5,
) -> np.ndarray:
    """Return the window (F,) of the first alarm, or −1.

    Devices differ from the baseline by .2 sd and wander; ``hours`` says when a window is.
    """
    rng = np.random.default_rng(seed)
    components = detector.components
    k = len(components.all)
    spread = np.where(components.is_scale, 0.02, wander)
    offset = np.where(components.is_scale, 0.05, 0.2) * rng.normal(size=k)
    moved = np.array([component.name == "location" for component in components.all]) * shift
    variance = components.row_variance / rows
    walk, state = rng.normal(size=k), detector.stack([detector.start()])
    first, hour = np.full(FEATURES, -1), 0
    for t in range(windows):
        while hour < hours(t):
            hour += 1
            walk = correlation * walk + np.sqrt(1 - correlation**2) * rng.normal(size=k)
        x = offset + spread * walk + np.sqrt(variance) * rng.normal(size=k) + moved * (t >= at > 0)
        state = detector.advance_all(
            state, np.array([hour * HOUR]), x[np.newaxis], variance[np.newaxis]
        )
        first[(first < 0) & detector.proofs(state).alarm[0]] = t
    return first


@pytest.mark.parametrize(
    ("wander", "correlation"), [(0.05, 0.5), (0.05, 0.9), (0.1, 0.5), (0.1, 0.9)]
)
def test_a_fleet_that_only_wanders_raises_no_alarm_in_a_week(
    wander: float, correlation: float
) -> None:
    first = simulated(fleet(streams=20_000), 216, wander=wander, correlation=correlation)
    assert (first == -1).all()


@pytest.mark.parametrize("warmup", [2, 7, 14])
def test_a_short_warm_up_claims_no_more_than_it_knows(warmup: int) -> None:
    detector = fleet(streams=100, arl_windows=30, warmup=warmup)
    first = simulated(detector, 150, wander=0.1, correlation=0.9, rows=300)
    # Five false alarms over all streams are what the budget allows.
    assert (first >= 0).sum() <= 2


def test_a_device_that_sleeps_at_night_does_not_wake_up_to_an_alarm() -> None:
    def by_day(window: int) -> int:
        return window // 8 * 24 + window % 8

    restless = {"wander": 0.1, "correlation": 0.9, "hours": by_day}
    knows = fleet(streams=200, period_s=3600)
    assert (simulated(knows, 240, **restless) == -1).all()  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("shift", "median", "worst", "restless"),
    [
        (0.5, 2, 3, {}),
        (0.3, 4, 8, {}),
        (-0.3, 4, 8, {}),
        (4.0, 2, 2, {}),
        (0.5, 4, 40, {"wander": 0.1, "correlation": 0.9}),
        (0.5, 6, 15, {"wander": 0.1}),
    ],
    ids=str,
)
def test_a_change_is_found_within(
    shift: float, median: float, worst: float, restless: dict[str, float]
) -> None:
    first = simulated(fleet(streams=20_000), 110, shift=shift, at=60, **restless)  # type: ignore[arg-type]
    delay = np.where(first < 0, np.inf, first - 60 + 1)
    assert (delay > 0).all()
    assert np.median(delay) <= median
    assert np.quantile(delay, 0.9) <= worst


def watched(windows: list[Window], warmup: int = 8) -> tuple[Detector, DetectorState]:
    detector = Detector(flight_baseline(), DetectorSettings(streams=20, warmup=warmup))
    state = detector.start()
    for window in windows:
        state = detector.advance(state, detector.observe(window))
    return detector, state


def told(detector: Detector, state: DetectorState) -> dict[str, Evidence]:
    return {found.feature: found for found in detector.evidence(state)}


def test_a_shift_of_one_feature_is_found_dated_and_named() -> None:
    windows = [flight_window(seed, 600) for seed in range(12)]
    windows += [flight_window(seed, 600, shift=0.8) for seed in range(12, 18)]
    evidence = told(*watched(windows))
    assert [name for name, found in evidence.items() if found.alarm] == ["temp"]
    temp = evidence["temp"]
    assert temp.component == "location"
    assert temp.shift == pytest.approx(0.8, abs=0.2)
    assert temp.since_ms is not None
    assert abs(temp.since_ms - 12 * HOUR) <= HOUR
    assert temp.log_e >= temp.threshold
    assert evidence["wind"].since_ms is None or not evidence["wind"].alarm


@pytest.mark.parametrize(
    ("change", "feature", "component"),
    [
        ("missing", "wind", "missing"),
        ("unseen", "carrier", "share of other"),
    ],
    ids=str,
)
def test_missing_values_and_unseen_words_are_found(
    change: str, feature: str, component: str
) -> None:
    windows = [flight_window(seed, 600) for seed in range(10)]
    windows += [
        flight_window(seed, 600, missing=0.3)
        if change == "missing"
        else flight_window(seed, 600, unseen=0.3)
        for seed in range(10, 14)
    ]
    found = told(*watched(windows))[feature]
    assert found.alarm
    assert found.component == component


def test_nothing_is_an_alarm_while_the_stream_is_being_learnt() -> None:
    windows = [flight_window(seed, 600, shift=3.0) for seed in range(8)]
    detector, state = watched(windows)
    assert state.windows == 8
    assert not any(found.alarm for found in detector.evidence(state))
    early = watched(windows[:5])
    assert all(found.warming and found.since_ms is None for found in early[0].evidence(early[1]))


def test_one_odd_window_is_no_alarm() -> None:
    windows = [flight_window(seed, 600) for seed in range(12)]
    windows[10] = flight_window(10, 600, shift=8.0)
    detector, state = watched(windows[:11])
    assert not any(found.alarm for found in detector.evidence(state))


def test_one_broken_reading_moves_nothing() -> None:
    detector = Detector(flight_baseline())
    window = flight_window(1, 600)
    cells = list(window.features[0].cells)
    cells[cells.index(max(cells))] -= 1
    cells[-1] += 1
    broken = msgspec.structs.replace(window.features[0], cells=tuple(cells), max=1e30, total=1e30)
    other = msgspec.structs.replace(window, features=(broken, *window.features[1:]))
    before = np.frombuffer(detector.observe(window).values)
    after = np.frombuffer(detector.observe(other).values)
    assert np.nanmax(np.abs(before - after)) < 0.03


def test_components_of_a_merge_are_those_of_all_its_rows() -> None:
    detector = Detector(flight_baseline())
    parts = [flight_window(seed, 500) for seed in range(4)]
    whole = merge(merge(parts[0], parts[1]), merge(parts[2], parts[3]))
    values = np.frombuffer(detector.observe(whole).values)
    average = np.mean([np.frombuffer(detector.observe(part).values) for part in parts], axis=0)
    linear = ~detector.components.is_scale
    # Equal numbers of rows, up to the nulls: a mean of means.
    assert values[linear] == pytest.approx(average[linear], abs=2e-3)


def test_windows_with_too_few_rows_and_late_ones_change_no_sum() -> None:
    windows = [flight_window(seed, 600) for seed in range(10)]
    detector, state = watched(windows)
    late = detector.advance(state, detector.observe(flight_window(3, 600, shift=3)))
    assert late == state
    nothing = detector.observe(empty(flight_baseline().layout, 20 * HOUR, 21 * HOUR))
    after = detector.advance(state, nothing)
    assert after.windows == state.windows + 1
    assert after.arrays == state.arrays


def test_a_state_comes_back_from_its_bytes_and_advancing_it_is_pure() -> None:
    detector, state = watched([flight_window(seed, 600) for seed in range(10)])
    kept = msgspec.msgpack.encode(state)
    seen = detector.observe(flight_window(30, 600, shift=1))
    again = msgspec.msgpack.decode(kept, type=DetectorState)
    assert detector.advance(again, seen) == detector.advance(state, seen)
    assert msgspec.msgpack.encode(state) == kept


def test_states_and_windows_of_another_profile_are_refused() -> None:
    detector, state = watched([flight_window(1, 600)])
    seen = detector.observe(flight_window(2, 600))
    for wrong in (
        msgspec.structs.replace(state, profile_id="0" * 64),
        msgspec.structs.replace(state, arrays=state.arrays[4:]),
    ):
        with pytest.raises(ProfileError):
            detector.advance(wrong, seen)
    with pytest.raises(ProfileError):
        detector.advance(state, msgspec.structs.replace(seen, profile_id="0" * 64))
    with pytest.raises(ProfileError):
        DetectorSettings(warmup=1)


@given(st.lists(st.floats(-50, 50), min_size=1, max_size=30), st.sampled_from([0.01, 0.1]))
def test_e_discoveries_follow_their_definition(log_e: list[float], q: float) -> None:
    n = len(log_e)
    ranked = sorted(log_e, reverse=True)
    k = max((k for k in range(1, n + 1) if ranked[k - 1] >= np.log(n / q) - np.log(k)), default=0)
    assert e_benjamini_hochberg(np.array(log_e), q).sum() == k


def at(start_ms: int, window: Window) -> Window:
    return msgspec.structs.replace(window, start_ms=start_ms, end_ms=start_ms + HOUR)


def test_many_devices_at_once_get_the_same_bits_as_one_by_one() -> None:
    baseline = flight_baseline()
    detector = Detector(baseline, DetectorSettings(streams=20, warmup=5))
    rng = np.random.default_rng(11)
    # Device d is d windows ahead, so that some learn, one settles, and others test.
    states = []
    for ahead in range(9):
        state = detector.start()
        for hour in range(ahead):
            seen = detector.observe(at(hour * HOUR, flight_window(100 * ahead + hour, 400)))
            state = detector.advance(state, seen)
        states.append(state)
    for turn in range(6):
        starts = [(ahead + turn - (rng.random() < 0.2)) * HOUR for ahead in range(9)]
        rows = [20 if rng.random() < 0.2 else 400 for _ in range(9)]
        seen_by = [
            detector.observe(at(start, flight_window(1000 * turn + d, rows[d], shift=0.1 * d)))
            for d, start in enumerate(starts)
        ]
        together = detector.advance_all(
            detector.stack(states),
            np.array(starts),
            np.array([np.frombuffer(seen.values) for seen in seen_by]),
            np.array([np.frombuffer(seen.variances) for seen in seen_by]),
        )
        alone = [detector.advance(*pair) for pair in zip(states, seen_by, strict=True)]
        assert detector.unstack(together) == alone
        proofs = detector.proofs(together)
        for d, state in enumerate(alone):
            told_alone = detector.evidence(state)
            assert [one.log_e for one in told_alone] == proofs.log_e[d].tolist()
            assert [one.alarm for one in told_alone] == proofs.alarm[d].tolist()
            assert [one.shift for one in told_alone] == proofs.shift[d].tolist()
        states = alone
