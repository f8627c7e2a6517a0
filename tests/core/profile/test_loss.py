"""Expected quality loss: the error told is the one that repeats show, and readings are honest."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from whimbrel_core.profile.baseline import Calibration
from whimbrel_core.profile.quality.estimates import expected
from whimbrel_core.profile.quality.loss import Loss, between

BINS = 20
MEANS = tuple((k + 0.5) / BINS for k in range(BINS))
REFERENCE = np.random.default_rng(0).beta(2, 3, 400_000)
DRIFTED = np.random.default_rng(1).beta(4, 4, 400_000)


def counted(scores: np.ndarray) -> tuple[int, ...]:
    return tuple(np.bincount((scores * BINS).astype(int), minlength=BINS).tolist())


def calibration_of(rng: np.random.Generator, rows: int) -> Calibration:
    """Return how ``rows`` reference scores came true: each as often as it says."""
    scores = rng.choice(REFERENCE, rows)
    truth = rng.random(rows) < scores
    right = (scores >= 0.5) == truth
    return Calibration(
        false=counted(scores[~truth]),
        true=counted(scores[truth]),
        right=counted(scores[right]),
        means=MEANS,
        binary=True,
    )


def test_the_standard_error_is_the_spread_of_repeats() -> None:
    rng = np.random.default_rng(11)
    found = [
        between(
            counted(rng.choice(DRIFTED, 800)),
            counted(rng.choice(REFERENCE, 3000)),
            calibration_of(rng, 3000),
        )
        for _ in range(200)
    ]
    for measure in (0, 1):
        changes = np.array([one[measure].current - one[measure].reference for one in found])
        told = np.median([one[measure].se for one in found])
        assert told == pytest.approx(changes.std(), rel=0.2)
        # The whole of the promised change is there, and not only its noise.
        sure = between(counted(DRIFTED), counted(REFERENCE), calibration_of(rng, 400_000))[measure]
        assert changes.mean() == pytest.approx(sure.current - sure.reference, abs=3 * told)


def test_the_values_are_those_of_expected_quality() -> None:
    calibration = calibration_of(np.random.default_rng(2), 5000)
    auc, accuracy = between(counted(DRIFTED), counted(REFERENCE), calibration)
    assert auc.current == expected(counted(DRIFTED), calibration).auc
    assert accuracy.reference == expected(counted(REFERENCE), calibration).accuracy
    assert (auc.measure, accuracy.measure, auc.rows) == ("AUC", "accuracy", 400_000)


def test_the_same_scores_lose_nothing_and_the_calibration_leaves_no_doubt_about_it() -> None:
    few = calibration_of(np.random.default_rng(3), 200)
    for found in between(counted(REFERENCE), counted(REFERENCE), few):
        assert found.loss == 0
        assert found.se < 0.002
        assert found.reading == "harmless"


def test_without_rows_or_with_a_score_that_claims_no_class_there_is_no_more_than_there_is() -> None:
    calibration = calibration_of(np.random.default_rng(3), 200)
    assert between((0,) * BINS, counted(REFERENCE), calibration) == ()
    assert between(counted(DRIFTED), (0,) * BINS, calibration) == ()


@given(
    st.lists(st.integers(0, 50), min_size=BINS, max_size=BINS).filter(any),
    st.lists(st.integers(0, 50), min_size=BINS, max_size=BINS).filter(any),
)
def test_any_counts_give_finite_numbers(now: list[int], then: list[int]) -> None:
    calibration = calibration_of(np.random.default_rng(4), 100)
    for found in between(now, then, calibration):
        assert np.isfinite([found.current, found.reference, found.se, found.loss]).all()


@pytest.mark.parametrize(
    ("reference", "current", "se", "reading"),
    [
        (0.713, 0.712, 0.003, "harmless"),
        (0.713, 0.655, 0.012, "costly"),
        (0.713, 0.700, 0.020, "unclear"),
        (0.713, 0.760, 0.004, "better"),
        (0.713, 0.705, 0.0005, "harmless"),
    ],
)
def test_a_loss_is_read_by_its_size_and_by_how_sure_it_is(
    reference: float, current: float, se: float, reading: str
) -> None:
    found = Loss(measure="AUC", reference=reference, current=current, se=se, rows=500)
    assert found.reading == reading


def test_of_an_error_less_is_better_and_its_loss_is_a_share_of_it() -> None:
    found = Loss(measure="MAE", reference=20.0, current=25.0, se=0.5, rows=500)
    assert found.loss == pytest.approx(0.25)
    assert found.reading == "costly"
    smaller = Loss(measure="MAE", reference=20.0, current=18.0, se=0.5, rows=500)
    assert smaller.reading == "better"
