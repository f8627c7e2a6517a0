"""``whimbrel profile``: what changed between two data sets, told to people, programs and pipelines."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import pytest

from tests.core.profile.described import described_baseline
from tests.packager.command import whimbrel
from tests.packager.profiles.tables import HOSTILE, month, save
from tests.support.page import Reader
from whimbrel_core.profile.building import reference
from whimbrel_core.profile.building.columns import ColumnSpec
from whimbrel_core.profile.building.dataset import DatasetProfile
from whimbrel_core.profile.descriptors import Text
from whimbrel_core.profile.drift import telling
from whimbrel_core.profile.slices import Slice
from whimbrel_packager import profiles

if TYPE_CHECKING:
    from pathlib import Path

    from tests.packager.conftest import Packed
    from whimbrel_core.profile.drift.report import DriftReport, FeatureReport


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    save(month(), folder / "a.parquet")
    save(month(seed=1), folder / "same.csv")
    other = month(moved=True).drop(columns="load").assign(fresh=1.0)
    save(other, folder / "b.parquet")
    return folder


def by_name(report: DriftReport) -> dict[str, FeatureReport]:
    return {one.feature: one for one in report.features}


def test_two_files_are_compared_at_once_worst_first(folder: Path) -> None:
    done = whimbrel("profile", "compare", folder / "a.parquet", folder / "b.parquet")
    assert done.code == 0, done.err
    lines = done.out.splitlines()
    assert lines[0] == "b.parquet (3,000 rows) against a.parquet (3,000 rows)"
    assert lines[1].startswith("3 of 6 features have drifted, ")
    assert "Column load is gone. Column fresh is new." in lines[1]
    named = [line.split()[0] for line in lines[4:9]]
    assert named[0] == "load"
    assert set(named[1:4]) == {"temp", "site", "gap"}
    assert named[4] == "fresh"
    assert "3 more as usual" in done.out


def test_what_changed_is_true(folder: Path) -> None:
    found = by_name(profiles.compare(folder / "a.parquet", folder / "b.parquet"))
    a, b = month()["temp"], month(moved=True)["temp"]
    temp = found["temp"]
    assert temp.w1_sd == pytest.approx((b.mean() - a.mean()) / a.std(ddof=0), rel=0.05)
    grid = np.sort(np.concatenate([a, b]))
    cdf = [np.searchsorted(np.sort(x), grid, "right") / len(x) for x in (a, b)]
    assert temp.ks == pytest.approx(np.abs(cdf[0] - cdf[1]).max(), abs=0.01)
    assert telling.changed(temp).startswith("mean ")
    assert found["site"].moved is not None
    assert found["site"].moved[0] in {"jfk", "ewr"}
    assert found["gap"].null_rate == pytest.approx(0.3, abs=0.03)
    assert "missing" in telling.changed(found["gap"])
    assert found["load"].problem == "gone"
    assert found["fresh"].problem == "new"
    assert found["floor"].state == "ok"


def test_data_of_one_source_have_not_drifted(folder: Path) -> None:
    report = profiles.compare(folder / "a.parquet", folder / "same.csv")
    assert report.worst == "ok", report
    assert telling.summary(report) == "None of 7 features has drifted over 3,000 rows."
    done = whimbrel("profile", "compare", folder / "a.parquet", folder / "same.csv",
                    "--fail-on", "notice")  # fmt: skip
    assert done.code == 0


def test_a_pipeline_is_told_by_the_exit_code(folder: Path) -> None:
    words = ["profile", "compare", folder / "a.parquet", folder / "b.parquet"]
    done = whimbrel(*words, "--fail-on", "warn")
    assert done.code == 8
    assert "load" in done.err
    assert "[gate.drift]" in done.err
    assert whimbrel(*words).code == 0, "without --fail-on it only tells"
    done = whimbrel(*words, "--columns", "fl*", "--fail-on", "notice")
    assert done.code == 0, done.err
    done = whimbrel(*words, "--columns", "fresh", "--columns", "open", "--fail-on", "warn")
    assert done.code in {0, 2}


def test_json_has_every_figure_and_no_distribution(folder: Path) -> None:
    done = whimbrel("profile", "compare", folder / "a.parquet", folder / "b.parquet", "--json")
    value = json.loads(done.out)
    assert value["worst"] == "severe"
    assert {"feature", "psi", "ks", "js", "w1_sd", "p_value", "null_rate", "unseen_rate", "state",
            "significant", "problem"} <= set(value["features"][0])  # fmt: skip
    assert "distribution" not in value["features"][0]
    assert value["thresholds"]["psi"] == [0.02, 0.1, 0.25]


def test_a_bundle_is_a_reference_for_data(packed: Packed, tmp_path: Path) -> None:
    with np.load(packed.data) as arrays:
        table = pd.DataFrame({name: arrays[name] for name in arrays.files})
    save(table, tmp_path / "live.parquet")
    done = whimbrel("profile", "compare", packed.bundle, tmp_path / "live.parquet", "--json")
    assert done.code == 0, done.err
    value = json.loads(done.out)
    assert value["exact"]
    inputs = {f["feature"]: f for f in value["features"] if f["role"] == "input"}
    assert {f["psi"] for f in inputs.values() if not f["problem"]} == {0.0}, "the very same rows"
    assert not [f for f in value["features"] if f["problem"] == "gone"], "answers are not missed"
    back = whimbrel("profile", "compare", tmp_path / "live.parquet", packed.bundle, "--json")
    assert json.loads(back.out)["exact"], "counted in the cells of the bundle"
    like = tmp_path / "like.wprof"
    done = whimbrel(
        "profile", "make", tmp_path / "live.parquet", "--like", packed.bundle, "--out", like
    )
    assert done.code == 0, done.err
    assert json.loads(whimbrel("profile", "compare", packed.bundle, like, "--json").out)["exact"]


def test_two_profiles_of_their_own_cells_are_compared_about(folder: Path, tmp_path: Path) -> None:
    paths = []
    for name in ("a.parquet", "b.parquet"):
        paths.append(tmp_path / f"{name}.wprof")
        assert whimbrel("profile", "make", folder / name, "--out", paths[-1]).code == 0
    rough = profiles.compare(*paths)
    assert not rough.exact
    exact = by_name(profiles.compare(folder / "a.parquet", folder / "b.parquet"))
    for one in rough.features:
        if not one.problem and one.psi is not None:
            assert one.psi == pytest.approx(exact[one.feature].psi or 0.0, abs=0.03), one.feature
            assert one.state == exact[one.feature].state
    assert by_name(rough)["load"].problem == "gone"
    done = whimbrel("profile", "compare", *paths)
    assert "distances are rough" in done.out


@pytest.mark.parametrize(
    ("column", "said"),
    [
        (["a", "b"] * 100, "words ('a') where numbers were"),
        ([[1], [2]] * 100, "list values where numbers or words were"),
    ],
)
def test_a_column_of_another_type_is_severe(column: list[object], said: str) -> None:
    a = pd.DataFrame({"x": np.arange(200.0), "y": np.arange(200.0)})
    found = by_name(profiles.compare(a, a.assign(x=pd.Series(column, dtype=object))))
    assert (found["x"].state, found["x"].problem, found["x"].detail) == ("severe", "type", said)
    assert found["y"].state == "ok"


def test_a_few_values_that_are_no_numbers_count_as_missing_and_are_named() -> None:
    a = pd.DataFrame({"x": np.arange(200.0)})
    odd = [str(i) for i in range(190)] + ["n/k"] * 10
    report = profiles.compare(a, pd.DataFrame({"x": odd}))
    assert report.features[0].null_rate == 0.05
    assert "10 of 200 values are no numbers ('n/k')" in report.notes[0]


def test_numbers_are_words_where_words_were() -> None:
    a = pd.DataFrame({"code": ["1", "2"] * 100})
    report = profiles.compare(a, pd.DataFrame({"code": [1.0, 2.0] * 100}))
    assert report.worst == "ok"


def test_texts_are_described_as_on_a_device_where_the_reference_is() -> None:
    described = described_baseline()
    usual = DatasetProfile(name="bundle", baseline=described)
    words = ["AA", "DL", "UA", "WN"] * 100
    report = profiles.compare(usual, {"text": words})
    assert {one.feature: one.state for one in report.features} == dict.fromkeys(
        (f"text.{name}" for name in Text(tensor="text").columns), "ok"
    ), "pictures and vectors are in no table, and not missed"
    loud = profiles.compare(usual, {"text": ["9" * 40 + "!"] * 400})
    assert by_name(loud)["text.characters"].state == "severe"
    assert by_name(loud)["text.digits"].state == "severe"


def test_rows_that_repeat_are_a_finding_of_quality() -> None:
    a = month()
    b = month(seed=3)
    b = b.iloc[np.repeat(np.arange(len(b) // 2), 2)]
    report = profiles.compare(a, b)
    assert "duplicates" in {one.kind for one in report.remarks}
    assert "Data quality" in telling.summary(report)
    assert "Data quality" in Reader(report.html()).titles


def test_too_few_rows_say_nothing_and_it_is_said(tmp_path: Path) -> None:
    save(month(rows=40), tmp_path / "a.csv")
    done = whimbrel("profile", "compare", tmp_path / "a.csv", tmp_path / "a.csv")
    assert "Too few rows to judge: 40, where 100 are needed." in done.out
    done = whimbrel(
        "profile", "compare", tmp_path / "a.csv", tmp_path / "a.csv", "--min-rows", "20"
    )
    assert "None of 7 features has drifted" in done.out


@pytest.mark.parametrize(
    ("name", "content", "code", "said"),
    [
        ("none.csv", None, 2, "there is no file"),
        ("empty.csv", b"", 3, "is empty"),
        ("head.csv", b"temp,y\n", 3, "has no rows"),
        ("ragged.csv", b"temp,y\n1,2\n1,2,3\n", 3, "Expected 2 fields in line 3, saw 3"),
        ("longer.csv", b"temp,y\n1,2,3\n4,5,6\n", 3, "cannot be read as .csv"),
        ("no.parquet", b"PAR1 no", 3, "cannot be read as .parquet"),
        ("no.npz", b"no", 3, "cannot be read as .npz"),
        ("table.xlsx", b"PK\x03\x04 no", 2, "this is no bundle"),
        ("table.sql", b"select", 2, "data are read from .csv"),
        ("x.wprof", b"something", 3, "no profile of format 1"),
        ("x.whim", b"something", 3, "not a bundle, or cut short"),
        ("latin.csv", b"temp\n\xff\xfe\n", 3, "cannot be read as .csv"),
        ("other.csv", b"u,v\n1,2\n", 2, "has none of the 7 columns of a.parquet"),
    ],
)
def test_what_cannot_be_compared_is_named_with_what_to_do(
    folder: Path, tmp_path: Path, name: str, content: bytes | None, code: int, said: str
) -> None:
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    page = tmp_path / "page.html"
    done = whimbrel("profile", "compare", folder / "a.parquet", path, "--html", page)
    assert done.code == code, done.err
    assert said in done.err
    assert name in done.err
    assert not page.exists()


def test_a_folder_and_a_file_that_is_read_are_never_written_over(
    folder: Path, tmp_path: Path
) -> None:
    a = save(month(rows=200), tmp_path / "a.csv")
    before = a.read_bytes()
    assert whimbrel("profile", "make", a, "--out", a).code == 2
    assert whimbrel("profile", "make", a, "--out", tmp_path).code == 2
    assert whimbrel("profile", "compare", a, a, "--html", a).code == 2
    assert a.read_bytes() == before
    assert whimbrel("profile", "make", folder / "b.parquet", "--columns", "tmp").code == 2


def test_make_show_and_merge_tell_what_they_did(folder: Path, tmp_path: Path) -> None:
    a, b, both = (tmp_path / f"{name}.wprof" for name in ("a", "b", "both"))
    done = whimbrel("profile", "make", folder / "a.parquet", "--out", a, "--json")
    assert json.loads(done.out)["rows"] == 3000
    done = whimbrel("profile", "make", folder / "b.parquet", "--like", a, "--out", b)
    assert "absent    load" in done.out
    assert "new       fresh (not counted)" in done.out
    done = whimbrel("profile", "merge", a, b, "--out", both)
    assert "rows      6,000" in done.out
    done = whimbrel("profile", "show", both)
    assert "temp     numeric" in done.out
    assert "█" in done.out
    value = json.loads(whimbrel("profile", "show", both, "--json", "--columns", "temp").out)
    assert [one["feature"] for one in value["features"]] == ["temp"]
    assert whimbrel("profile", "merge", folder / "a.parquet", "--out", both).code == 2
    done = whimbrel("profile", "show", a, "--html", tmp_path / "p.html")
    assert done.code == 0
    assert "temp" in Reader((tmp_path / "p.html").read_text()).text


def test_the_page_loads_nothing_says_everything_and_is_the_same_twice(
    folder: Path, tmp_path: Path
) -> None:
    words = ["profile", "compare", folder / "a.parquet", folder / "b.parquet"]
    page = tmp_path / "drift.html"
    assert whimbrel(*words, "--html", page).code == 0
    text = page.read_text()
    seen = Reader(text)
    assert seen.titles == [
        "Features",
        "Distributions",
        "Columns",
        "Data quality",
        "How it is judged",
    ]
    for said in ("3 of 6 features have drifted", "gone", "b.parquet has no such column", "missing",
                 "Pearson's X²", "0.25"):  # fmt: skip
        assert said in seen.text, said
    assert not {"script", "img", "link", "iframe", "object", "form"} & set(seen.tags)
    addresses = [v for name, v in seen.attributes if name in {"src", "href", "action", "srcset"}]
    assert all(address.startswith("#") for address in addresses)
    assert whimbrel(*words, "--html", "-").out == text
    again = subprocess.run(
        [sys.executable, "-m", "whimbrel_core.cli", *map(str, words), "--html", "-"],
        capture_output=True, check=True,
    )  # fmt: skip
    assert again.stdout.decode() == text


def test_nothing_in_the_data_becomes_markup() -> None:
    a = pd.DataFrame({HOSTILE: [HOSTILE, "b", "c"] * 100, "x": np.arange(300.0)})
    b = pd.DataFrame({HOSTILE: ["b"] * 300, HOSTILE + "2": np.arange(300.0)})
    left = profiles.log(a, name=HOSTILE)
    right = profiles.log(b, like=left, name=HOSTILE)
    report = left.compare(right)
    for text in (report.html(), report._repr_html_(), left._repr_html_()):
        seen = Reader(text)
        assert not {"script", "img"} & set(seen.tags)
        assert not [name for name, _ in seen.attributes if name.startswith("on")]
        assert '<script>alert("1")' in seen.text


def test_a_segment_that_moves_is_named_although_the_whole_has_hardly() -> None:
    dice = np.random.default_rng(5)
    n = 20_000
    site = dice.choice(["big", "small"], n, p=[0.95, 0.05]).astype(object)
    temp = dice.normal(size=n)
    base = reference.build(
        [
            ColumnSpec("temp", "input", "temp", 0, temp),
            ColumnSpec("site", "input", "site", 0, site),
        ],
        task="regression",
        slices=[
            Slice(name="small sites", feature="site", words=("small",)),
            Slice(name="large sites", feature="site", words=("big",)),
            Slice(name="hot", feature="temp", low=9.0),
        ],
    )
    usual = profiles.Profile(DatasetProfile(name="usual", baseline=base))
    calm = usual.compare({"temp": dice.normal(size=n), "site": site})
    assert {one.name: one.state for one in calm.slices} == {
        "small sites": "ok", "large sites": "ok", "hot": "too_few",
    }  # fmt: skip
    moved = dice.normal(size=n) + (site == "small")
    report = usual.compare({"temp": moved, "site": site})
    assert {one.feature: one.state for one in report.features} == {"temp": "ok", "site": "ok"}
    worst = report.slices[0]
    assert (worst.name, worst.feature, worst.state) == ("small sites", "temp", "severe")
    assert worst.psi == pytest.approx(1.0, abs=0.35), "about the square of the shift in sd"
    assert worst.share == pytest.approx(0.05, abs=0.01)
    assert report.slices[1].state == "ok"
    seen = Reader(report.html())
    assert "site = small" in seen.text
    assert "Slices" in seen.titles
    assert "In small sites temp has drifted" in telling.summary(report)
