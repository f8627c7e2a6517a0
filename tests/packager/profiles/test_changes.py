"""`whimbrel profile changes`: when columns of a file changed."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner

from whimbrel_core.errors import InputError, ProfileError, UsageError
from whimbrel_packager.commands.profile import profile

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def data(tmp_path: Path) -> Path:
    random = np.random.default_rng(2)
    days = pd.date_range("2026-01-01", periods=120, freq="D").strftime("%Y-%m-%d")
    latency = random.normal(40, 2, 120) + 12 * (np.arange(120) >= 70)
    load = random.normal(5, 1, 120)
    load[30] = np.nan
    path = tmp_path / "service.csv"
    pd.DataFrame({"day": days, "latency": latency, "load": load}).to_csv(path, index=False)
    return path


def run(*arguments: object) -> str:
    done = CliRunner().invoke(profile, ["changes", *map(str, arguments)], catch_exceptions=False)
    assert done.exit_code == 0
    return done.output


def test_a_change_is_named_by_its_row_and_label(data: Path) -> None:
    said = run(data, "--label", "day")
    assert "latency: 1 change in 120 rows" in said
    assert "row 71 (2026-03-12)" in said
    assert "up" in said
    assert "load: no change in 119 rows" in said


def test_the_same_as_json_and_columns_together(data: Path) -> None:
    each = json.loads(run(data, "--columns", "l*", "--json"))
    (latency, load) = each["columns"]
    (change,) = latency["changes"]
    assert (latency["columns"], load["changes"]) == (["latency"], [])
    assert (change["row"], change["direction"], change["kind"]) == (71, 1, "level")
    assert change["before"] == pytest.approx(40, abs=1)
    (both,) = json.loads(run(data, "--columns", "l*", "--together", "--json"))["columns"]
    assert [one["column"] for one in both["changes"]] == ["latency"]


def test_what_is_below_the_noise_floor_is_nothing(data: Path) -> None:
    assert "no change" in run(data, "--columns", "latency", "--noise-floor", 50)


@pytest.mark.parametrize(
    ("arguments", "error", "says"),
    [
        (["--columns", "latancy"], UsageError, "no column 'latancy'"),
        (["--columns", "day"], InputError, "no numbers"),
        (["--label", "date"], UsageError, "no column 'date'"),
        (["--arl", "1"], ProfileError, "ARL of two"),
    ],
)
def test_what_cannot_be_watched_is_refused(
    data: Path, arguments: list[str], error: type[Exception], says: str
) -> None:
    with pytest.raises(error, match=says):
        run(data, *arguments)
