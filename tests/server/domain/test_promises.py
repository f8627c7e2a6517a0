"""A regression's promise: an error that grew is told beyond doubt alone, and over when it is back."""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING

import numpy as np
import pytest

from tests.support.models import build_bundle, regression
from whimbrel_core.profile.counts import QualityCounts
from whimbrel_server.domain import promises
from whimbrel_server.domain.promises import Kept, kept

if TYPE_CHECKING:
    from whimbrel_core.profile.baseline import Baseline

LIMIT = 0.05
NOISE = 0.5
MAE = NOISE * math.sqrt(2 / math.pi)


@pytest.fixture(scope="module")
def baseline(tmp_path_factory: pytest.TempPathFactory) -> Baseline:
    """Return the baseline of y = 2a − b + noise, whose mean absolute error is known."""
    plain = regression()
    truth = 2 * plain.rows["a"].ravel() - plain.rows["b"].ravel()
    labels = truth + np.random.default_rng(5).normal(scale=NOISE, size=len(truth))
    recipe = dataclasses.replace(plain, labels=labels)
    return build_bundle(tmp_path_factory.mktemp("made"), recipe).baseline


def labelled(errors: object) -> QualityCounts:
    """Return what a device counts of these errors."""
    e = np.asarray(errors, float)
    return QualityCounts(
        rows=len(e),
        error=float(e.sum()),
        absolute=float(np.abs(e).sum()),
        squared=float((e**2).sum()),
    )


def normal(n: int, times: float = 1.0, seed: int = 0) -> QualityCounts:
    return labelled(np.random.default_rng(seed).normal(scale=times * NOISE, size=n))


def of(quality: QualityCounts, baseline: Baseline) -> Kept:
    found = kept(quality, baseline)
    assert found is not None
    return found


def test_a_promise_is_the_error_of_held_out_rows_and_how_sure_it_is_counts(
    baseline: Baseline,
) -> None:
    found = of(normal(5000), baseline)
    assert found.measure == "MAE"
    assert found.promised == pytest.approx(MAE, rel=0.1)
    assert found.promised_rmse == pytest.approx(NOISE, rel=0.1)
    assert found.realised == pytest.approx(MAE, rel=0.05)
    assert baseline.errors is not None
    # sd of |e| is √(1 − 2/π) of e's; over the labels and over the rows that were held out.
    spread = NOISE * math.sqrt(1 - 2 / math.pi)
    held_out = sum(baseline.errors.rows)
    assert found.se == pytest.approx(spread * math.sqrt(1 / 5000 + 1 / held_out), rel=0.15)


def test_an_error_that_grew_beyond_doubt_is_a_broken_promise_and_what_is_in_doubt_is_none(
    baseline: Baseline,
) -> None:
    assert not of(normal(5000), baseline).broken(LIMIT)
    worse = of(normal(5000, 1.6), baseline)
    assert worse.broken(LIMIT)
    assert not worse.mended(LIMIT)
    assert worse.severity(LIMIT) == "severe"
    assert worse.figures(LIMIT)["severity"] == "severe"
    few = of(normal(12, 1.6), baseline)
    assert not few.broken(LIMIT), "a dozen labels cannot tell"
    # Worse, but by no more than is allowed.
    assert not worse.broken(2.0)
    better = of(normal(5000, 0.5), baseline)
    assert better.mended(LIMIT)
    assert not better.broken(LIMIT)


def test_without_a_change_the_promise_is_seldom_called_broken(baseline: Baseline) -> None:
    """A hundred versions that are as good as promised, each over 200 labels."""
    called = [of(normal(200, seed=seed), baseline).broken(0.0) for seed in range(100)]
    assert sum(called) <= 1


def test_a_perfect_model_that_errs_now_has_broken_its_promise() -> None:
    found = Kept(measure="MAE", realised=0.2, se=0.01, promised=0.0, n=400)
    assert found.broken(LIMIT)
    assert found.severity(LIMIT) == "severe"
    assert found.told("fares 1.0.0").endswith("more than the 0 that its baseline promised")
    right = Kept(measure="MAE", realised=0.0, se=0.0, promised=0.0, n=400)
    assert right.mended(LIMIT)
    assert right.shortfall == 0


def test_nothing_is_promised_where_nothing_was_held_out_and_nothing_kept_without_labels(
    baseline: Baseline, tmp_path_factory: pytest.TempPathFactory
) -> None:
    bare = build_bundle(tmp_path_factory.mktemp("bare"), regression()).baseline
    assert kept(normal(500), bare) is None
    assert kept(QualityCounts(), baseline) is None
    one = of(labelled([0.4]), baseline)
    assert one.se is None
    assert not one.broken(LIMIT)


def test_what_classifiers_are_told_by_has_no_figures_of_regressions() -> None:
    found = Kept(measure="AUC", realised=0.6, se=0.01, promised=0.71, n=4000)
    assert set(found.figures(LIMIT)) == {"severity", "measure", "realised", "se", "promised", "n"}
    assert found.broken(LIMIT)
    assert found.severity(LIMIT) == "severe"
    assert found.told("flights 1.2.0") == (
        "AUC of flights 1.2.0 is 0.600 over 4000 labels; its baseline promised 0.710"
    )
    assert promises.SIGMAS == 3
