"""Segments that a recipe declares are counted on the device, and labels follow them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pytest
from sklearn.compose import ColumnTransformer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder

import whimbrel_packager
from tests.packager.proving import InProcess
from tests.support.worker import TelemetrySink
from whimbrel_agent import Model
from whimbrel_core.errors import ConfigError, ProfileError
from whimbrel_core.profile.window import decode
from whimbrel_packager import recipe as recipes
from whimbrel_packager.segments import Segment
from whimbrel_packager.signing import keyfiles

if TYPE_CHECKING:
    from pathlib import Path

AT = datetime(2024, 3, 18, 12, tzinfo=UTC)


def flights(seed: int, n: int = 600) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    temp = rng.normal(8, 10, n).astype(np.float32)
    origin = np.array(["EWR", "JFK", "LGA"], object)[rng.integers(0, 3, n)]
    late = (temp < 0) ^ (rng.random(n) < 0.1)
    return pd.DataFrame({"temp": temp, "origin": origin, "late": late.astype(int)})


def pack(folder: Path, *slices: Segment) -> whimbrel_packager.PackResult:
    keyfiles.create(folder, "bundle")
    data = flights(0)
    model = make_pipeline(
        ColumnTransformer([("words", OneHotEncoder(), ["origin"])], remainder="passthrough"),
        LogisticRegression(),
    ).fit(data[["temp", "origin"]], data["late"])
    with InProcess():
        return whimbrel_packager.pack(
            model, data, name="delays", version="1.0.0", key=folder / "bundle.pem", out=folder,
            label="late", positive="1", slices=slices,
        )  # fmt: skip


def test_rows_and_labels_of_a_segment_are_counted_apart(tmp_path: Path) -> None:
    done = pack(
        tmp_path,
        Segment("JFK", "origin", words=("JFK",)),
        Segment("frost", "temp", high=-0.1),
    )
    rows = flights(1, 50)
    inputs: dict[str, Any] = {"temp": rows["temp"], "origin": rows["origin"]}
    sink = TelemetrySink(tmp_path / "data" / "run" / "telemetry.sock")
    with Model(done.path, keys=[tmp_path / "bundle.pub"], data_dir=tmp_path / "data") as model:
        model.predict(inputs, at=AT, ids=[f"p{i}" for i in range(50)])
        model.label({f"p{i}": int(late) for i, late in enumerate(rows["late"])})
    sink.close()
    windows = [decode(message.payload) for message in sink.windows.values()]
    [counted] = [window for window in windows if window.rows]
    [labelled] = [window for window in windows if window.quality is not None]
    inside = [rows["origin"] == "JFK", rows["temp"] <= np.float32(-0.1)]
    assert [one.rows for one in counted.slices] == [int(one.sum()) for one in inside]
    for one, rows_in in zip(labelled.slices, inside, strict=True):
        assert one.quality is not None
        assert one.quality.rows == rows_in.sum()
        wrong_and_late = one.quality.confusion[1] + one.quality.confusion[3]
        assert wrong_and_late == rows["late"][rows_in].sum()


@pytest.mark.parametrize(
    ("segment", "complaint"),
    [
        (Segment("x", "speed", low=1.0), "'speed', which is not profiled"),
        (Segment("x", "origin", words=("JFQ",)), "'JFQ' is not among the values of 'origin'"),
        (Segment("x", "temp", words=("JFK",)), "words belong to a categorical one"),
    ],
    ids=str,
)
def test_a_segment_that_no_row_could_be_in_is_refused_at_packing(
    tmp_path: Path, segment: Segment, complaint: str
) -> None:
    with pytest.raises(ProfileError, match=complaint):
        pack(tmp_path, segment)
    assert not list(tmp_path.glob("*.whim"))


def test_a_recipe_names_segments(tmp_path: Path) -> None:
    path = tmp_path / "whimbrel.toml"
    path.write_text('[[profile.slices]]\nname = "frost"\nfeature = "temp"\nhigh = 0.1\n')
    [segment] = recipes.read(path).profile.slices
    assert segment == Segment("frost", "temp", high=0.1)
    assert segment.slice().high == float(np.float32(0.1))


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ('name = "x"\nfeature = "temp"', "needs one of words, values, or a range"),
        ('name = "x"\nfeature = "temp"\nlow = 2.0\nhigh = 1.0', "is empty"),
        ('name = "x"\nfeature = "temp"\nlow = nan', "finite"),
        ('name = "x"\nfeature = "temp"\nlow = 1e40', "beyond float32"),
        ('name = "x"\nfeature = "temp"\nlow = 1.0\ncolour = "red"', "colour"),
    ],
    ids=str,
)
def test_a_recipe_with_an_impossible_segment_is_refused(
    tmp_path: Path, text: str, complaint: str
) -> None:
    path = tmp_path / "whimbrel.toml"
    path.write_text(f"[[profile.slices]]\n{text}\n")
    with pytest.raises(ConfigError, match=complaint):
        recipes.read(path)
