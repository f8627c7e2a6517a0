"""Figures as functions of sums are those of scikit-learn."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics as theirs

from tests.packager.gates.samples import scored, valued
from whimbrel_packager.quality import metrics, predictions
from whimbrel_packager.quality.metrics import METRICS

if TYPE_CHECKING:
    from whimbrel_packager.quality.predictions import Predictions


def three(rows: int = 400, seed: int = 3) -> Predictions:
    rng = np.random.default_rng(seed)
    p = rng.dirichlet([1, 2, 1], rows)
    truth = np.array(["a", "b", "c"], object)[[rng.choice(3, p=row) for row in p]]
    label = np.array(["a", "b", "c"], object)[p.argmax(axis=1)]
    return predictions.of(
        {"label": label, "p": p}, {"label": "label", "p": "probabilities"}, truth,
        task="classification", classes=("a", "b", "c"), positive=None,
    )  # fmt: skip


@given(st.integers(20, 300), st.integers(0, 1000))
def test_two_class_figures_are_those_of_scikit_learn(rows: int, seed: int) -> None:
    answered = scored(rows, seed)
    true, score = answered.true, answered.score
    said = np.asarray(answered.predicted == "1")
    if true.all() or not true.any():
        return
    wanted = {
        "accuracy": theirs.accuracy_score(true, said),
        "balanced_accuracy": theirs.balanced_accuracy_score(true, said),
        "auc": theirs.roc_auc_score(true, score),
        "brier": theirs.brier_score_loss(true, score),
        "logloss": theirs.log_loss(true, score),
        "recall": theirs.recall_score(true, said),
        "selection_rate": said.mean(),
    }
    if said.any():
        wanted["f1"] = theirs.f1_score(true, said)
        wanted["precision"] = theirs.precision_score(true, said)
    for name, value in wanted.items():
        assert METRICS[name].value(answered) == pytest.approx(value, abs=1e-9), name


@given(st.integers(3, 300), st.integers(0, 1000))
def test_regression_figures_are_those_of_scikit_learn(rows: int, seed: int) -> None:
    answered = valued(rows, seed)
    truth, said = answered.truth, answered.predicted
    assert METRICS["mae"].value(answered) == pytest.approx(theirs.mean_absolute_error(truth, said))
    rmse = theirs.root_mean_squared_error(truth, said)
    assert METRICS["rmse"].value(answered) == pytest.approx(rmse)
    assert METRICS["r2"].value(answered) == pytest.approx(theirs.r2_score(truth, said), abs=1e-9)


def test_figures_of_three_classes_are_those_of_scikit_learn() -> None:
    answered = three()
    truth, said = answered.truth.astype(str), answered.predicted
    assert said is not None
    said = said.astype(str)
    assert METRICS["accuracy"].value(answered) == theirs.accuracy_score(truth, said)
    assert METRICS["balanced_accuracy"].value(answered) == pytest.approx(
        theirs.balanced_accuracy_score(truth, said)
    )
    loss = theirs.log_loss(truth, answered.probabilities, labels=["a", "b", "c"])
    assert METRICS["logloss"].value(answered) == pytest.approx(loss)
    assert "positive class" in METRICS["f1"].missing(answered)


def test_the_calibration_error_is_that_of_its_bins_counted_one_by_one() -> None:
    answered = scored(500)
    score, true = answered.score, answered.true
    assert score is not None
    error = 0.0
    for i in range(metrics.BINS):
        upper = score < (i + 1) / metrics.BINS
        inside = (score >= i / metrics.BINS) & (upper if i < metrics.BINS - 1 else True)
        if inside.any():
            error += abs(score[inside].mean() - true[inside].mean()) * inside.mean()
    assert METRICS["calibration_error"].value(answered) == pytest.approx(error)


def test_a_probability_of_zero_for_what_was_true_is_a_large_loss_and_no_infinity() -> None:
    answered = predictions.of(
        {"p": np.array([[1.0, 0.0], [0.0, 1.0]])}, {"p": "probabilities"},
        np.array(["1", "1"], object), task="classification", classes=("0", "1"), positive="1",
    )  # fmt: skip
    assert METRICS["logloss"].value(answered) == pytest.approx(36.04 / 2, rel=1e-3)


def test_classes_are_compared_by_name_whatever_their_order() -> None:
    answered = scored(200)
    probabilities = answered.probabilities
    assert probabilities is not None
    turned = answered._replace(classes=("1", "0"), probabilities=probabilities[:, ::-1])
    for name in ("auc", "brier", "logloss", "calibration_error"):
        assert METRICS[name].value(turned) == pytest.approx(METRICS[name].value(answered))


def test_one_column_of_probabilities_is_that_of_the_positive_class() -> None:
    score = np.array([[0.2], [0.9]])
    for positive, classes in (("1", ("0", "1")), ("0", ("0", "1"))):
        answered = predictions.of(
            {"p": score}, {"p": "probabilities"}, np.array(["0", "1"], object),
            task="classification", classes=classes, positive=positive,
        )  # fmt: skip
        assert answered.score is not None
        assert answered.score.tolist() == pytest.approx([0.2, 0.9])


def test_what_predictions_lack_for_a_figure_is_said() -> None:
    two = scored(10)._replace(probabilities=None)
    assert METRICS["brier"].missing(two) == "brier needs the probability of the positive class"
    assert "or a score" in METRICS["auc"].missing(two)
    assert (
        METRICS["logloss"].missing(two) == "logloss needs probabilities, and the model gives none"
    )
    assert METRICS["rmse"].missing(two) == "a classification model has no rmse"
    assert "names none" in METRICS["accuracy"].missing(two._replace(predicted=None))
    assert METRICS["mae"].missing(valued(10)) == ""
