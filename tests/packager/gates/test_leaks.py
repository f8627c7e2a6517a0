"""Data that is too good to be true, in each of the ways that it can be."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from tests.packager.gates.samples import Array, context, words
from whimbrel_packager.frame import Frame
from whimbrel_packager.gates.leaks import Leaks, judge, row_keys, strongest

if TYPE_CHECKING:
    from whimbrel_packager.gates.outcome import Outcome

ROWS = 2000


def late(seed: int = 0) -> tuple[dict[str, Array], Array, Array]:
    """Honest columns of every kind, labels that they tell something of, and every fourth held out."""
    rng = np.random.default_rng(seed)
    hour = rng.integers(0, 24, ROWS).astype(np.float32)
    columns: dict[str, Array] = {
        "temp": rng.normal(10, 5, ROWS).astype(np.float32),
        "gust": np.where(rng.random(ROWS) < 0.3, np.nan, rng.gamma(2, 5, ROWS)).astype(np.float32),
        "hour": hour,
        "carrier": words(rng.choice(["AA", "B6", ""], ROWS)),
        "tail": words(rng.choice([f"N{i}" for i in range(700)], ROWS)),
    }
    yes = rng.random(ROWS) < 1 / (1 + np.exp((14 - hour) / 4))
    return columns, np.where(yes, "1", "0").astype(object), np.arange(ROWS) % 4 == 0


def found(
    columns: dict[str, Array], labels: Array | None, held_out: Array, declared: Leaks | None = None,
    task: str = "classification",
) -> dict[str, Outcome]:  # fmt: skip
    seen = context(columns, labels=labels, held_out=held_out, task=task)
    return {outcome.name: outcome for outcome in judge(declared or Leaks(), seen)}


def failed(outcomes: dict[str, Outcome]) -> list[str]:
    return [name for name, outcome in outcomes.items() if not outcome.held]


def test_honest_data_passes_whatever_its_kinds() -> None:
    outcomes = found(*late())
    assert failed(outcomes) == []
    assert all(outcome.judged for outcome in outcomes.values())
    best = outcomes["data.label_leak"]
    assert best.parts[0].name == "hour"
    assert 0.75 < (best.measured or 0) < 0.9


def test_the_label_under_another_name_is_found_in_every_kind_of_column() -> None:
    columns, labels, held_out = late()
    yes = labels == "1"
    for disguise in (
        words(np.where(yes, "late", "on time")),
        np.where(yes, -3.0, 8.0).astype(np.float32),
        (~yes).astype(np.int64),
        np.where(yes, np.nan, 1.0).astype(np.float32),
    ):
        outcomes = found({**columns, "delay": disguise}, labels, held_out)
        assert failed(outcomes) == ["data.label_copy", "data.label_leak"]
        assert outcomes["data.label_copy"].message.startswith("delay is the label itself")


@pytest.mark.parametrize("shape", ["monotone", "reversed", "two-sided", "words"])
def test_a_column_that_tells_the_label_alone_is_found_however_it_does(shape: str) -> None:
    columns, labels, held_out = late()
    yes = (labels == "1").astype(float)
    noise = np.random.default_rng(1).normal(0, 0.15, ROWS)
    minutes = {
        "monotone": yes + noise,
        "reversed": -yes + noise,
        "two-sided": np.where(np.arange(ROWS) % 2, 1, -1) * yes * 5 + noise,
        "words": words(np.array([f"{'L' if y else 'P'}{i % 40}" for i, y in enumerate(yes)])),
    }[shape]
    minutes = minutes if minutes.dtype == object else minutes.astype(np.float32)
    outcomes = found({**columns, "minutes": minutes}, labels, held_out)
    assert failed(outcomes) == ["data.label_leak"]
    assert "'minutes' alone predicts the label" in outcomes["data.label_leak"].message
    assert failed(found({**columns, "minutes": minutes}, labels, held_out,
                        Leaks(ignore=("minutes",)))) == []  # fmt: skip


def test_words_that_are_nearly_all_different_do_not_seem_to_know_the_label() -> None:
    columns, labels, _ = late()
    columns["id"] = words(np.array([f"flight-{i}" for i in range(ROWS)]))
    alone = {one.name: one.figure for one in strongest(Frame(columns), labels, "classification")}
    assert alone["id"] == pytest.approx(0.5, abs=0.01)
    assert alone["tail"] == pytest.approx(0.5, abs=0.06)


def test_a_leak_of_a_value_is_found_in_a_regression() -> None:
    rng = np.random.default_rng(2)
    value = rng.normal(100, 20, ROWS)
    columns: dict[str, Array] = {"x": (value + rng.normal(0, 20, ROWS)).astype(np.float32)}
    held_out = np.arange(ROWS) % 4 == 0
    assert failed(found(columns, value, held_out, task="regression")) == []
    in_other_units = (value * 1.8 + 32).astype(np.float64)
    outcomes = found({**columns, "f": in_other_units}, value, held_out, task="regression")
    assert failed(outcomes) == ["data.label_copy", "data.label_leak"]
    nearly = (value**3 + rng.normal(0, 5e3, ROWS)).astype(np.float64)
    outcomes = found({**columns, "cubed": nearly}, value, held_out, task="regression")
    assert failed(outcomes) == ["data.label_leak"]


def test_one_class_of_many_that_leaks_is_found() -> None:
    rng = np.random.default_rng(3)
    labels = rng.choice(["a", "b", "c", "d"], ROWS).astype(object)
    columns: dict[str, Array] = {
        "noise": rng.normal(0, 1, ROWS).astype(np.float32),
        "is_c": (labels == "c").astype(np.int64),
    }
    outcomes = found(columns, labels, np.arange(ROWS) % 4 == 0)
    assert failed(outcomes) == ["data.label_leak"]


def test_rows_that_are_in_training_and_held_out_alike_are_counted() -> None:
    columns, labels, held_out = late()
    again = {name: values.copy() for name, values in columns.items()}
    for values in again.values():
        values[0:400:4] = values[1:401:4]  # a hundred held-out rows, as the row after them
    outcomes = found(again, labels, held_out)
    assert failed(outcomes) == ["data.duplicates"]
    assert outcomes["data.duplicates"].measured == pytest.approx(100 / 500)
    assert "100 of 500 held-out rows" in outcomes["data.duplicates"].message
    assert found(again, labels, held_out, Leaks(max_duplicates=0.2))["data.duplicates"].held


def test_row_keys_are_equal_for_equal_rows_with_missing_values_and_both_zeros() -> None:
    x = np.array([0.0, -0.0, np.nan, np.nan, 1.0], np.float32)
    keys = row_keys(Frame({"x": x, "y": words(np.array(["a", "a", "", "", "a"]))}))
    assert keys[0] == keys[1]
    assert keys[2] == keys[3]
    assert len(set(keys.tolist())) == 3


def test_without_held_out_rows_or_labels_nothing_is_said_of_them() -> None:
    columns, labels, held_out = late()
    assert "data.duplicates" not in found(columns, labels, np.ones(ROWS, dtype=bool))
    unlabelled = found(columns, None, held_out)
    assert not unlabelled["data.label_leak"].judged
    assert unlabelled["data.label_leak"].held


def test_columns_that_are_constant_or_ids_are_named() -> None:
    columns, labels, held_out = late()
    columns["plant"] = words(np.array(["north"] * ROWS))
    columns["nothing"] = np.full(ROWS, np.nan, np.float32)
    columns["row"] = np.arange(ROWS)[::-1].copy()
    columns["uuid"] = words(np.array([f"{i:x}" for i in range(ROWS)]))
    outcomes = found(columns, labels, held_out)
    assert failed(outcomes) == ["data.constant", "data.ids"]
    assert outcomes["data.constant"].message == "plant, nothing have one value in every row"
    assert outcomes["data.ids"].message.startswith("row, uuid have another value")


@pytest.mark.parametrize("text", [False, True])
def test_held_out_rows_from_before_the_end_of_training_are_counted(text: bool) -> None:
    columns, labels, _ = late()
    time = np.arange(ROWS)
    shown = np.datetime64("2024-01-01") + time
    columns["when"] = words(shown.astype(str)) if text else time
    declared = Leaks(time="when", ignore=("when",))
    assert failed(found(columns, labels, time >= 1500, declared)) == []
    outcomes = found(columns, labels, time % 4 == 0, declared)
    assert failed(outcomes) == ["data.time"]
    assert (outcomes["data.time"].measured or 0) > 0.99
    allowed = Leaks(time="when", ignore=("when",), max_earlier=1)
    assert failed(found(columns, labels, time % 4 == 0, allowed)) == []
    assert failed(found(columns, labels, time >= 1500, Leaks(time="hwen", ignore=("when",)))) == [
        "data.time"
    ]


def test_an_array_a_row_counts_for_duplicates_and_is_no_single_column() -> None:
    rng = np.random.default_rng(0)
    images = rng.normal(0, 1, (ROWS, 3, 3)).astype(np.float32)
    labels = rng.choice(["0", "1"], ROWS).astype(object)
    held_out = np.arange(ROWS) % 4 == 0
    assert failed(found({"image": images}, labels, held_out)) == []
    images[::4] = images[1::4]
    assert failed(found({"image": images}, labels, held_out)) == ["data.duplicates"]


def test_a_leak_shows_in_a_sample_of_very_many_rows() -> None:
    rng = np.random.default_rng(0)
    labels = rng.choice(["0", "1"], 100_000).astype(object)
    delay = ((labels == "1") * 3 + rng.normal(0, 0.3, 100_000)).astype(np.float32)
    best, other = strongest(
        Frame({"delay": delay, "noise": rng.normal(0, 1, 100_000)}), labels, "classification"
    )
    assert (best.name, best.figure > 0.999) == ("delay", True)
    assert other.figure == pytest.approx(0.5, abs=0.02)
