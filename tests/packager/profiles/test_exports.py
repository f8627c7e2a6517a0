"""Exports are what the formats' specifications say, whatever names and words are in them."""

from __future__ import annotations

import json
import re
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families
from pyarrow import parquet

from tests.packager.command import whimbrel
from tests.packager.profiles.tables import HOSTILE, ROWS, month
from whimbrel_core.errors import UsageError
from whimbrel_core.profile.drift.comparing import compare
from whimbrel_core.profile.exports import influx, prometheus, table
from whimbrel_packager import profiles

if TYPE_CHECKING:
    from pathlib import Path

names = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)


def read_line(line: str) -> tuple[str, dict[str, str], dict[str, object], int | None]:
    """Read a line as the database does: separators that no backslash escapes, texts in quotes."""

    def until(at: int, stops: str) -> int:
        while at < len(line) and line[at] not in stops:
            at += 2 if line[at] == "\\" else 1
        return at

    def plain(text: str) -> str:
        return re.sub(r"\\([, =])", r"\1", text)

    at = until(0, ", ")
    measurement, tags = plain(line[:at]), {}
    while line[at] == ",":
        middle = until(at + 1, "=")
        end = until(middle + 1, ", ")
        tags[plain(line[at + 1 : middle])] = plain(line[middle + 1 : end])
        at = end
    fields: dict[str, object] = {}
    while line[at] in " ," if at < len(line) else False:
        if line[at] == " " and fields:
            return measurement, tags, fields, int(line[at + 1 :])
        middle = until(at + 1, "=")
        name = plain(line[at + 1 : middle])
        if line[middle + 1] == '"':
            end = middle + 2
            while line[end] != '"':
                end += 2 if line[end] == "\\" else 1
            fields[name] = re.sub(r'\\(["\\])', r"\1", line[middle + 2 : end])
            end += 1
        else:
            end = until(middle + 1, ", ")
            text = line[middle + 1 : end]
            fields[name] = int(text[:-1]) if text.endswith("i") else float(text)
        at = end
    return measurement, tags, fields, None


@given(names, names, names, st.floats(), st.integers(-(2**70), 2**70))
def test_whatever_is_in_a_tag_or_a_text_comes_back_from_a_line(
    tag: str, word: str, key: str, real: float, whole: int
) -> None:
    fields: dict[str, table.Value] = {"word": word, "real": real, "whole": whole, "none": None}
    line = influx.line("whimbrel_feature", {"tag": tag, "k" + key: "v"}, fields, 7)
    assert "\n" not in line
    assert "\r" not in line
    measurement, tags, found, at = read_line(line)
    assert (measurement, at) == ("whimbrel_feature", 7)
    assert tags.get("tag", "").replace("/", "\\") == tag.translate(influx._CONTROL).replace(
        "/", "\\"
    )
    assert found["word"] == word.translate(influx._CONTROL)
    assert "none" not in found
    assert ("real" in found) is (abs(real) < float("inf"))
    assert ("whole" in found) is (abs(whole) < 2**63)


def test_lines_hold_every_feature_with_its_figures_and_cells() -> None:
    profile = profiles.log(month()).counts
    lines = [read_line(line) for line in influx.lines(profile, {"plant": "a b"}, cells=True)]
    features = {t["feature"]: f for m, t, f, _ in lines if m == influx.FEATURE}
    assert set(features) == set(profile.features)
    assert features["temp"]["rows"] == ROWS
    assert features["temp"]["mean"] == profile.baseline.stats[0].mean
    assert all(t["plant"] == "a b" for _, t, _, _ in lines)
    cells = [f["rows"] for m, t, f, _ in lines if m == influx.CELL and t["feature"] == "temp"]
    assert sum(int(str(rows)) for rows in cells) == ROWS
    assert len(cells) == profile.baseline.layout.features[0].cells
    assert len({(m, tuple(t.items())) for m, t, _, _ in lines}) == len(lines), "no point twice"


@pytest.mark.parametrize("name", ["_hidden", "time", ""])
def test_names_that_influx_keeps_for_itself_are_refused(name: str) -> None:
    with pytest.raises(UsageError, match="cannot be the name"):
        influx.line("m", {name: "x"}, {"f": 1})


def test_times_beyond_the_database_are_refused() -> None:
    with pytest.raises(UsageError, match="beyond the times"):
        influx.line("m", {}, {"f": 1}, 1 << 63)


def test_prometheus_reads_every_metric_and_histograms_are_cumulative() -> None:
    table_ = month().assign(**{HOSTILE: [HOSTILE + "\n\\", "", None] * (ROWS // 3)})
    profile = profiles.log(table_).counts
    text = prometheus.text(profile, {"model": 'a"\\\n'}, cells=True)
    assert text.endswith("\n")
    found = {one.name: one for one in text_string_to_metric_families(text)}
    rows = found["whimbrel_profile_rows"].samples[0]
    assert (rows.value, rows.labels) == (ROWS, {"model": 'a"\\\n'})
    missing = {s.labels["feature"]: s.value for s in found["whimbrel_feature_missing"].samples}
    assert missing[HOSTILE] == ROWS // 3
    histogram: Any = found["whimbrel_feature_values"]
    assert histogram.type == "histogram"
    buckets = [
        (float(s.labels["le"]), s.value)
        for s in histogram.samples
        if s.name.endswith("_bucket") and s.labels["feature"] == "temp"
    ]
    assert buckets == sorted(buckets)
    assert buckets[-1] == (float("inf"), ROWS)
    values = month()["temp"].to_numpy().astype("float32")
    assert all(count == (values <= edge).sum() for edge, count in buckets)
    words = {
        s.labels.get("value", ""): s.value
        for s in found["whimbrel_feature_value_rows"].samples
        if s.labels["feature"] == HOSTILE
    }
    assert words == {HOSTILE + "\n\\": ROWS // 3, "": ROWS // 3}
    series = [
        (s.name, tuple(sorted(s.labels.items()))) for one in found.values() for s in one.samples
    ]
    assert len(set(series)) == len(series), "no series twice"


@pytest.mark.parametrize("label", ["le", "feature", "__x", "1a", "a-b", ""])
def test_labels_that_prometheus_would_refuse_are_refused(label: str) -> None:
    with pytest.raises(UsageError, match="cannot be a label"):
        prometheus.text(profiles.log({"x": [1.0]}).counts, {label: "x"})


def test_a_drift_report_is_metrics_too() -> None:
    a = profiles.log(month())
    report = compare(a.counts, profiles.log(month(moved=True), like=a).counts)
    found = {one.name: one for one in text_string_to_metric_families(prometheus.drift(report, {}))}
    states = {s.labels["feature"]: s.value for s in found["whimbrel_drift_state"].samples}
    assert states["temp"] == 3
    assert states["floor"] == 0


def test_parquet_has_a_line_per_cell_and_one_per_feature(tmp_path: Path) -> None:
    profile = profiles.log(month())
    profile.to_parquet(tmp_path / "x.parquet")
    cells = parquet.read_table(tmp_path / "x.parquet").to_pylist()
    mine = [one for one in cells if one["feature"] == "temp"]
    assert sum(one["rows"] for one in mine) == ROWS
    assert (mine[0]["above"], mine[-1]["to"]) == (None, None)
    assert all(a["to"] == b["above"] for a, b in pairwise(mine))
    summary = parquet.read_table(tmp_path / "x.summary.parquet")
    assert summary.num_rows == len(profile.features)
    assert [str(t) for t in summary.schema.types[:5]] == ["string"] * 4 + ["int64"]


def test_the_command_writes_and_prints_each_format(tmp_path: Path) -> None:
    source = tmp_path / "a.csv"
    month().to_csv(source, index=False)
    for form in ("influx", "prometheus", "json"):
        done = whimbrel("profile", "export", source, "--format", form, "--tag", "site=x")
        assert done.code == 0
        out = tmp_path / form
        assert whimbrel("profile", "export", source, "--format", form, "--tag", "site=x",
                        "--out", out).code == 0  # fmt: skip
        assert out.read_text() == done.out
    assert json.loads((tmp_path / "json").read_text())["tags"] == {"profile": "a.csv", "site": "x"}
    assert whimbrel("profile", "export", source, "--format", "parquet").code == 2
    done = whimbrel(
        "profile", "export", source, "--format", "parquet", "--out", tmp_path / "p.parquet"
    )
    assert done.out.split() == [str(tmp_path / "p.parquet"), str(tmp_path / "p.summary.parquet")]
    assert whimbrel("profile", "export", source, "--format", "influx", "--out", source).code == 2
    assert len(source.read_text().splitlines()) == ROWS + 1


def test_tables_have_the_columns_that_they_promise() -> None:
    profile = profiles.log(month()).counts
    assert list(table.summary(profile)) == list(table.SUMMARY)
    assert list(table.cells(profile, {"model": "m"})) == ["model", *table.CELLS]
    lines = table.lines(table.summary(profile))
    assert {line["feature"] for line in lines} == set(profile.features)
    types = {name: {type(line[name]) for line in lines} - {type(None)} for name in table.SUMMARY}
    assert all(found <= {table.SUMMARY[name]} for name, found in types.items()), types
    frame = pd.DataFrame(lines)
    assert frame["rows"].sum() == ROWS * len(profile.features)
