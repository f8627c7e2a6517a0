"""Profiles of data: of any file, in pieces, whatever the types, and the same counts every time."""

from __future__ import annotations

import decimal
import io
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.packager.profiles.tables import ROWS, month, save
from whimbrel_core.errors import InputError, ProfileError, UsageError
from whimbrel_core.profile.building import reference
from whimbrel_core.profile.building.columns import ColumnSpec
from whimbrel_core.profile.building.dataset import MAGIC, DatasetProfile, of_window, quantile
from whimbrel_core.profile.building.sample import Sample
from whimbrel_core.profile.drift.judge import Judge
from whimbrel_packager import profiles
from whimbrel_packager.profiles import files, memory, source
from whimbrel_packager.profiles.making import make

if TYPE_CHECKING:
    from pathlib import Path


def counts(profile: profiles.Profile, feature: str) -> Any:  # noqa: ANN401 - counts of a feature
    at = profile.features.index(feature)
    return profile.counts.baseline.window.features[at]


def kinds(profile: profiles.Profile) -> dict[str, str]:
    return {f.name: f.kind for f in profile.counts.baseline.layout.features}


@pytest.fixture(scope="module")
def usual() -> profiles.Profile:
    return profiles.log(month(), name="usual")


@pytest.mark.parametrize("name", ["a.csv", "a.csv.gz", "a.tsv", "a.parquet", "a.feather", "a.npz"])
def test_a_file_of_any_kind_is_counted_as_the_table_in_memory_is(
    usual: profiles.Profile, tmp_path: Path, name: str
) -> None:
    table = month()
    found = profiles.read(save(table, tmp_path / name))
    assert found.rows == ROWS
    expected = set(usual.features) - ({"at"} if name.endswith("npz") else set())
    assert set(found.features) == expected
    for feature in expected - {"open"}:
        assert counts(found, feature) == counts(usual, feature), feature
    assert kinds(found)["site"] == "categorical"
    assert kinds(found)["floor"] == "discrete"


def test_a_short_table_has_the_cells_that_packing_would_cut() -> None:
    table = month()
    column = table["temp"].to_numpy()
    packed = reference.build([ColumnSpec("temp", "input", "temp", 0, column)], task="regression")
    found = profiles.log({"temp": column}).counts.baseline
    assert found.layout == packed.layout
    assert found.window == packed.window
    assert found.stats[0].cell_means == pytest.approx(packed.stats[0].cell_means)
    assert found.stats[0].mean == pytest.approx(packed.stats[0].mean, abs=1e-3)


def test_pieces_of_any_length_give_the_same_profile(monkeypatch: pytest.MonkeyPatch) -> None:
    table = month()
    whole = profiles.log(table).counts.encode()
    monkeypatch.setattr(memory, "rows_at_once", lambda _columns: 137)
    monkeypatch.setattr(source, "_HELD_BYTES", 0)  # read twice, nothing is kept between
    assert (
        profiles.log(table).counts.baseline.window == DatasetProfile.decode(whole).baseline.window
    )


@given(st.integers(1, 400), st.integers(1, 90), st.integers(1, 200))
def test_a_sample_depends_on_the_rows_alone_and_keeps_the_extremes(
    rows: int, piece: int, size: int
) -> None:
    values = np.random.default_rng(rows).normal(size=rows).astype(np.float32)
    samples = []
    for length in (piece, rows):
        sample = Sample(size)
        for at in range(0, rows, length):
            sample.add({"x": values[at : at + length]})
        samples.append(sample.columns()["x"])
    assert samples[0].tolist() == samples[1].tolist()
    assert len(samples[0]) in range(min(size, rows), min(size, rows) + 3)
    assert {values.min(), values.max()} <= set(samples[0])
    assert set(samples[0].tolist()) <= set(values.tolist())


def test_a_sample_is_uniform_over_a_long_sorted_table() -> None:
    sample = Sample(2000)
    for at in range(0, 200_000, 5000):
        sample.add({"x": np.arange(at, at + 5000, dtype=np.float32)})
    found = np.sort(sample.columns()["x"]) / 200_000
    expected = (np.arange(len(found)) + 0.5) / len(found)
    assert np.abs(found - expected).max() < 0.05, "five per cent: P below 1e-4 for 2,000 draws"


def test_counts_in_the_cells_of_another_profile_add_up_and_compare_exactly(
    usual: profiles.Profile,
) -> None:
    parts = [profiles.log(month(seed=i), like=usual, name=f"part {i}") for i in (1, 2)]
    table = pd.concat([month(seed=1), month(seed=2)])
    whole = profiles.log(table, like=usual)
    merged = parts[0].merge(parts[1])
    assert merged.counts.profile_id == usual.counts.profile_id
    for one, other in zip(
        merged.counts.baseline.window.features, whole.counts.baseline.window.features, strict=True
    ):
        assert one.cells == other.cells
        assert one.total == pytest.approx(other.total, rel=1e-4, abs=1)
    assert merged.rows == 2 * ROWS
    again = parts[1].merge(parts[0])
    assert again.counts.baseline.window == merged.counts.baseline.window
    report = usual.compare(merged)
    assert report.exact
    by_hand = Judge(usual.counts.baseline).judge(merged.counts.baseline.window)
    assert {f.feature: f.psi for f in report.features} == {d.feature: d.psi for d in by_hand}
    assert parts[0].log(month(seed=2)).rows == 2 * ROWS


def test_profiles_of_different_cells_are_never_added(usual: profiles.Profile) -> None:
    other = profiles.log(month(seed=5))
    with pytest.raises(ProfileError, match="different cells") as caught:
        usual.merge(other)
    assert "--like" in str(caught.value.hint)


def test_a_profile_survives_its_file_and_a_damaged_one_is_refused(
    usual: profiles.Profile, tmp_path: Path
) -> None:
    path = usual.save(tmp_path / "x.wprof")
    assert profiles.read(path).counts == usual.counts
    data = path.read_bytes()
    for spoilt in (data[:-1], data[:20], MAGIC, b"", data + b"x", data[:40] + b"\xff" + data[41:]):
        path.write_bytes(spoilt)
        with pytest.raises((ProfileError, InputError)):
            profiles.read(path)
    path.write_bytes(b"WPROF\0\0\x02" + data[8:])
    with pytest.raises(ProfileError, match="no profile of format 1"):
        profiles.read(path)


@given(st.binary(max_size=200))
def test_no_bytes_crash_the_reader_of_profiles(data: bytes) -> None:
    with pytest.raises(ProfileError):
        DatasetProfile.decode(MAGIC + data)


def test_quantiles_are_those_of_the_rows(usual: profiles.Profile) -> None:
    layout = usual.counts.baseline.layout
    for name, tolerance in (("temp", 0.05), ("load", 0.05), ("floor", 0.0)):
        at = usual.features.index(name)
        values = np.sort(month()[name].to_numpy())
        for q in (0.01, 0.25, 0.5, 0.9):
            exact = values[int(np.ceil(q * ROWS)) - 1]
            found = quantile(layout.features[at], counts(usual, name), q)
            assert found == pytest.approx(exact, abs=tolerance * float(values.std())), (name, q)
    assert quantile(layout.features[3], counts(usual, "site"), 0.5) is None


TYPES: list[tuple[Any, str, list[float]]] = [
    (pd.array([1, None, 3], "Int64"), "discrete", [1, 3]),
    (pd.array([True, None, False], "boolean"), "discrete", [0, 1]),
    ([decimal.Decimal("1.5"), None, decimal.Decimal(2)], "discrete", [1.5, 2]),
    (pd.Series(["a", "b", "a"], dtype="category"), "categorical", []),
    (pd.Series([1, 2, 1], dtype="category"), "discrete", [1, 2]),
    (pd.to_datetime(["1970-01-02", None, "1970-01-03"]), "discrete", [1, 2]),
    (pd.to_datetime(["1970-01-02", "1970-01-03"] * 2, utc=True), "discrete", [1, 2]),
    (pd.to_timedelta([1, 2, 2], "s"), "discrete", [1, 2]),
    (np.array([b"a", b"b"]), "categorical", []),
    (np.array([np.inf, 1e300, -1e300, 2.0]), "discrete", [2]),
    (["1970-01-02T12:00:00Z", None, "1970-01-04"], "discrete", [1.5, 3]),
]


@pytest.mark.parametrize(("values", "kind", "known"), TYPES)
def test_whatever_a_column_holds_is_numbers_or_words(
    values: Any,  # noqa: ANN401 - what people have
    kind: str,
    known: list[float],
) -> None:
    found = profiles.log(pd.DataFrame({"x": values}))
    assert kinds(found) == {"x": kind}
    assert found.counts.baseline.layout.features[0].values == tuple(known)  # noqa: PD011 - a layout's
    assert found.rows == len(values)


def test_infinities_and_missing_values_are_counted_apart() -> None:
    found = counts(profiles.log({"x": [1.0, None, np.inf, 1e300, -np.inf, np.nan]}), "x")
    assert (found.nulls, found.pos_inf, found.neg_inf, found.finite) == (2, 2, 1, 1)


def test_a_column_that_mixes_words_with_numbers_is_one_of_words_in_every_piece(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "_PIECE_VALUES", 1)  # 256 rows at once
    lines = ["01"] * 300 + ["x"] * 300
    (tmp_path / "a.csv").write_text("code\n" + "\n".join(lines))
    found = profiles.read(tmp_path / "a.csv")
    assert found.counts.baseline.layout.features[0].vocabulary == ("01", "x"), "as it is written"
    assert "mixes numbers with words" in found.notes[0]
    mixed = profiles.log({"code": [1, "x", 2.0, None]})
    assert set(mixed.counts.baseline.layout.features[0].vocabulary) == {"1", "2", "x"}


def test_what_is_neither_is_left_out_and_an_id_is_named(tmp_path: Path) -> None:
    table = pd.DataFrame({
        "x": [1.0] * 500,
        "vector": [[1, 2]] * 500,
        "id": [f"user {i}" for i in range(500)],
        "void": [None] * 500,
    })  # fmt: skip
    found = profiles.log(table)
    assert found.features == ("x", "id", "void")
    assert "column 'vector' holds list values and was left out" in found.notes
    assert "column 'id' looks like an id or free text" in found.notes[1]
    assert counts(found, "void").nulls == 500


@pytest.mark.parametrize(
    "data",
    [
        pa.table({"x": [1.0, 2.0], "y": ["a", None]}),
        {"x": np.array([1.0, 2.0]), "y": ["a", None]},
        pd.DataFrame({"x": [1.0, 2.0], "y": ["a", None]}),
    ],
    ids=["arrow", "dict", "pandas"],
)
def test_tables_of_any_library_are_taken(data: object) -> None:
    found = profiles.log(data)
    assert found.features == ("x", "y")
    assert counts(found, "y").nulls == 1


def test_a_matrix_and_columns_named_by_numbers_are_taken() -> None:
    assert profiles.log(np.eye(3)).features == ("x0", "x1", "x2")
    assert profiles.log(pd.DataFrame(np.eye(2))).features == ("0", "1")


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (pd.DataFrame({"x": []}), "no rows"),
        (pd.DataFrame(index=[1, 2]), "no columns"),
        ({"x": [1], "y": [1, 2]}, "different lengths"),
        ([1, 2, 3], "is no table"),
        ("text", "is no table in memory"),
        (pd.DataFrame([[1, 2]], columns=["a", "a"]), "two columns of one name"),
        (pd.DataFrame({"v": [[1], [2]]}), "no column of numbers or words"),
    ],
)
def test_what_is_no_table_is_refused(data: object, said: str) -> None:
    with pytest.raises(InputError, match=said):
        profiles.log(data)


def test_more_columns_than_a_profile_holds_are_chosen_by_pattern() -> None:
    wide = pd.DataFrame(np.zeros((2, 10_000)), columns=[f"s{i}" for i in range(10_000)])
    with pytest.raises(UsageError, match="10,000 columns, and a profile holds 256") as caught:
        profiles.log(wide)
    assert "--columns" in str(caught.value.hint)
    found = profiles.log(wide, columns=["s1?", "s999"])
    assert found.features == (*(f"s1{i}" for i in range(10)), "s999")
    with pytest.raises(UsageError, match="no column 's99999'") as caught:
        profiles.log(wide, columns=["s99999"])
    assert "did you mean" in str(caught.value.hint)


def test_a_window_of_a_device_is_a_profile_too(usual: profiles.Profile) -> None:
    base = usual.counts.baseline
    assert of_window("device", base, base.window).baseline.stats[0].mean == base.stats[0].mean


def test_npz_arrays_are_read_row_by_row_in_either_order(tmp_path: Path) -> None:
    matrix = np.random.default_rng(3).normal(size=(700, 3)).astype(np.float32)
    for name, array in (("c", matrix), ("f", np.asfortranarray(matrix))):
        np.savez_compressed(tmp_path / f"{name}.npz", matrix=array)
    c, f = (profiles.read(tmp_path / f"{name}.npz") for name in "cf")
    assert c.counts.baseline == f.counts.baseline
    np.savez(tmp_path / "blocks.npz", x=matrix, y=matrix[:, :2])
    assert profiles.read(tmp_path / "blocks.npz").features == (
        "x[0]",
        "x[1]",
        "x[2]",
        "y[0]",
        "y[1]",
    )


@pytest.mark.parametrize(
    ("text", "mean"),
    [
        ("x;site\n1,5;a\n2,5;b\n", 2.0),
        ("x;site\n1.5;a,b\n2.5;b\n", 2.0),
        ("x|site\n1.5|a\n2.5|b\n", 2.0),
        ("x\tsite\n1.5\ta\n2.5\tb\n", 2.0),
        ('x,"site; or place"\n1.5,a\n2.5,b\n', 2.0),
    ],
)
def test_columns_of_a_csv_are_parted_as_its_header_says(
    tmp_path: Path, text: str, mean: float
) -> None:
    (tmp_path / "a.csv").write_text(text)
    found = profiles.read(tmp_path / "a.csv")
    assert len(found.features) == 2
    assert found.to_pandas().loc["x", "mean"] == mean


def test_progress_is_told(tmp_path: Path) -> None:
    told: list[str] = []
    make(files.opened(save(month(), tmp_path / "a.parquet")), stage=told.append)
    assert "looking at columns: 3,000 of 3,000 rows" in told
    assert "cutting cells" in told


def test_a_representation_says_what_it_is(usual: profiles.Profile) -> None:
    assert repr(usual).startswith("<Profile 'usual': 3,000 rows, 7 features: temp, load")
    frame = usual.to_pandas()
    assert frame.loc["temp", "rows"] == ROWS
    assert frame.loc["temp", "mean"] == pytest.approx(10, abs=0.2)
    text = io.StringIO()
    frame.to_csv(text)
    assert "q50" in text.getvalue()
