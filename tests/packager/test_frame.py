from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from whimbrel_core.errors import InputError, UsageError
from whimbrel_packager import frame
from whimbrel_packager.quality import metrics

if TYPE_CHECKING:
    from pathlib import Path


def test_columns_of_a_table_become_what_a_device_sees() -> None:
    table = pd.DataFrame(
        {
            "exact": [0.1, 2.5],
            "whole": [1, 2],
            "flag": [True, False],
            "word": ["a", None],
            "gaps": pd.array([1, None], dtype="Int64"),
            "kind": pd.Categorical(["x", "y"]),
        }
    )
    made = frame.of(table)
    assert made.columns["exact"].tolist() == [float(np.float32(0.1)), 2.5]
    assert made.columns["word"].tolist() == ["a", None]
    assert np.isnan(made.columns["gaps"][1])
    assert {name: frame.datatype(column) for name, column in made.columns.items()} == {
        "exact": "FP32",
        "whole": "INT64",
        "flag": "INT64",
        "word": "BYTES",
        "gaps": "FP32",
        "kind": "BYTES",
    }
    fed = frame.tensors(made)
    assert fed["word"].tolist() == [["a"], [""]]
    assert fed["exact"].dtype == np.float32
    assert fed["exact"].shape == (2, 1)


def test_an_array_becomes_one_matrix() -> None:
    made = frame.of(np.arange(6).reshape(3, 2))
    assert made.names == ("x0", "x1")
    fed = frame.tensors(made, "features")
    assert fed["features"].tolist() == [[0, 1], [2, 3], [4, 5]]


def test_csv_npz_and_frames_in_memory_give_the_same_columns(tmp_path: Path) -> None:
    table = pd.DataFrame({"n": [1.5, np.nan], "w": ["a", "b"], "late": [True, False]})
    table.to_csv(tmp_path / "data.csv", index=False)
    np.savez(
        tmp_path / "data.npz",
        n=table.n.to_numpy(),
        w=table.w.to_numpy(dtype=str),
        late=table.late.to_numpy(),
    )
    expected = frame.of(table)
    for name in ("data.csv", "data.npz"):
        read = frame.read(tmp_path / name)
        assert read.names == expected.names
        np.testing.assert_array_equal(read.columns["n"], expected.columns["n"])
        assert read.columns["w"].tolist() == ["a", "b"]
        assert read.columns["late"].dtype == bool


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ([dt.date(2013, 1, 1)], "mixes strings with date"),
        (["a", 1], "mixes strings with int"),
        (np.array(["2013-01-01"], dtype="datetime64[s]"), "is of type datetime64"),
        (np.full((2, 3, 4), "a"), "one value per row is needed"),
        (np.zeros((2, 0)), "one value per row is needed"),
    ],
    ids=["dates", "mixed", "times", "cubes of words", "of no width"],
)
def test_columns_that_no_model_reads_are_refused_by_name(values: object, says: str) -> None:
    array = np.array(values, dtype=object) if isinstance(values, list) else values
    with pytest.raises(InputError, match=says) as caught:
        frame.of({"when": array})
    assert "'when'" in caught.value.message


def test_images_are_one_column_of_many_numbers_a_row(tmp_path: Path) -> None:
    images = np.arange(96, dtype=np.float32).reshape(2, 3, 4, 4)
    np.savez(tmp_path / "data.npz", images=images, late=np.array([True, False]))
    read = frame.read(tmp_path / "data.npz")
    assert (read.names, read.blocks, read.rows) == (("images", "late"), ("images",), 2)
    np.testing.assert_array_equal(frame.tensors(read)["images"], images)
    read.save(tmp_path / "again.npz")
    np.testing.assert_array_equal(
        frame.Frame.load(tmp_path / "again.npz").columns["images"], images
    )
    assert frame.of(images).blocks == ("x",)


def test_one_matrix_is_a_table_and_two_are_inputs_of_their_own(tmp_path: Path) -> None:
    a, b = np.zeros((3, 2), np.float32), np.ones((3, 4), np.float32)
    np.savez(tmp_path / "one.npz", a=a)
    np.savez(tmp_path / "two.npz", a=a, b=b)
    assert frame.read(tmp_path / "one.npz").names == ("x0", "x1")
    assert frame.read(tmp_path / "two.npz").blocks == ("a", "b")


def test_columns_of_unequal_length_are_refused() -> None:
    with pytest.raises(InputError, match="different lengths: a 2, b 3"):
        frame.of({"a": np.zeros(2), "b": np.zeros(3)})


def test_empty_data_is_refused(tmp_path: Path) -> None:
    (tmp_path / "data.csv").write_text("a,b\n")
    with pytest.raises(InputError, match="has no rows"):
        frame.read(tmp_path / "data.csv")


def test_parquet_without_pyarrow_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(*_: object, **__: object) -> None:
        raise ImportError("Unable to find a usable engine")

    monkeypatch.setattr(pd, "read_parquet", missing)
    (tmp_path / "data.parquet").write_bytes(b"PAR1")
    with pytest.raises(UsageError, match="reading parquet needs pyarrow"):
        frame.read(tmp_path / "data.parquet")


words = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=5)


@given(st.lists(words | st.none(), min_size=1, max_size=8))
def test_words_survive_the_way_to_a_child_process(values: list[str | None]) -> None:
    import tempfile
    from pathlib import Path

    made = frame.of({"w": np.array([*values, None], dtype=object)[:-1], "n": np.zeros(len(values))})
    with tempfile.TemporaryDirectory() as folder:
        made.save(Path(folder) / "f.npz")
        back = frame.Frame.load(Path(folder) / "f.npz")
    if any(isinstance(value, str) for value in values):
        assert back.columns["w"].tolist() == values


@given(
    st.lists(st.tuples(st.integers(0, 5), st.booleans()), min_size=2, max_size=60).filter(
        lambda rows: len({true for _, true in rows}) == 2
    )
)
def test_auc_is_the_share_of_pairs_in_the_right_order(rows: list[tuple[int, bool]]) -> None:
    yes = [score for score, true in rows if true]
    no = [score for score, true in rows if not true]
    pairs = [(a > b) + (a == b) / 2 for a in yes for b in no]
    score = np.array([score for score, _ in rows], dtype=np.float64)
    true = np.array([true for _, true in rows])
    assert metrics.auc(score, true) == pytest.approx(np.mean(pairs))


def test_parquet_keeps_numbers_missing_values_and_words(tmp_path: Path) -> None:
    table = pd.DataFrame({"temp": [1.5, None, 3.0], "carrier": ["UA", None, "B6"]})
    table.to_parquet(tmp_path / "data.parquet")
    table.to_csv(tmp_path / "data.csv", index=False)
    parquet, csv = frame.read(tmp_path / "data.parquet"), frame.read(tmp_path / "data.csv")
    assert (
        parquet.columns["carrier"].tolist() == csv.columns["carrier"].tolist() == ["UA", None, "B6"]
    )
    np.testing.assert_array_equal(parquet.columns["temp"], csv.columns["temp"])


def test_a_column_set_aside_may_hold_times_with_or_without_a_zone(tmp_path: Path) -> None:
    times = pd.to_datetime(["2024-01-01T00:00:00.0", None, "2024-01-01T00:00:01.5"])
    table = pd.DataFrame(
        {
            "plain": times,
            "zoned": times.tz_localize("UTC").tz_convert("America/New_York"),
            "whole": pd.date_range("1970-01-01", periods=3),
            "x": [1.0, 2.0, 3.0],
        }
    )
    table.to_parquet(tmp_path / "data.parquet")
    aside = ("plain", "zoned", "whole", "x")
    read = frame.read(tmp_path / "data.parquet", aside).columns
    assert read["whole"].tolist() == [0, 86_400_000, 172_800_000]
    start = 1_704_067_200_000
    for name in ("plain", "zoned"):
        np.testing.assert_array_equal(read[name], [start, np.nan, start + 1500])
    assert frame.of(dict(table), aside).columns["whole"].tolist() == read["whole"].tolist()
    np.savez(tmp_path / "data.npz", when=table["whole"].to_numpy())
    assert frame.read(tmp_path / "data.npz", ("when",)).columns["when"][1] == 86_400_000
    with pytest.raises(InputError, match="'plain' is of type datetime64"):
        frame.read(tmp_path / "data.parquet")
