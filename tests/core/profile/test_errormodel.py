"""A regression's expected error is its counts times the error model of held-out rows."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest

from whimbrel_core.errors import ProfileError
from whimbrel_core.profile.baseline import Baseline
from whimbrel_core.profile.building.columns import ColumnSpec
from whimbrel_core.profile.building.reference import build
from whimbrel_core.profile.counting.accumulator import Accumulator
from whimbrel_core.profile.flat import flatten
from whimbrel_core.profile.quality import loss
from whimbrel_core.profile.quality.errormodel import PRIOR_ROWS
from whimbrel_core.profile.quality.estimates import expected_of
from whimbrel_core.profile.window import Window, merge


def rows(n: int, seed: int, *, low: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """Return predictions and true values: the larger a prediction, the further off."""
    rng = np.random.default_rng(seed)
    predicted = rng.uniform(low, 10, n).astype(np.float32)
    return predicted, predicted + rng.normal(size=n) * (0.5 + predicted / 5)


def baseline(n: int = 20_000) -> Baseline:
    predicted, actual = rows(n, 1)
    columns = [
        ColumnSpec("x", "input", "x", 0, np.arange(n) % 7 + 0.5),
        ColumnSpec("y", "output", "y", 0, predicted),
    ]
    return build(columns, task="regression", labels=actual, predicted=predicted)


def window(of: Baseline, predicted: np.ndarray) -> Window:
    accumulator = Accumulator(of)
    accumulator.update(
        {"x": np.ones((len(predicted), 1), np.float32), "y": predicted[:, np.newaxis]}
    )
    return accumulator.window(0, 1)


def test_expected_error_follows_where_predictions_go() -> None:
    of = baseline()
    for low in (0.0, 3.0, 8.0):
        predicted, actual = rows(60_000, 2, low=low)
        found = expected_of(window(of, predicted), of)
        assert found is not None
        assert (found.rows, found.accuracy, found.auc) == (60_000, None, None)
        error = predicted - actual
        assert found.mae == pytest.approx(np.abs(error).mean(), rel=0.02)
        assert found.rmse == pytest.approx(np.sqrt((error**2).mean()), rel=0.02)


def test_what_is_expected_of_merged_windows_is_what_is_expected_of_all_rows() -> None:
    of = baseline()
    a, b = rows(700, 3)[0], rows(900, 4, low=6.0)[0]
    merged = merge(window(of, a), window(of, b))
    assert expected_of(merged, of) == expected_of(window(of, np.concatenate([a, b])), of)


def test_a_baseline_with_an_error_model_survives_its_bytes() -> None:
    of = baseline(2000)
    assert Baseline.decode(of.encode()) == of
    assert of.errors is not None
    assert sum(of.errors.rows) == 2000


def test_a_bin_without_held_out_rows_has_the_error_of_the_whole() -> None:
    predicted, actual = rows(20_000, 1)
    columns = [ColumnSpec("y", "output", "y", 0, predicted)]
    some = predicted > 5
    of = build(columns, task="regression", labels=actual[some], predicted=predicted[some])
    assert of.errors is not None
    assert of.errors.rows[0] == 0
    mean = np.abs(predicted[some] - actual[some]).mean()
    assert of.errors.absolute[0] == pytest.approx(mean)
    held = of.errors.rows[-1]
    last = predicted > np.quantile(predicted, 0.95)
    own = np.abs(predicted[last] - actual[last]).mean()
    shrunk = (held * own + PRIOR_ROWS * mean) / (held + PRIOR_ROWS)
    assert of.errors.absolute[-1] == pytest.approx(shrunk, rel=1e-3)


def test_a_drift_to_where_the_model_is_worse_reads_as_costly_and_back_as_better() -> None:
    of = baseline()
    (mae, rmse) = loss.losses(loss.cells(flatten(window(of, rows(3600, 5, low=7.0)[0])), of), of)
    assert (mae.measure, mae.reading, rmse.measure, rmse.reading) == (
        "MAE", "costly", "RMSE", "costly",
    )  # fmt: skip
    assert mae.loss == pytest.approx(0.45, abs=0.1)
    same = loss.losses(loss.cells(flatten(window(of, rows(90_000, 6)[0])), of), of)
    assert abs(same[0].loss) < 3 * same[0].se / same[0].reference + 0.01
    assert loss.losses((0,) * 20, of) == ()


def test_a_standard_error_covers_how_the_expected_error_varies() -> None:
    of = baseline()
    found = [
        loss.losses(loss.cells(flatten(window(of, rows(400, seed)[0])), of), of)[0]
        for seed in range(60)
    ]
    spread = np.std([one.current for one in found])
    assert spread == pytest.approx(np.mean([one.se for one in found]), rel=0.35)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"feature": 0}, None),
        ({"feature": 9}, "as many numbers"),
        ({"starts": (1, 2)}, "as many numbers"),
        ({"absolute": (-1.0,) * 20}, "out of range"),
        ({"squared": (float("nan"),) * 20}, "out of range"),
        ({"starts": tuple(range(1, 21))}, "must belong"),
    ],
)
def test_an_error_model_that_does_not_fit_is_refused(
    change: dict[str, object], message: str | None
) -> None:
    of = baseline(2000)
    assert of.errors is not None
    other = msgspec.structs.replace(of, errors=msgspec.structs.replace(of.errors, **change))
    with pytest.raises(ProfileError, match=message or "must belong"):
        Baseline.decode(other.encode())


def test_labels_without_predictions_and_other_layouts_are_refused() -> None:
    predicted, actual = rows(100, 1)
    column = ColumnSpec("y", "output", "y", 0, predicted)
    with pytest.raises(ProfileError, match="belong together"):
        build([column], task="regression", labels=actual)
    with pytest.raises(ProfileError, match="equally many"):
        build([column], task="regression", labels=actual[:50], predicted=predicted)
    with pytest.raises(ProfileError, match="held-out rows with a label"):
        build([column], task="regression", labels=actual * np.nan, predicted=predicted)
    other = ColumnSpec("z", "output", "z", 0, predicted)
    with pytest.raises(ProfileError, match="2 outputs"):
        build([column, other], task="regression", labels=actual, predicted=predicted)
