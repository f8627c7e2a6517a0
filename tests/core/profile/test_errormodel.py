"""A regression's expected error is the counts of its tree's leaves times the errors of held-out rows."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest

from whimbrel_core.errors import ProfileError
from whimbrel_core.profile.baseline import Baseline
from whimbrel_core.profile.building.columns import ColumnSpec
from whimbrel_core.profile.building.reference import build
from whimbrel_core.profile.counting.accumulator import Accumulator
from whimbrel_core.profile.drift.segments import segments
from whimbrel_core.profile.flat import flatten
from whimbrel_core.profile.quality import loss
from whimbrel_core.profile.quality.estimates import expected_of
from whimbrel_core.profile.slices import Slice
from whimbrel_core.profile.window import Window, merge

WORDS = np.array(["north", "south", "west"], object)
SLICES = (Slice(name="southern", feature="side", words=("south",)),)


class Rows:
    """What a model read and said, and the truth: far off where x and z are both large, or south."""

    def __init__(self, n: int, seed: int, *, together: float = 0.0, south: float = 0.3) -> None:
        rng = np.random.default_rng(seed)
        self.x, self.z = rng.random((2, n)).astype(np.float32)
        # The more together, the more both are large or both small; each by itself stays as it was.
        self.z = np.where(rng.random(n) < together, self.x, self.z)
        self.side = WORDS[rng.choice(3, n, p=[0.9 - south, south, 0.1])]
        self.x[rng.random(n) < 0.02] = np.nan
        self.predicted = np.round(100 * self.z).astype(np.float32)
        spread = 1 + 6 * ((self.x > 0.6) & (self.z > 0.6)) + 2 * (self.side == "south")
        self.actual = self.predicted - rng.normal(size=n) * spread

    @property
    def error(self) -> np.ndarray:
        error: np.ndarray = self.predicted - self.actual
        return error

    @property
    def columns(self) -> list[ColumnSpec]:
        return [
            ColumnSpec("x", "input", "x", 0, self.x),
            ColumnSpec("z", "input", "z", 0, self.z),
            ColumnSpec("side", "input", "side", 0, self.side),
            ColumnSpec("y", "output", "y", 0, self.predicted),
        ]

    @property
    def tensors(self) -> dict[str, np.ndarray]:
        return {"x": self.x, "z": self.z, "side": self.side, "y": self.predicted}


def baseline(n: int = 20_000) -> Baseline:
    rows = Rows(n, 1)
    return build(rows.columns, task="regression", labels=rows.actual, slices=SLICES)


def window(of: Baseline, rows: Rows) -> Window:
    accumulator = Accumulator(of)
    accumulator.update(rows.tensors)
    return accumulator.window(0, 1)


@pytest.mark.parametrize(
    "drift", [{}, {"together": 0.5}, {"together": 1.0}, {"south": 0.8}, {"south": 0.0}]
)
def test_expected_error_follows_which_values_come_together(drift: dict[str, float]) -> None:
    of = baseline()
    rows = Rows(60_000, 2, **drift)
    found = expected_of(window(of, rows), of)
    assert found is not None
    assert (found.rows, found.accuracy, found.auc) == (60_000, None, None)
    assert found.mae == pytest.approx(np.abs(rows.error).mean(), rel=0.05)
    assert found.rmse == pytest.approx(np.sqrt((rows.error**2).mean()), rel=0.05)


def test_what_is_expected_of_merged_windows_is_what_is_expected_of_all_rows() -> None:
    of = baseline()
    a, b = Rows(700, 3), Rows(900, 4, together=1.0)
    merged = merge(window(of, a), window(of, b))
    accumulator = Accumulator(of)
    accumulator.update(a.tensors)
    accumulator.update(b.tensors)
    assert expected_of(merged, of) == expected_of(accumulator.window(0, 1), of)


def test_a_slice_of_a_regression_has_an_expected_error_of_its_own() -> None:
    of = baseline()
    rows = Rows(40_000, 5, together=1.0)
    (southern,) = segments(window(of, rows), of)
    mae, rmse = southern.losses
    inside = rows.side == "south"
    assert mae.rows == southern.rows == inside.sum()
    assert (mae.measure, mae.reading, rmse.measure) == ("MAE", "costly", "RMSE")
    assert mae.current == pytest.approx(np.abs(rows.error[inside]).mean(), rel=0.07)
    reference = Rows(20_000, 1)
    usual = reference.error[reference.side == "south"]
    assert mae.reference == pytest.approx(np.abs(usual).mean(), rel=0.07)


def test_equal_rows_give_equal_bytes_and_survive_them() -> None:
    of = baseline(2000)
    assert baseline(2000).encode() == of.encode()
    assert Baseline.decode(of.encode()) == of
    assert of.errors is not None
    assert sum(of.errors.rows) == 2000
    assert of.window.score_cells == of.errors.rows


def test_rows_without_a_known_label_are_counted_and_teach_nothing() -> None:
    rows = Rows(4000, 1)
    labels = rows.actual.copy()
    labels[1000:] = np.nan
    of = build(rows.columns, task="regression", labels=labels)
    assert of.errors is not None
    assert sum(of.errors.rows) == 1000
    assert sum(of.window.score_cells or ()) == 4000
    weighed = np.dot(of.errors.rows, of.errors.absolute) / 1000
    assert weighed == pytest.approx(np.abs(rows.error[:1000]).mean())


@pytest.mark.parametrize("n", [1, 39])
def test_few_held_out_rows_make_one_leaf_that_has_their_error(n: int) -> None:
    rows = Rows(500, 1)
    labels = np.where(np.arange(500) < n, rows.actual, np.nan)
    of = build(rows.columns, task="regression", labels=labels)
    assert of.layout.error_tree is not None
    assert of.layout.error_tree.nodes == (None,)
    assert of.window.score_cells == (500,)
    found = expected_of(window(of, Rows(300, 2)), of)
    assert found is not None
    assert found.mae == pytest.approx(np.abs(rows.error[:n]).mean())


def test_a_model_that_is_never_wrong_expects_no_error() -> None:
    rows = Rows(500, 1)
    of = build(rows.columns, task="regression", labels=rows.predicted)
    found = expected_of(window(of, Rows(300, 2)), of)
    assert found is not None
    assert (found.mae, found.rmse) == (0, 0)


def test_a_drift_to_where_the_model_is_worse_reads_as_costly_and_back_as_better() -> None:
    of = baseline()
    worse = window(of, Rows(3600, 5, together=1.0))
    (mae, rmse) = loss.losses(loss.cells(flatten(worse), of), of)
    assert (mae.measure, mae.reading, rmse.measure, rmse.reading) == (
        "MAE", "costly", "RMSE", "costly",
    )  # fmt: skip
    assert mae.loss == pytest.approx(0.45, abs=0.1)
    better = window(of, Rows(3600, 5, south=0.0))
    assert loss.losses(loss.cells(flatten(better), of), of)[0].reading == "better"
    same = loss.losses(loss.cells(flatten(window(of, Rows(90_000, 6))), of), of)
    assert abs(same[0].loss) < 3 * same[0].se / same[0].reference + 0.01
    assert loss.losses((0,) * len(loss.cells(flatten(worse), of)), of) == ()


def test_a_standard_error_covers_how_the_expected_error_varies() -> None:
    of = baseline()
    found = [
        loss.losses(loss.cells(flatten(window(of, Rows(400, seed))), of), of)[0]
        for seed in range(60)
    ]
    spread = np.std([one.current for one in found])
    assert spread == pytest.approx(np.mean([one.se for one in found]), rel=0.35)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rows": (1, 2)}, "a number per leaf"),
        ({"absolute": ()}, "a number per leaf"),
        ({"rows": (0, 1, 1)}, "out of range"),
        ({"absolute": (-1.0, 1.0, 1.0)}, "out of range"),
        ({"squared": (float("nan"), 1.0, 1.0)}, "out of range"),
    ],
)
def test_an_error_model_that_does_not_fit_is_refused(
    change: dict[str, object], message: str
) -> None:
    of = baseline(90)
    assert of.errors is not None
    assert len(of.errors.rows) == 3
    other = msgspec.structs.replace(of, errors=msgspec.structs.replace(of.errors, **change))
    with pytest.raises(ProfileError, match=message):
        Baseline.decode(other.encode())


def test_an_error_model_without_a_tree_is_refused() -> None:
    of, rows = baseline(90), Rows(90, 1)
    bare = build(rows.columns, task="regression")
    assert (bare.errors, bare.window.score_cells, expected_of(bare.window, bare)) == (None,) * 3
    with pytest.raises(ProfileError, match="a number per leaf"):
        Baseline.decode(msgspec.structs.replace(bare, errors=of.errors).encode())


def test_labels_of_other_rows_and_of_other_models_are_refused() -> None:
    rows = Rows(100, 1)
    with pytest.raises(ProfileError, match="leave predicted out"):
        build(rows.columns, task="regression", labels=rows.actual, predicted=rows.predicted)
    with pytest.raises(ProfileError, match="equally many"):
        build(rows.columns, task="regression", labels=rows.actual[:50])
    with pytest.raises(ProfileError, match="held-out rows with a label"):
        build(rows.columns, task="regression", labels=rows.actual * np.nan)
    other = ColumnSpec("w", "output", "w", 0, rows.predicted)
    with pytest.raises(ProfileError, match="2 outputs"):
        build([*rows.columns, other], task="regression", labels=rows.actual)
