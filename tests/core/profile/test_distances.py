"""Distances agree with SciPy, and a drift is told only with evidence and effect."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from scipy.spatial.distance import jensenshannon

from tests.core.profile.samples import flight_baseline, flight_window
from whimbrel_core.errors import ProfileError
from whimbrel_core.profile.building.columns import ColumnSpec
from whimbrel_core.profile.building.reference import build
from whimbrel_core.profile.counting.accumulator import Accumulator
from whimbrel_core.profile.drift import discoveries, divergences
from whimbrel_core.profile.drift.chisquare import chi2_tail
from whimbrel_core.profile.drift.judge import Judge, compare
from whimbrel_core.profile.drift.levels import Held, State, Thresholds, settle
from whimbrel_core.profile.drift.stacking import stacked
from whimbrel_core.profile.flat import flatten
from whimbrel_core.profile.window import Window, empty, merge

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from whimbrel_core.profile.baseline import Baseline
    from whimbrel_core.profile.drift.drifts import FeatureDrift

SHIFTS = [0.0, 0.05, 0.1, 0.2, 0.3, 0.5, 1.0, 2.0, 5.0]


@lru_cache
def pair(family: str, shift: float) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(42)
    draw = rng.normal if family == "normal" else lambda size: rng.lognormal(0, 0.7, size)
    reference = draw(size=20_000).astype(np.float32)
    window = (draw(size=3600) + shift * reference.std()).astype(np.float32)
    return reference, window


@lru_cache
def built(reference: bytes) -> Baseline:
    """Return the baseline of float32 values; many windows are compared with one."""
    values = np.frombuffer(reference, np.float32)
    return build([ColumnSpec("a", "input", "x", 0, values)], task="regression")


def judged(reference: np.ndarray, window: np.ndarray) -> FeatureDrift:
    baseline = built(reference.tobytes())
    accumulator = Accumulator(baseline)
    accumulator.update({"x": window})
    (drift,) = compare(baseline, accumulator.window(0, 1))
    return drift


@pytest.mark.parametrize("shift", SHIFTS)
@pytest.mark.parametrize("family", ["normal", "lognormal"])
def test_distances_from_counts_are_close_to_those_from_all_rows(family: str, shift: float) -> None:
    reference, window = pair(family, shift)
    drift = judged(reference, window)
    assert drift.ks is not None
    assert drift.w1_sd is not None
    assert drift.ks == pytest.approx(stats.ks_2samp(reference, window).statistic, abs=0.004)
    exact = stats.wasserstein_distance(reference, window) / reference.std()
    assert drift.w1_sd == pytest.approx(exact, abs=0.002)


@pytest.mark.parametrize("family", ["normal", "lognormal"])
def test_spread_that_grows_beyond_the_reference_on_both_sides_is_measured(family: str) -> None:
    reference, window = pair(family, 0.0)
    for factor, share in ((0.7, 0.005), (1.5, 0.03), (4.0, 0.02)):
        wider = (reference.mean() + factor * (window - reference.mean())).astype(np.float32)
        exact = stats.wasserstein_distance(reference, wider) / reference.std()
        assert judged(reference, wider).w1_sd == pytest.approx(exact, rel=share, abs=0.002)


def test_where_a_window_ends_inside_of_a_cell_the_distance_is_taken_there() -> None:
    reference, window = pair("normal", 0.0)
    clipped = np.minimum(window, np.quantile(reference, 0.9).astype(np.float32))
    exact = stats.ks_2samp(reference, clipped).statistic
    assert judged(reference, clipped).ks == pytest.approx(exact, abs=0.001)


@pytest.mark.parametrize(
    ("change", "share"), [(lambda x: x + 40, 0.0), (lambda x: 6 + 2 * (x - 6), 0.1)]
)
def test_values_never_seen_are_placed_where_the_sums_say(
    change: Callable[[NDArray[Any]], NDArray[Any]], share: float
) -> None:
    rng = np.random.default_rng(3)
    reference, window = (rng.poisson(6, n).astype(np.float32) for n in (20_000, 3600))
    changed = change(window)
    drift = judged(reference, changed)
    exact = stats.wasserstein_distance(reference, changed) / reference.std()
    assert drift.w1_sd == pytest.approx(exact, rel=share, abs=1e-4)
    assert drift.ks == pytest.approx(stats.ks_2samp(reference, changed).statistic, abs=0.02)


def test_without_sums_distances_come_from_counts_alone() -> None:
    reference, window = pair("normal", 0.5)
    baseline = built(reference.tobytes())
    accumulator = Accumulator(baseline)
    accumulator.update({"x": window})
    flat = [flatten(accumulator.window(0, 1))]
    alone = Judge(baseline).measure(*stacked(flat, baseline.layout))
    assert alone.w1_sd[0, 0] == pytest.approx(0.5, abs=0.03)


@pytest.mark.parametrize("shift", SHIFTS)
def test_psi_and_js_on_deciles_are_exact(shift: float) -> None:
    reference, window = pair("normal", shift)
    deciles = np.quantile(reference, np.arange(1, 10) / 10, method="inverted_cdf")
    p = np.bincount(deciles.searchsorted(reference, "left"), minlength=10)
    q = np.bincount(deciles.searchsorted(window, "left"), minlength=10)
    drift = judged(reference, window)
    assert drift.psi == pytest.approx(max(divergences.psi_debiased(p, q), 0), abs=1e-12)
    assert drift.js == pytest.approx(jensenshannon(p, q, base=2), abs=1e-12)
    if q.min() > 0:
        shares = p / p.sum(), q / q.sum()
        textbook = float(((shares[1] - shares[0]) * np.log(shares[1] / shares[0])).sum())
        assert divergences.psi(p, q) == pytest.approx(textbook, rel=1e-12)


@given(st.lists(st.tuples(st.integers(0, 500), st.integers(0, 500)), min_size=2, max_size=30))
def test_divergences_of_counts_agree_with_scipy(pairs: list[tuple[int, int]]) -> None:
    p, q = np.array(pairs, float).T
    p = p + 1
    if not q.sum():
        q[0] = 1
    assert divergences.js(p, q) == pytest.approx(jensenshannon(p, q, base=2), abs=1e-7)
    places = np.arange(len(p), dtype=float)
    exact = stats.wasserstein_distance(places, places, p, q)
    assert divergences.w1(p, q, places, 2.0) == pytest.approx(exact / 2, abs=1e-9)
    statistic, p_value = divergences.pearson(p, q)
    oracle = stats.chisquare(q, p * q.sum() / p.sum()).statistic / (1 + q.sum() / p.sum())
    assert statistic == pytest.approx(oracle, rel=1e-9)
    assert p_value == pytest.approx(stats.chi2.sf(oracle, len(p) - 1), rel=1e-9, abs=1e-250)


@given(st.floats(0, 1300), st.integers(1, 60))
def test_chi_square_tails_agree_with_scipy_even_when_tiny(x: float, degrees: int) -> None:
    assert chi2_tail(x, degrees) == pytest.approx(stats.chi2.sf(x, degrees), rel=1e-10)


def test_chi_square_tails_are_probabilities_at_both_ends() -> None:
    assert chi2_tail(0, 5) == 1
    assert chi2_tail(7, 0) == 1
    assert 0 <= chi2_tail(1e300, 19) < 1e-250


@given(st.lists(st.floats(0, 1), min_size=1, max_size=40), st.sampled_from([0.01, 0.05, 0.2]))
def test_discoveries_agree_with_scipy(p_values: list[float], q: float) -> None:
    expected = stats.false_discovery_control(p_values) <= q
    found = discoveries.benjamini_hochberg(p_values, q)
    # At the very edge, q·k/n and p·n/k ≤ q may round apart.
    adjusted = stats.false_discovery_control(p_values)
    assert all((found == expected) | (np.abs(adjusted - q) < 1e-12))


def test_the_same_distribution_is_ok() -> None:
    drifts = compare(flight_baseline(), flight_window(1, 3600))
    assert {drift.state for drift in drifts} == {"ok"}
    assert [drift.feature for drift in drifts][:2] == ["temp", "precip"]
    assert drifts[-1].role == "output"


@pytest.mark.parametrize(("shift", "state"), [(0.15, "notice"), (0.4, "warn"), (0.7, "severe")])
def test_a_shift_is_told_with_its_size(shift: float, state: str) -> None:
    drifts = compare(flight_baseline(), flight_window(1, 3600, shift=shift))
    assert [drift.state for drift in drifts] == [state, "ok", "ok", "ok", "ok", "ok"]
    assert drifts[0].significant
    assert drifts[0].w1_sd == pytest.approx(shift, abs=0.05)
    assert drifts[0].psi == pytest.approx(shift**2, rel=0.35)


def test_a_trivial_shift_in_very_many_rows_is_evident_and_still_ok() -> None:
    window = flight_window(1, 3000, shift=0.08)
    for seed in range(2, 80):
        window = merge(window, flight_window(seed, 3000, shift=0.08))
    drift = compare(flight_baseline(), window)[0]
    assert drift.significant
    assert drift.state == "ok"


def test_a_large_distance_in_few_rows_is_no_drift() -> None:
    drifts = compare(flight_baseline(), flight_window(3, 60))
    assert {drift.state for drift in drifts} == {"too_few"}
    assert not any(drift.significant for drift in drifts)


@pytest.mark.parametrize(("missing", "state"), [(0.05, "notice"), (0.15, "warn"), (1.0, "severe")])
def test_missing_values_are_told_apart_from_changed_ones(missing: float, state: str) -> None:
    drift = compare(flight_baseline(), flight_window(1, 3600, missing=missing))[0]
    assert drift.state == state
    assert drift.null_shift == pytest.approx(missing - 0.01, abs=0.02)
    assert drift.null_p_value < 1e-6
    if missing == 1:
        assert (drift.rows, drift.psi, drift.ks, drift.w1_sd, drift.p_value) == (0,) + (None,) * 4


@pytest.mark.parametrize(("unseen", "state"), [(0.03, "notice"), (0.15, "warn"), (0.5, "severe")])
def test_words_never_seen_are_told(unseen: float, state: str) -> None:
    drift = compare(flight_baseline(), flight_window(1, 3600, unseen=unseen))[4]
    assert drift.state == state
    assert drift.other_shift == pytest.approx(unseen, abs=1e-3)
    assert (drift.ks, drift.w1_sd) == (None, None)


def test_evidence_is_right_as_often_as_it_says() -> None:
    """Nominal 1 % and 5 %: what X² / (1 + m/n) rejects without drift, in small and large windows."""
    rng = np.random.default_rng(8)
    reference = rng.normal(size=(4000, 20)).astype(np.float32)
    baseline = build(
        [ColumnSpec(str(i), "input", "x", i, reference[:, i]) for i in range(20)],
        task="regression",
    )
    judge = Judge(baseline)
    for rows, trials in ((150, 120), (1500, 60)):
        windows = []
        for _ in range(trials):
            accumulator = Accumulator(baseline)
            accumulator.update({"x": rng.normal(size=(rows, 20)).astype(np.float32)})
            windows.append(accumulator.window(0, 1))
        drifts = [drift for found in judge.judge_all(windows) for drift in found]
        p_values = np.array([drift.p_value for drift in drifts], float)
        for nominal in (0.01, 0.05):
            error = math.sqrt(nominal * (1 - nominal) / len(p_values))
            assert abs(np.mean(p_values < nominal) - nominal) < 4 * error
        assert np.mean([drift.state != "ok" for drift in drifts]) < 0.01


def test_judging_many_windows_is_judging_each() -> None:
    windows = [flight_window(1, 3600), flight_window(2, 150, shift=1), flight_window(3, 40)]
    judge = Judge(flight_baseline())
    assert judge.judge_all(windows) == [judge.judge(window) for window in windows]
    assert judge.judge_all([]) == []


def test_a_device_may_be_judged_against_its_cohort() -> None:
    cohort = merge(flight_window(1, 3600, shift=0.5), flight_window(2, 3600, shift=0.5))
    alike, unlike = flight_window(3, 3600, shift=0.5), flight_window(4, 3600)
    judge = Judge(flight_baseline(), cohort)
    assert judge.judge(alike)[0].state == "ok"
    assert judge.judge(unlike)[0].state in {"warn", "severe"}


def test_what_cannot_be_compared_is_refused() -> None:
    baseline = flight_baseline()
    with pytest.raises(ProfileError, match="no reference rows"):
        Judge(baseline, empty(baseline.layout, 0, 1))
    stranger = msgspec.structs.replace(flight_window(1, 200), profile_id="0" * 64)
    with pytest.raises(ProfileError, match="does not belong"):
        compare(baseline, stranger)


def test_an_empty_window_says_nothing() -> None:
    window: Window = empty(flight_baseline().layout, 0, 1)
    for drift in compare(flight_baseline(), window):
        assert (drift.state, drift.rows, drift.psi, drift.significant) == (
            "too_few",
            0,
            None,
            False,
        )


def test_thresholds_may_be_chosen() -> None:
    strict = Thresholds(psi=(0.001, 0.002, 0.003), w1_sd=(9.0, 9.0, 9.0))
    judge = Judge(flight_baseline(), thresholds=strict)
    assert judge.judge(flight_window(1, 3600, shift=0.2))[0].state == "severe"


def test_a_level_rises_at_once_and_falls_after_calm() -> None:
    held = Held()
    story: list[State] = [
        "ok",
        "warn",
        "notice",
        "too_few",
        "notice",
        "severe",
        "ok",
        "ok",
        "notice",
        "ok",
    ]
    shown = []
    for judged_state in story:
        held = settle(held, judged_state)
        shown.append(held.level)
    assert shown == [
        "ok", "warn", "warn", "warn", "warn", "severe", "severe", "severe", "notice", "notice",
    ]  # fmt: skip
