"""Intervals hold what they promise: against closed forms, other implementations and simulation."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from tests.packager.gates.samples import Array, scored, valued
from whimbrel_packager.quality import intervals
from whimbrel_packager.quality.intervals import Resamples
from whimbrel_packager.quality.metrics import METRICS

if TYPE_CHECKING:
    from collections.abc import Callable

    from whimbrel_packager.quality.predictions import Predictions


def plain_delong(scores: list[Array], true: Array) -> tuple[Array, Array]:
    """Areas and their covariance, as the paper has them: every pair, one by one."""
    areas, tens, ones = [], [], []
    for score in scores:
        pairs = (score[true][:, None] > score[~true]) + 0.5 * (score[true][:, None] == score[~true])
        areas.append(pairs.mean())
        tens.append(pairs.mean(axis=1))
        ones.append(pairs.mean(axis=0))
    s10, s01 = np.atleast_2d(np.cov(tens)), np.atleast_2d(np.cov(ones))
    return np.array(areas), s10 / true.sum() + s01 / (~true).sum()


def tied(seed: int, rows: int = 80) -> tuple[Array, Array, Array]:
    rng = np.random.default_rng(seed)
    true = rng.random(rows) < 0.4
    true[:4] = [True, True, False, False]
    a = np.round(true + rng.normal(0, 1, rows), 1)
    return a, np.round(a / 2 + rng.normal(0, 0.7, rows), 1), true


@given(st.integers(0, 10_000))
def test_the_variance_of_an_area_and_of_a_difference_is_delongs(seed: int) -> None:
    a, b, true = tied(seed)
    areas, covariance = plain_delong([a, b], true)
    resamples = Resamples(len(true))
    one, other = intervals.delong(a, true, resamples), intervals.delong(b, true, resamples)
    assert one.auc == pytest.approx(areas[0])
    assert float((one.parts**2).sum()) == pytest.approx(covariance[0, 0], rel=1e-9)
    difference = float(((one.parts - other.parts) ** 2).sum())
    wanted = covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1]
    assert difference == pytest.approx(wanted, rel=1e-6, abs=1e-12)


def test_delongs_interval_is_that_of_the_bootstrap() -> None:
    answered = scored(1500, 1)
    resamples = Resamples(1500)
    value, low, high = intervals.of_metric(METRICS["auc"], answered, resamples)
    rng = np.random.default_rng(5)
    drawn = []
    for _ in range(500):
        rows = rng.integers(0, 1500, 1500)
        drawn.append(METRICS["auc"].value(answered.take(rows)))
    assert (high - low) / 2 / 1.96 == pytest.approx(np.std(drawn), rel=0.1)
    assert low < value < high


def test_a_group_per_row_gives_delongs_variance_and_equal_rows_in_groups_a_wider_one() -> None:
    a, _, true = tied(4, 200)
    own = intervals.delong(a, true, Resamples(200, np.arange(200)))
    plain = intervals.delong(a, true, Resamples(200))
    assert (own.parts**2).sum() == pytest.approx((plain.parts**2).sum(), rel=0.02)
    # Every row five times over, in groups of five: no more is known than before.
    groups = np.repeat(np.arange(200), 5)
    five, truth = np.repeat(a, 5), np.repeat(true, 5)
    grouped = intervals.delong(five, truth, Resamples(1000, groups))
    assert (grouped.parts**2).sum() == pytest.approx((own.parts**2).sum(), rel=1e-9)
    fooled = intervals.delong(five, truth, Resamples(1000))
    assert (fooled.parts**2).sum() == pytest.approx((own.parts**2).sum() / 5, rel=0.05)


def test_the_bootstrap_of_a_mean_is_that_of_its_closed_form() -> None:
    answered = valued(2000, 2)
    found = intervals.of_metric(METRICS["mae"], answered, Resamples(2000))
    assert answered.predicted is not None
    errors = np.abs(answered.predicted - answered.truth)
    low, high = stats.norm.interval(0.95, errors.mean(), stats.sem(errors))
    assert found.low == pytest.approx(low, abs=0.15 * (high - low))
    assert found.high == pytest.approx(high, abs=0.15 * (high - low))


def test_the_bootstrap_is_scipys() -> None:
    answered = valued(300, 3)
    found = intervals.of_metric(METRICS["rmse"], answered, Resamples(300, replicates=4000))
    assert answered.predicted is not None
    theirs = stats.bootstrap(
        ((answered.predicted - answered.truth) ** 2,),
        lambda squares, axis: np.sqrt(squares.mean(axis=axis)),
        n_resamples=4000, method="BCa", rng=np.random.default_rng(0),
    ).confidence_interval  # fmt: skip
    width = theirs.high - theirs.low
    assert found.low == pytest.approx(theirs.low, abs=0.1 * width)
    assert found.high == pytest.approx(theirs.high, abs=0.1 * width)


def _covered(
    figure: str, truth: float, make: Callable[[int, int], Predictions], rows: int, runs: int = 200
) -> float:
    hits = 0
    for seed in range(runs):
        answered: Predictions = make(rows, seed)
        found = intervals.of_metric(METRICS[figure], answered, Resamples(rows, replicates=400))
        hits += found.low <= truth <= found.high
    return hits / runs


@pytest.mark.parametrize("figure", ["accuracy", "f1", "brier", "auc"])
def test_intervals_cover_the_true_figure_as_often_as_they_promise(figure: str) -> None:
    truth = METRICS[figure].value(scored(400_000, 99))
    # 200 runs: two standard errors of .95 are .03.
    assert 0.905 <= _covered(figure, truth, scored, 250) <= 0.99


@pytest.mark.parametrize("figure", ["rmse", "r2"])
def test_intervals_of_errors_cover_too(figure: str) -> None:
    truth = METRICS[figure].value(valued(400_000, 99))
    assert 0.905 <= _covered(figure, truth, valued, 250) <= 0.99


def test_intervals_over_groups_cover_where_those_over_rows_do_not() -> None:
    """Thirty days, each with a difficulty of its own: rows of a day are right or wrong together."""
    days, per_day, inside, fooled = 30, 40, 0, 0
    for seed in range(200):
        rng = np.random.default_rng(seed)
        hard = rng.beta(4, 2, days)
        right = (rng.random((days, per_day)) < hard[:, None]).ravel().astype(float)
        per_row = np.stack([right, np.ones_like(right)], axis=1)
        day = np.repeat(np.arange(days), per_day)

        def share(sums: Array) -> Array:
            return np.asarray(sums[..., 0] / sums[..., 1])

        found = Resamples(len(right), day, replicates=400).interval(per_row, share)
        inside += found.low <= 4 / 6 <= found.high
        found = Resamples(len(right), None, replicates=400).interval(per_row, share)
        fooled += found.low <= 4 / 6 <= found.high
    assert inside / 200 > 0.9
    assert fooled / 200 < 0.6


def test_a_paired_difference_is_surer_than_two_intervals_apart() -> None:
    a, noise = scored(800, 7), np.random.default_rng(1).normal(0, 0.02, 800)
    score = a.score
    assert score is not None
    worse = np.clip(score + noise, 0.001, 0.999)
    b = a._replace(probabilities=np.stack([1 - worse, worse], axis=1))
    resamples = Resamples(800)
    for name in ("auc", "brier", "logloss"):
        alone = intervals.of_metric(METRICS[name], a, resamples)
        both = intervals.of_difference(METRICS[name], a, b, resamples)
        assert both.high - both.low < (alone.high - alone.low) / 3
        assert both.value == pytest.approx(METRICS[name].value(a) - METRICS[name].value(b))


def test_equal_models_differ_by_nothing_and_surely_so() -> None:
    a = scored(300)
    for name in ("auc", "accuracy", "f1"):
        assert intervals.of_difference(METRICS[name], a, a, Resamples(300)) == (0, 0, 0)


def test_a_gap_of_a_part_against_the_whole_has_the_spread_of_the_bootstrap() -> None:
    answered = scored(900, 11)
    inside = np.arange(900) % 3 == 0
    for name in ("auc", "accuracy"):
        found = intervals.of_gap(METRICS[name], answered, inside, Resamples(900))
        rng = np.random.default_rng(3)
        drawn = []
        for _ in range(400):
            rows = rng.integers(0, 900, 900)
            of_part = rows[inside[rows]]
            metric = METRICS[name]
            drawn.append(metric.value(answered.take(of_part)) - metric.value(answered.take(rows)))
        assert (found.high - found.low) / 2 / 1.96 == pytest.approx(np.std(drawn), rel=0.15)


def test_equal_rows_give_equal_intervals() -> None:
    answered = scored(500, 3)
    first = intervals.of_metric(METRICS["f1"], answered, Resamples(500))
    assert intervals.of_metric(METRICS["f1"], answered, Resamples(500)) == first


@pytest.mark.parametrize("grouped", [False, True])
def test_very_many_rows_are_drawn_in_bundles_and_vary_as_much(
    grouped: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    answered = scored(3000, 3)
    groups = np.arange(3000) // 2 if grouped else None
    for name in ("f1", "brier", "calibration_error"):
        monkeypatch.setattr(intervals, "_BUNDLES", 5000)
        each = intervals.of_metric(METRICS[name], answered, Resamples(3000, groups))
        monkeypatch.setattr(intervals, "_BUNDLES", 700)
        bundled = intervals.of_metric(METRICS[name], answered, Resamples(3000, groups))
        width = each.high - each.low
        assert bundled.value == pytest.approx(each.value)
        assert bundled.high - bundled.low == pytest.approx(width, rel=0.15)
        assert bundled.low == pytest.approx(each.low, abs=0.15 * width)


def test_without_rows_of_both_classes_there_is_no_area_and_no_interval() -> None:
    answered = scored(50, truth=np.ones(50, dtype=bool))
    found = intervals.of_metric(METRICS["auc"], answered, Resamples(50))
    assert math.isnan(found.value)
    assert found.ends is None


def test_the_interval_of_a_figure_holds_the_figure_even_where_noise_makes_it_larger() -> None:
    found = intervals.of_metric(METRICS["calibration_error"], scored(300, 4), Resamples(300))
    assert found.low <= found.value <= found.high
