"""Data as a folder of files: read as one table by every command that reads data."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LogisticRegression

import whimbrel_packager
from tests.packager.command import whimbrel
from tests.packager.proving import InProcess
from whimbrel_core.errors import InputError, UsageError
from whimbrel_packager import folders, frame
from whimbrel_packager.profiles import reading
from whimbrel_packager.record import dvc, lineage, provenance, traces
from whimbrel_packager.signing import keyfiles
from whimbrel_packager.sources import given

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Write = Callable[[pd.DataFrame, Path], None]

ROWS = 400


def table(seed: int = 0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    flow = rng.normal(5, 1, ROWS).astype(np.float32)
    return pd.DataFrame(
        {
            "flow": flow,
            "cycles": rng.integers(0, 90, ROWS),
            "site": rng.choice(["north", "south"], ROWS),
            "worn": (flow + rng.normal(0, 0.3, ROWS) > 5).astype(int),
        }
    )


def parquet(part: pd.DataFrame, path: Path) -> None:
    part.to_parquet(path.with_suffix(".parquet"), index=False)


def csv(part: pd.DataFrame, path: Path) -> None:
    part.to_csv(path.with_suffix(".csv"), index=False)


def folder(path: Path, whole: pd.DataFrame, write: Write = parquet, parts: int = 3) -> Path:
    """Write a table as Spark does: parts that are named in order, and marks beside them."""
    path.mkdir()
    for i, rows in enumerate(np.array_split(np.arange(len(whole)), parts)):
        write(whole.iloc[rows], path / f"part-{i:05}")
    (path / "_SUCCESS").touch()
    (path / ".part-00000.crc").write_bytes(b"crc")
    return path


@pytest.mark.parametrize("write", [parquet, csv])
def test_a_folder_is_the_rows_of_its_files_in_the_order_of_their_names(
    tmp_path: Path, write: Write
) -> None:
    whole = table()
    write(whole, tmp_path / "whole")
    (alone,) = tmp_path.iterdir()
    read = frame.read(folder(tmp_path / "parts", whole, write))
    expected = frame.read(alone)
    assert read.names == expected.names
    for name, column in expected.columns.items():
        assert read.columns[name].dtype == column.dtype
        assert read.columns[name].tolist() == column.tolist()


@pytest.mark.parametrize("write", [parquet, csv])
def test_a_profile_of_a_folder_is_that_of_the_whole_table(tmp_path: Path, write: Write) -> None:
    whole = table()
    write(whole, tmp_path / "whole")
    (alone,) = tmp_path.iterdir()
    parts = folder(tmp_path / "parts", whole, write)
    one, other = (reading.profile_of(reading.subject(path)) for path in (alone, parts))
    assert one.profile_id == other.profile_id
    assert [f.cells for f in one.baseline.window.features] == [
        f.cells for f in other.baseline.window.features
    ]
    assert other.rows == ROWS


def test_the_commands_on_profiles_take_folders(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    january = folder(tmp_path / "january", table(0))
    later = table(1)
    february = folder(tmp_path / "february", later.assign(flow=later.flow + 1), csv)
    made = whimbrel("profile", "make", january, "--json")
    assert json.loads(made.out)["path"] == "january.wprof"
    compared = whimbrel("profile", "compare", january, february, "--all", "--json")
    states = {one["feature"]: one["state"] for one in json.loads(compared.out)["features"]}
    assert states["flow"] == "severe"
    assert states["cycles"] == "ok"
    failing = whimbrel("profile", "compare", "january.wprof", february, "--fail-on", "severe")
    assert failing.code == 8


def first_part(write: Write, **columns: object) -> Callable[[Path], None]:
    return lambda path: write(table().assign(**columns), path / "part-00001")


@pytest.mark.parametrize(
    ("write", "change", "says"),
    [
        (parquet, first_part(parquet, extra=1),
         "part-00001.parquet has the column 'extra', which part-00000.parquet does not have"),
        (parquet, lambda path: parquet(table().drop(columns="cycles"), path / "part-00001"),
         "part-00001.parquet has no column 'cycles', which part-00000.parquet has"),
        (parquet, first_part(parquet, cycles=1.5),
         "has double in column 'cycles', which is int64 in part-00000.parquet"),
        (csv, first_part(csv, extra=1), "part-00001.csv has the column 'extra'"),
    ],
    ids=["a column more", "a column less", "another type", "a column more in a CSV file"],
)  # fmt: skip
def test_files_that_are_not_one_table_are_refused_by_file_and_column(
    tmp_path: Path, write: Write, change: Callable[[Path], None], says: str
) -> None:
    path = folder(tmp_path / "parts", table(), write)
    change(path)
    for read in (frame.read, reading.subject):
        with pytest.raises(InputError) as refused:
            read(path)
        assert says in refused.value.message
        assert refused.value.hint


def test_words_among_the_numbers_of_other_csv_files_are_refused_by_file_and_column(
    tmp_path: Path,
) -> None:
    path = folder(tmp_path / "parts", table(), csv)
    csv(table().assign(cycles="many"), path / "part-00001")
    with pytest.raises(InputError, match=r"part-00001.csv has words in column 'cycles', which is "
                                         r"numbers in part-00000.csv"):  # fmt: skip
        frame.read(path)


@pytest.mark.parametrize("write", [parquet, csv])
def test_a_column_that_is_missing_in_all_rows_of_a_file_and_a_file_without_rows_fit(
    tmp_path: Path, write: Write
) -> None:
    whole = table()
    path = folder(tmp_path / "parts", whole, write)
    write(whole.iloc[:5].assign(site=None, flow=np.float32("nan")), path / "part-00003")
    write(whole.iloc[:0], path / "part-00004")
    read = frame.read(path)
    assert read.rows == ROWS + 5
    assert read.columns["site"][-1] is None
    assert read.columns["cycles"].dtype == np.int64
    assert reading.profile_of(reading.subject(path)).rows == ROWS + 5


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("part.csv", "holds files of several kinds, as part-00000.parquet and part.csv"),
        ("notes.md", "holds notes.md, which is none of"),
        ("year=2024/", "holds the folder year=2024, and none below it is read"),
        ("_delta_log/", "is a table of Delta Lake, whose log says which files count"),
    ],
)
def test_a_folder_that_is_no_plain_table_is_refused_by_name(
    tmp_path: Path, name: str, says: str
) -> None:
    path = folder(tmp_path / "parts", table())
    if name.endswith("/"):
        (path / name).mkdir()
    else:
        (path / name).write_text("flow\n1\n")
    for read in (frame.read, reading.subject):
        with pytest.raises(UsageError) as refused:
            read(path)
        assert says in refused.value.message


def test_a_folder_without_data_or_with_too_many_files_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty/_SUCCESS").touch()
    for read in (frame.read, reading.subject):
        with pytest.raises(UsageError, match="holds no data"):
            read(tmp_path / "empty")
    path = folder(tmp_path / "parts", table())
    monkeypatch.setattr(folders, "MAX_FILES", 2)
    with pytest.raises(UsageError, match="holds 3 files, 2 are read"):
        frame.read(path)


def test_a_model_is_packed_with_a_folder_and_every_file_of_it_is_in_the_lineage(
    tmp_path: Path,
) -> None:
    whole = table().drop(columns="site")
    data = folder(tmp_path / "data", whole)
    served = folder(tmp_path / "served", whole.drop(columns="worn"), csv)
    model = LogisticRegression().fit(whole[["flow", "cycles"]], whole["worn"])
    keyfiles.create(tmp_path / "keys", "bundle")
    (tmp_path / "whimbrel.toml").write_text(
        'name = "pumps"\nversion = "1.0.0"\n[data]\nreference = "data"\nlabel = "worn"\n'
        '[gates.skew]\nserving = "served"\n'
    )
    with InProcess():
        done = whimbrel_packager.pack(
            model, key=tmp_path / "keys/bundle.pem", out=tmp_path, recipe=tmp_path / "whimbrel.toml"
        )
    record = provenance.read(contents_of(done.path, "provenance.json"), what="")
    known = record.occasion.lineage
    parts = sorted(data.glob("part-*.parquet"))
    for part in parts:
        digest = hashlib.sha256(part.read_bytes()).hexdigest()
        assert known.digest(f"{lineage.REFERENCE_FILE}: {part.name}") == digest
    entry = known.dependency(lineage.REFERENCE_FILE)
    assert entry is not None
    assert entry.annotations["files"] == 3
    assert known.digest("gates.skew.serving") == given.digest(served)
    assert traces.data_digest(data) == known.digest(lineage.REFERENCE_FILE)
    (data / "_SUCCESS").unlink()
    assert traces.data_digest(data) == known.digest(lineage.REFERENCE_FILE)
    parts[2].rename(data / "part-00009.parquet")
    assert traces.data_digest(data) != known.digest(lineage.REFERENCE_FILE)


def contents_of(bundle: Path, name: str) -> bytes:
    import zipfile

    with zipfile.ZipFile(bundle) as archive:
        return archive.read(name)


def test_a_dvc_pointer_to_the_folder_is_read_and_believed_when_it_is_the_one(
    tmp_path: Path,
) -> None:
    path = folder(tmp_path / "data", table())
    (path / "sub").mkdir()
    (path / "sub/b").write_bytes(b"b")
    listed: list[dict[str, Any]] = [
        {"md5": hashlib.md5(file.read_bytes(), usedforsecurity=False).hexdigest(),
         "relpath": file.relative_to(path).as_posix()}
        for file in path.rglob("*") if file.is_file()
    ]  # fmt: skip
    ordered = json.dumps(sorted(listed, key=lambda one: one["relpath"])).encode()
    md5 = hashlib.md5(ordered, usedforsecurity=False).hexdigest()
    (tmp_path / "data.dvc").write_text(f"outs:\n- md5: {md5}.dir\n  nfiles: 6\n  path: data\n")
    found = dvc.find(path)
    assert found is not None
    assert found.output == dvc.Output("data", md5, directory=True)
    (path / "sub/b").write_bytes(b"c")
    assert dvc.find(path) is None
