"""A summary that whylogs 1.6.4 wrote is a coarse reference, and what it cannot tell is left out."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from whimbrel_core.errors import InputError
from whimbrel_packager import profiles
from whimbrel_packager.profiles import whylogs

SUMMARY = Path(__file__).with_name("whylogs-1.6.4.csv")
ROWS = 20_000


def month(dice: np.random.Generator, shift: float) -> pd.DataFrame:
    """As the rows that whylogs summarised, but for the shift."""
    return pd.DataFrame({
        "temp": dice.normal(10 + shift, 3, ROWS),
        "load": dice.gamma(2, 2, ROWS),
        "floor": dice.integers(0, 6, ROWS),
        "site": dice.choice(["ewr", "lga", "jfk"], ROWS, p=[0.6, 0.3, 0.1]),
        "gap": np.where(dice.random(ROWS) < 0.05, np.nan, dice.normal(size=ROWS)),
    })  # fmt: skip


def test_data_are_compared_with_a_summary_about_as_with_the_rows() -> None:
    coarse = profiles.read(SUMMARY)
    exact = profiles.log(month(np.random.default_rng(0), 0.0))
    calm = coarse.compare(month(np.random.default_rng(7), 0.0))
    assert calm.worst == "ok", calm
    newer = month(np.random.default_rng(8), 1.5)
    a, b = ({f.feature: f for f in one.compare(newer).features} for one in (coarse, exact))
    assert [f.feature for f in coarse.compare(newer).drifted] == ["temp"]
    for name, found in a.items():
        assert found.psi == pytest.approx(b[name].psi, abs=0.02), name
        if found.ks is not None:
            assert found.ks == pytest.approx(b[name].ks, abs=0.03), name
            assert found.w1_sd == pytest.approx(b[name].w1_sd, abs=0.05), name
    assert not calm.exact
    assert any("rough" in note for note in calm.notes)


def test_a_view_and_its_table_are_taken_as_they_are() -> None:
    table = pd.read_csv(SUMMARY).set_index("column")

    class View:
        def to_pandas(self) -> pd.DataFrame:
            return table

    assert profiles.log(View()).features == profiles.log(table).features
    assert set(profiles.log(table).features) == {"temp", "load", "floor", "site", "gap"}


def test_what_quantiles_do_not_tell_is_left_out_and_said() -> None:
    table = pd.read_csv(SUMMARY).set_index("column")
    table.loc["floor", "frequent_items/frequent_strings"] = "[]"  # many values, and ties at some
    found = profiles.log(table)
    assert "floor" not in found.features
    assert "its summary does not tell their distribution, left out: floor" in found.notes[1]
    with pytest.raises(InputError, match="none of its columns"):
        whylogs.from_lines("x", {"floor": dict(table.loc["floor"])})
