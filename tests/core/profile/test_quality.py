"""Quality from counts is the quality of the rows."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.core.profile.samples import SMALL, flight_baseline
from whimbrel_core.errors import ProfileError
from whimbrel_core.profile.baseline import Calibration
from whimbrel_core.profile.counting.accumulator import Accumulator
from whimbrel_core.profile.quality.estimates import expected, realised
from whimbrel_core.profile.window import QualityCounts, no_quality

MEANS = tuple((k + 0.5) / 20 for k in range(20))


def auc_of(scores: np.ndarray, truth: np.ndarray) -> float:
    """Area under the ROC curve by its definition: pairs in order, ties half."""
    positive, negative = scores[truth], scores[~truth]
    above = (positive[:, None] > negative).sum() + (positive[:, None] == negative).sum() / 2
    return float(above / (len(positive) * len(negative)))


def labelled(seed: int, n: int) -> tuple[np.ndarray, np.ndarray, QualityCounts]:
    rng = np.random.default_rng(seed)
    scores = rng.beta(2, 5, n)
    truth = rng.random(n) < scores
    accumulator = Accumulator(SMALL)
    for score, true in zip(scores.tolist(), truth.tolist(), strict=True):
        accumulator.record_label(SMALL.score_bin(score), int(score >= 0.5), int(true))
    counts = accumulator.window(0, 1).quality
    assert counts is not None
    return scores, truth, counts


@given(st.integers(0, 10_000), st.integers(5, 300))
def test_realised_quality_is_that_of_the_binned_rows(seed: int, n: int) -> None:
    scores, truth, counts = labelled(seed, n)
    found = realised(counts)
    assert found.n == n
    assert found.accuracy == pytest.approx(((scores >= 0.5) == truth).mean())
    if truth.all() or not truth.any():
        assert found.auc is None
        return
    binned = np.floor(scores * 20)
    assert found.auc == pytest.approx(auc_of(binned, truth))
    assert found.positive_rate == pytest.approx(truth.mean())


def test_standard_errors_cover_what_they_should() -> None:
    truths = [realised(labelled(seed, 400)[2]) for seed in range(200)]
    auc = np.array([found.auc for found in truths], float)
    error = np.array([found.auc_se for found in truths], float)
    covered = np.mean(np.abs(auc - auc.mean()) < 1.96 * error)
    assert 0.90 <= covered <= 0.99
    accuracy = np.array([found.accuracy for found in truths], float)
    error = np.array([found.accuracy_se for found in truths], float)
    assert error.mean() == pytest.approx(accuracy.std(), rel=0.2)


def test_expected_quality_follows_a_shift_of_the_scores() -> None:
    layout, calibration = flight_baseline().layout, flight_baseline().calibration
    assert calibration is not None
    rng = np.random.default_rng(3)
    for a, b in ((2, 5), (1, 1), (4, 3)):
        scores = rng.beta(a, b, 20_000)
        truth = rng.random(20_000) < scores
        bins = np.searchsorted(layout.score_edges, scores)
        cells = np.bincount(bins, minlength=layout.score_bins)
        found = expected(tuple(cells.tolist()), calibration)
        assert found.rows == 20_000
        assert found.accuracy == pytest.approx(((scores >= 0.5) == truth).mean(), abs=0.015)
        assert found.auc == pytest.approx(auc_of(scores[:4000], truth[:4000]), abs=0.03)


def test_expected_accuracy_of_many_classes_has_no_auc() -> None:
    calibration = Calibration(
        false=(10,) * 20, true=(30,) * 20, right=(30,) * 20, means=MEANS, binary=False
    )
    found = expected((5,) * 20, calibration)
    assert found.auc is None
    assert found.accuracy == pytest.approx(0.75, abs=0.01)


def test_bins_that_the_calibration_never_saw_have_an_expectation() -> None:
    nothing = Calibration(
        false=(0,) * 20, true=(0,) * 20, right=(0,) * 20, means=MEANS, binary=True
    )
    found = expected((1,) * 20, nothing)
    assert found.accuracy is not None
    assert found.auc is not None
    assert found.auc > 0.5


def test_without_rows_nothing_is_claimed() -> None:
    calibration = flight_baseline().calibration
    assert calibration is not None
    assert expected((0,) * 20, calibration).accuracy is None
    assert realised(no_quality(SMALL)).accuracy is None
    with pytest.raises(ProfileError, match="20 bins"):
        expected((1,) * 19, calibration)


def test_a_regression_has_bias_and_errors() -> None:
    found = realised(QualityCounts(rows=4, error=2.0, absolute=6.0, squared=16.0))
    assert (found.bias, found.mae, found.rmse) == (0.5, 1.5, 2.0)
    assert (found.accuracy, found.auc) == (None, None)


def test_one_class_alone_has_accuracy_and_no_auc() -> None:
    counts = QualityCounts(rows=3, right=2, scores=(3, 0) + (0,) * 38, confusion=(2, 0, 1, 0))
    found = realised(counts)
    assert found.accuracy == pytest.approx(2 / 3)
    assert found.auc is None
    assert found.positive_rate == 0
