"""Models of more columns than a profile holds: some are chosen, or the packer is told what to do."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LogisticRegression

import whimbrel_packager
from tests.packager.proving import InProcess, Run, prove
from tests.support.worker import FakeControl
from whimbrel_agent.channel import SlotSpec
from whimbrel_agent.serving import engine
from whimbrel_core.errors import UsageError
from whimbrel_core.profile import window as windows
from whimbrel_core.profile.building import reference
from whimbrel_core.profile.building.columns import ColumnSpec
from whimbrel_core.profile.counting.accumulator import Accumulator
from whimbrel_core.profile.layout import MAX_FEATURES
from whimbrel_core.profile.window import merge
from whimbrel_packager import baseline, window_size
from whimbrel_packager.descriptors import Describe
from whimbrel_packager.frame import of
from whimbrel_packager.gates import incumbents
from whimbrel_packager.recipe import Profile
from whimbrel_packager.signing import keyfiles

if TYPE_CHECKING:
    from pathlib import Path

    from whimbrel_core.profile.baseline import Baseline

WIDE = 260


def table(rows: int = 200) -> pd.DataFrame:
    numbers = np.random.default_rng(0).normal(size=(rows, WIDE)).astype(np.float32)
    names = [f"temp_{i}" for i in range(WIDE - 2)] + ["speed", "load"]
    return pd.DataFrame(numbers, columns=names)


def model() -> LogisticRegression:
    data = table()
    return LogisticRegression().fit(data.to_numpy(), data["speed"] > 0)


@pytest.fixture(scope="module")
def run() -> Run:
    return prove(model(), table())


def profiled(run: Run, wanted: Profile) -> Baseline:
    return baseline.build(
        run.frame,
        run.answers.outputs["reference"],
        run.done.result,
        labelled=None,
        positive=None,
        units={},
        declared=wanted.describe,
        chosen=wanted.columns,
    )


def test_without_a_choice_the_packer_is_told_how_to_make_one(run: Run) -> None:
    made = profiled(run, Profile())
    assert {feature.role for feature in made.layout.features} == {"output"}
    (note,) = baseline.notes(made, run.done.result, Profile())
    assert f"a profile has {MAX_FEATURES} features at most" in note
    assert '[profile] columns = ["temp_*", "speed"]' in note


def test_chosen_columns_are_profiled_and_counted_where_they_stand_in_the_matrix(
    tmp_path: Path,
) -> None:
    _, key = keyfiles.create(tmp_path, "bundle")[0], tmp_path / "bundle.pem"
    with InProcess():
        done = whimbrel_packager.pack(
            model(), table(), name="wide", version="1.0.0", key=key, out=tmp_path,
            profile_columns=["temp_1?", "speed"],
        )  # fmt: skip
    loaded = engine.load(done.path, [key.with_suffix(".pub").read_text()])
    layout = loaded.baseline.layout
    read = {f.name: f.column for f in layout.features if f.role == "input"}
    assert read == {**{f"temp_{i}": i for i in range(10, 20)}, "speed": WIDE - 2}
    assert not any("not profiled" in note for note in done.report.notes)
    rows = table().to_numpy()
    accumulator = Accumulator(loaded.baseline)
    accumulator.update({"features": rows})
    window = accumulator.window(0, 1)
    for feature, here, usual in zip(
        layout.features, window.features, loaded.baseline.window.features, strict=True
    ):
        assert feature.role == "output" or here.cells == usual.cells
    assert inputs_counted_by_a_worker(done, key, rows[:5], tmp_path) == [
        cells for feature, cells in zip(layout.features, alone(loaded, rows[:5]), strict=True)
        if feature.role == "input"
    ]  # fmt: skip
    said = incumbents._feeds(done.manifest, loaded.baseline, of(table()))
    assert said == "profiles 11 columns of 'features', and reads others by no name"


def alone(loaded: engine.Engine, rows: np.ndarray[Any, Any]) -> list[tuple[int, ...]]:
    accumulator = Accumulator(loaded.baseline)
    accumulator.update({"features": rows})
    return [one.cells for one in accumulator.window(0, 1).features]


def inputs_counted_by_a_worker(
    done: whimbrel_packager.PackResult, key: Path, rows: np.ndarray[Any, Any], folder: Path
) -> list[tuple[int, ...]]:
    """Ask a real worker row by row, and return the cells of the inputs that it counted."""
    control = FakeControl(folder)
    try:
        pem = key.with_suffix(".pub").read_text()
        worker = control.start_worker(SlotSpec("wide", done.digest, str(done.path), (pem,)))
        for row in rows:
            item = {"name": "features", "shape": [1, WIDE], "datatype": "FP32"}
            status, _ = control.infer("wide", {"inputs": [{**item, "data": row.tolist()}]})
            assert status == 200
        worker.drain()
        sink = control.sink
        assert sink is not None
        assert sink.wait_for(lambda: sink.rows == len(rows))
        window = functools.reduce(merge, sink.decoded("wide"))
    finally:
        control.close()
    return [one.cells for one in window.features[:11]]


@pytest.mark.parametrize(
    ("chosen", "says"),
    [
        (["temp_*"], "profile.columns chooses 258 numbers a row, and 253 fit"),
        (["heat_*"], "the model has no column 'heat_*'"),
    ],
)
def test_a_choice_that_cannot_be_is_refused(run: Run, chosen: list[str], says: str) -> None:
    with pytest.raises(UsageError) as refused:
        profiled(run, Profile(columns=tuple(chosen)))
    assert says in refused.value.message
    assert refused.value.hint


def test_a_wide_matrix_may_be_described_as_a_whole(run: Run) -> None:
    made = profiled(run, Profile(describe=(Describe("features", "embedding"),)))
    assert [one.kind for one in made.layout.descriptors] == ["embedding"]


@pytest.mark.parametrize(("features", "fits"), [(20, None), (MAX_FEATURES, 100_000)])
def test_how_many_rows_fit_a_message_is_known_before_a_device_drops_a_window(
    features: int, fits: int | None
) -> None:
    numbers = np.random.default_rng(0).normal(size=(2_000, features)).astype(np.float32)
    columns = [ColumnSpec(f"x{i}", "input", "x", i, c, None) for i, c in enumerate(numbers.T)]
    profile = reference.build(columns, task="regression", classes=(), positive=None,
                              score_tensor=None)  # fmt: skip
    assert window_size.rows_that_fit(profile) == fits
    rng = np.random.default_rng(1)
    accumulator = Accumulator(profile)
    accumulator.update({"x": rng.normal(size=(10_000, features)).astype(np.float32)})
    real = len(windows.encode(accumulator.window(0, 1)))
    assert len(windows.encode(window_size.expected(profile, 10_000, rng))) == pytest.approx(
        real, rel=0.1
    )
