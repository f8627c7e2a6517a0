"""Baselines describe their rows exactly, and the same way on every machine."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import pytest

from tests.core.profile.samples import flight_baseline
from whimbrel_core.errors import ProfileError
from whimbrel_core.profile.baseline import Baseline, Calibration
from whimbrel_core.profile.building.columns import ColumnSpec
from whimbrel_core.profile.building.reference import build
from whimbrel_core.profile.counting.accumulator import Accumulator
from whimbrel_core.profile.feature import MAX_CELLS, Feature, Kind

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray


def column(
    values: ArrayLike, *, name: str = "a", tensor: str = "x", kind: Kind | None = None
) -> ColumnSpec:
    return ColumnSpec(name, "input", tensor, 0, np.asarray(values), kind=kind)


def only(baseline: Baseline) -> Feature:
    (feature,) = baseline.layout.features
    return feature


def reference(values: ArrayLike, kind: Kind | None = None) -> Baseline:
    return build([column(values, kind=kind)], task="regression")


def test_deciles_are_cut_at_order_statistics() -> None:
    values = np.random.default_rng(0).lognormal(size=7919).astype(np.float32)
    edges = only(reference(values)).edges
    ascending = np.sort(values)
    for k in range(1, 80):
        assert float(ascending[math.ceil(k * 7919 / 80) - 1]) in edges
    assert len(edges) < MAX_CELLS
    assert float(values.max()) in edges
    assert max(edges) > float(values.max())
    assert min(edges) < float(values.min())


def test_cells_hold_the_counts_and_means_of_their_rows() -> None:
    values = np.random.default_rng(1).normal(5, 2, size=5000).astype(np.float32)
    baseline = reference(values)
    edges = np.array(only(baseline).edges)
    stats = baseline.stats[0]
    which = (values[:, None] > edges).sum(axis=1)
    counts = baseline.window.features[0].cells
    for cell in range(len(edges) + 1):
        inside = values[which == cell].astype(float)
        assert counts[cell] == len(inside)
        if len(inside):
            assert stats.cell_means[cell] == pytest.approx(inside.mean(), rel=1e-12)
        elif 0 < cell < len(edges):
            assert edges[cell - 1] < stats.cell_means[cell] <= edges[cell]
    assert stats.mean == pytest.approx(values.astype(float).mean(), rel=1e-12)
    assert stats.sd == pytest.approx(values.astype(float).std(), rel=1e-12)
    assert (stats.min, stats.max) == (values.min(), values.max())
    mean = baseline.window.features[0].mean(only(baseline))
    assert mean == pytest.approx(stats.mean, abs=1e-6)


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        (np.arange(64).repeat(10), "discrete"),
        (np.arange(65).repeat(10), "numeric"),
        (np.random.default_rng(0).normal(size=50), "numeric"),  # few rows are no flag
        ([0, 1, 1], "discrete"),
        ([True, False], "discrete"),
        ([7.0] * 20, "discrete"),
        ([math.nan] * 3, "discrete"),
        (np.array(["a", "b", None], object), "categorical"),
        (np.array(["a", "b"]), "categorical"),
        (np.array([b"a", b"b"]), "categorical"),
        (np.array([1.5, None], object), "discrete"),
    ],
    ids=str,
)
def test_the_kind_follows_from_the_values(values: ArrayLike, kind: str) -> None:
    assert only(reference(values)).kind == kind


def test_a_kind_may_be_asked_for_where_it_can_hold() -> None:
    assert only(reference(np.arange(9).repeat(9), kind="numeric")).kind == "numeric"
    with pytest.raises(ProfileError, match="cannot be discrete"):
        reference(np.arange(65), kind="discrete")
    with pytest.raises(ProfileError, match="cannot be numeric"):
        reference(np.array(["a"]), kind="numeric")
    with pytest.raises(ProfileError, match="cannot be categorical"):
        reference([1.0], kind="categorical")


def test_nulls_infinities_and_zeros_of_either_sign_are_told_apart() -> None:
    baseline = reference([0.0, -0.0, 1.0, math.nan, math.inf, -math.inf, 1e300])
    feature, counts, stats = only(baseline), baseline.window.features[0], baseline.stats[0]
    assert feature.values == (0.0, 1.0)
    assert math.copysign(1, feature.values[0]) == 1
    assert counts.cells == (2, 1, 0)
    assert (counts.nulls, counts.pos_inf, counts.neg_inf) == (1, 2, 1)
    assert stats.null_rate == pytest.approx(4 / 7)


def test_the_vocabulary_holds_the_most_frequent_words() -> None:
    words = [f"w{i:03}" for i in range(100) for _ in range(200 - i)] + ["x" * 300] * 500
    baseline = reference(np.array(words, object))
    assert only(baseline).vocabulary == tuple(f"w{i:03}" for i in range(63))
    cells = baseline.window.features[0].cells
    assert cells[0] == 200
    assert cells[63] == sum(200 - i for i in range(63, 100)) + 500


def test_equal_rows_give_equal_bytes_in_any_order() -> None:
    rng = np.random.default_rng(3)
    values = rng.normal(1e6, 3, size=9001).astype(np.float32)
    words = np.array(["b", "a", "c"], object)[rng.integers(0, 3, 9001)]

    def bytes_of(order: NDArray[np.int64]) -> bytes:
        columns = [column(values[order]), column(words[order], name="b", tensor="w")]
        baseline = build(columns, task="regression")
        # Repeats are what is left of the order of rows.
        features = tuple(
            msgspec.structs.replace(one, repeats=0) for one in baseline.window.features
        )
        window = msgspec.structs.replace(baseline.window, features=features, duplicates=0)
        return msgspec.structs.replace(baseline, window=window).encode()

    straight = bytes_of(np.arange(9001))
    assert bytes_of(rng.permutation(9001)) == straight
    assert Baseline.decode(straight).encode() == straight


def test_the_calibration_counts_how_scores_came_true() -> None:
    calibration = flight_baseline().calibration
    assert calibration is not None
    assert calibration.binary
    seen = np.array(calibration.false) + np.array(calibration.true)
    assert seen.sum() == 20_000
    rate = np.array(calibration.true)[seen > 500] / seen[seen > 500]
    assert np.abs(rate - np.array(calibration.means)[seen > 500]).max() < 0.04
    # Below one half the model says "on time", from there on "late".
    edges = np.array(flight_baseline().layout.score_edges)
    below = int((edges < 0.5).sum())
    assert 0 < below < len(edges)
    assert calibration.right[:below] == calibration.false[:below]
    assert calibration.right[below + 1 :] == calibration.true[below + 1 :]


def test_labels_may_be_names_or_indices() -> None:
    scores = np.array([[0.9, 0.05, 0.05], [0.2, 0.5, 0.3], [0.1, 0.2, 0.7]])

    def calibrated(labels: list[str] | list[int] | list[float]) -> Calibration | None:
        return build(
            [column(scores[:, 0], tensor="p")],
            task="classification", classes=["10", "20", "30"], score_tensor="p",
            labels=np.asarray(labels), scores=scores,
        ).calibration  # fmt: skip

    by_name = calibrated(["10", "20", "20"])
    assert by_name == calibrated([10, 20, 20]) == calibrated([10.0, 20.0, 20.0])
    assert by_name == calibrated([0, 1, 1])
    assert by_name is not None
    assert (sum(by_name.true), sum(by_name.false), by_name.binary) == (2, 1, False)
    with pytest.raises(ProfileError, match="'40' is none of the model's classes: 10, 20, 30"):
        calibrated(["10", "20", "40"])


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ({"labels": [0, 1]}, "belong together"),
        ({"labels": [0], "scores": [0.1, 0.2]}, "equally many"),
        ({"labels": [0, 1], "scores": [0.1, math.nan]}, "finite"),
        ({"labels": [0, 1], "scores": [[0.1, 0.2, 0.7]] * 2}, "do not fit 2 classes"),
        ({"labels": [0, 1], "scores": [0.1, 0.2], "score_tensor": None}, "score_tensor"),
        ({"labels": [0, 1], "scores": [0.1, 0.2], "positive": None}, "without a positive"),
        ({"labels": [0, 1], "scores": [0.1, 0.2], "predicted": [0]}, "equally many"),
    ],
    ids=str,
)
def test_labels_and_scores_that_do_not_fit_are_refused(
    arguments: dict[str, Any], complaint: str
) -> None:
    fields: dict[str, Any] = {
        "task": "classification", "classes": ["no", "yes"], "positive": 1, "score_tensor": "p",
    }  # fmt: skip
    fields |= {
        key: np.asarray(value) if key in {"labels", "scores", "predicted"} else value
        for key, value in arguments.items()
    }
    with pytest.raises(ProfileError, match=complaint):
        build([column([0.1, 0.9, 0.3], tensor="p")], **fields)


@pytest.mark.parametrize(
    ("columns", "complaint"),
    [
        ([], "at least one column"),
        ([column([])], "one row"),
        ([column([1.0]), column([1.0, 2.0], name="b")], "'b' has 2 rows, 'a' has 1"),
        ([column([[1.0], [2.0]])], "shape"),
        ([column(np.array(["a", 1.5, {}], object))], "mixes strings with"),
        ([column([1.0]), column([2.0])], "used twice"),
    ],
    ids=str,
)
def test_columns_that_make_no_baseline_are_refused(
    columns: list[ColumnSpec], complaint: str
) -> None:
    with pytest.raises(ProfileError, match=complaint):
        build(columns, task="regression")


def test_reference_rows_fed_to_a_device_give_the_reference_counts() -> None:
    baseline = flight_baseline()
    from tests.core.profile.samples import flight_rows

    accumulator = Accumulator(baseline)
    accumulator.update(flight_rows(0, 20_000))
    window = accumulator.window(0, 0)
    for mine, theirs in zip(window.features, baseline.window.features, strict=True):
        assert mine.cells == theirs.cells
        assert mine.invalid == theirs.invalid
    assert window.score_cells == baseline.window.score_cells
