"""Score bins lie where the scores are, and keep their order however the scores move."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.stats import rankdata

from whimbrel_core.errors import ProfileError
from whimbrel_core.profile.baseline import Baseline
from whimbrel_core.profile.building.columns import ColumnSpec
from whimbrel_core.profile.building.reference import build
from whimbrel_core.profile.counting.accumulator import Accumulator
from whimbrel_core.profile.feature import is_float32
from whimbrel_core.profile.quality.estimates import expected, realised
from whimbrel_core.profile.quality.scores import EQUAL_EDGES, score_edges

if TYPE_CHECKING:
    from numpy.typing import NDArray


def exact_auc(scores: NDArray[Any], truth: NDArray[np.bool_]) -> float:
    """Area under the ROC curve by ranks (Mann-Whitney), ties half."""
    positives = int(truth.sum())
    above = rankdata(scores)[truth].sum() - positives * (positives + 1) / 2
    return float(above / (positives * (len(truth) - positives)))


def drawn(seed: int, a: float, b: float, n: int) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Return scores from beta(a, b) and truths that come as the scores say."""
    rng = np.random.default_rng(seed)
    scores = rng.beta(a, b, n).astype(np.float32)
    return scores, rng.random(n) < scores


def baseline_of(
    reference: NDArray[Any], truth: NDArray[np.bool_] | None = None, **changes: object
) -> Baseline:
    """Return the baseline of a two-class model with these scores."""
    fields: dict[str, Any] = {
        "task": "classification", "classes": ["no", "yes"], "positive": 1, "score_tensor": "p",
    }  # fmt: skip
    if truth is not None:
        fields |= {"labels": truth.astype(int), "scores": reference}
    columns = [ColumnSpec("p", "output", "p", 0, reference)]
    fields |= {"columns": columns, **changes}
    return build(**fields)


def joined(baseline: Baseline, scores: NDArray[Any], truth: NDArray[np.bool_]) -> Accumulator:
    """Return the counts of predictions whose labels have come."""
    accumulator, layout = Accumulator(baseline), baseline.layout
    accumulator.update({"p": scores.reshape(-1, 1)})
    for score, true in zip(scores.tolist(), truth.tolist(), strict=True):
        accumulator.record_label(layout.score_bin(score), int(score >= 0.5), int(true))
    return accumulator


@pytest.mark.parametrize(
    ("drift", "realised_within", "expected_within"),
    [((2, 8), 0.003, 0.01), ((3, 8), 0.003, 0.01), ((4, 6), 0.01, 0.03), ((4, 3), 0.01, 0.1)],
    ids=str,
)
def test_auc_from_bins_of_skewed_scores_is_the_exact_one_and_stays_close_when_they_drift(
    drift: tuple[float, float], realised_within: float, expected_within: float
) -> None:
    baseline = baseline_of(*drawn(1, 2, 8, 20_000))
    scores, truth = drawn(2, *drift, 20_000)
    window = joined(baseline, scores, truth).window(0, 1)
    exact = exact_auc(scores, truth)
    assert window.quality is not None
    assert realised(window.quality).auc == pytest.approx(exact, abs=realised_within)
    assert baseline.calibration is not None
    assert window.score_cells is not None
    promised = expected(window.score_cells, baseline.calibration)
    assert promised.auc == pytest.approx(exact, abs=expected_within)
    right = (scores >= 0.5) == truth
    assert promised.accuracy == pytest.approx(right.mean(), abs=expected_within)


def test_equal_bins_would_lose_more_of_a_skewed_auc() -> None:
    scores, truth = drawn(3, 1, 20, 20_000)
    exact = exact_auc(scores, truth)
    found = exact_auc(np.searchsorted(score_edges(scores), scores), truth)
    equal = exact_auc(np.searchsorted(EQUAL_EDGES, scores), truth)
    assert abs(found - exact) < 0.004
    assert abs(equal - exact) > 0.03


@pytest.mark.parametrize("distinct", [2, 5, 20])
def test_few_distinct_scores_have_a_bin_each_and_an_exact_auc(distinct: int) -> None:
    rng = np.random.default_rng(4)
    levels = np.sort(rng.random(distinct)).astype(np.float32)
    scores = levels[rng.integers(0, distinct, 2000)]
    truth = rng.random(2000) < scores
    baseline = baseline_of(scores, truth)
    assert baseline.layout.score_bins == distinct
    quality = joined(baseline, scores, truth).window(0, 1).quality
    assert quality is not None
    assert realised(quality).auc == pytest.approx(exact_auc(scores, truth), abs=1e-12)
    # A processor that rounds otherwise changes nothing.
    for towards in (np.float32(-1), np.float32(2)):
        nudged = np.nextafter(scores, towards)
        assert joined(baseline, nudged, truth).window(0, 1).quality == quality


def test_constant_scores_have_one_bin_and_an_auc_of_one_half() -> None:
    truth = np.arange(200) % 4 == 0
    baseline = baseline_of(np.full(200, 0.25, np.float32), truth)
    assert baseline.layout.score_edges == ()
    assert Baseline.decode(baseline.encode()) == baseline
    window = joined(baseline, np.full(200, 0.25, np.float32), truth).window(0, 1)
    assert window.score_cells == (200,)
    assert window.quality is not None
    assert realised(window.quality).auc == 0.5
    assert baseline.calibration is not None
    assert baseline.calibration.means == (0.25,)
    promised = expected(window.score_cells, baseline.calibration)
    assert promised.auc == 0.5
    assert promised.accuracy == pytest.approx(0.75)


def test_a_frequent_score_has_a_bin_of_its_own() -> None:
    rng = np.random.default_rng(5)
    scores = np.append(rng.beta(2, 5, 5000), np.full(5000, 0.3)).astype(np.float32)
    edges = score_edges(scores)
    beside = np.searchsorted(edges, np.sort(scores))
    (bin_,) = np.unique(np.searchsorted(edges, np.array([0.3], np.float32)))
    assert set(np.sort(scores)[beside == bin_].tolist()) == {float(np.float32(0.3))}
    assert len(edges) == 19


@given(
    hnp.arrays(
        np.float32,
        st.integers(0, 200),
        elements=st.floats(0, 1, width=32)
        | st.sampled_from([0.0, -0.0, 0.25, 1.0, np.nan, np.inf, -np.inf])
        | st.floats(-(2.0**100), 2.0**100, width=32),
    )
)
def test_edges_of_any_scores_are_ones_that_a_layout_takes(scores: NDArray[np.float32]) -> None:
    edges = score_edges(scores)
    assert all(map(is_float32, edges))
    layout = baseline_of(np.array([0.5], np.float32)).layout
    assert msgspec.structs.replace(layout, score_edges=edges).score_bins <= 20
    distinct = np.unique(scores[np.isfinite(scores)])
    if 0 < len(distinct) <= 20:
        found = [np.searchsorted(edges, score) for score in distinct]
        assert found == list(range(len(distinct)))
    assert score_edges(scores[::-1]) == edges


def test_edges_come_from_all_rows_else_from_the_held_out_ones_else_are_equal() -> None:
    scores, truth = drawn(6, 2, 8, 3000)
    held_out = {"labels": truth[:500].astype(int), "scores": scores[:500]}
    other = [ColumnSpec("x", "input", "x", 0, np.arange(3000.0))]
    assert baseline_of(scores, **held_out).layout.score_edges == score_edges(scores)
    without = baseline_of(scores, columns=other, **held_out).layout
    assert without.score_edges == score_edges(scores[:500])
    assert baseline_of(scores, columns=other).layout.score_edges == EQUAL_EDGES
    unknown = np.full(3000, np.nan, np.float32)
    assert baseline_of(unknown).layout.score_edges == EQUAL_EDGES
    silent = baseline_of(scores, score_tensor=None)
    assert (silent.layout.score_edges, silent.window.score_cells) == ((), None)


def test_the_score_of_many_classes_is_binned_by_confidence() -> None:
    odds = np.random.default_rng(7).dirichlet((1, 1, 1), 4000).astype(np.float32)
    columns = [ColumnSpec(f"p{i}", "output", "p", i, odds[:, i]) for i in range(3)]
    baseline = baseline_of(odds, columns=columns, classes=["a", "b", "c"], positive=None)
    assert baseline.layout.score_edges == score_edges(odds.max(axis=1))


def test_a_calibration_with_other_means_than_bins_is_refused() -> None:
    baseline = baseline_of(*drawn(8, 2, 8, 500))
    calibration = baseline.calibration
    assert calibration is not None
    for means in (calibration.means[1:], (*calibration.means[1:], 1.5), (np.nan,) * 20):
        damaged = msgspec.structs.replace(calibration, means=means)
        with pytest.raises(ProfileError, match="mean scores"):
            msgspec.structs.replace(baseline, calibration=damaged).check()
