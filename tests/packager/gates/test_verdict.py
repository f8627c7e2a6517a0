"""The verdict over all gates: what is told, recorded and raised; budgets, own gates, the starter."""

from __future__ import annotations

import json
import math
import tomllib

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.packager.gates.samples import Array, context, scored, words
from whimbrel_core.bundle.manifest import MAX_MANIFEST_BYTES
from whimbrel_core.errors import GateError, UsageError
from whimbrel_packager import recipe as recipes
from whimbrel_packager.commands import verdict as shown
from whimbrel_packager.frame import Frame
from whimbrel_packager.gates import Context, Outcome, Part, Verdict, budgets, starter
from whimbrel_packager.gates.budgets import Budgets, Measured
from whimbrel_packager.gates.columns import Column
from whimbrel_packager.gates.declared import Gates
from whimbrel_packager.gates.judgement import judge
from whimbrel_packager.gates.outcome import MAX_PARTS, MAX_RECORDED


def over(*outcomes: Outcome) -> Verdict:
    return Verdict.over(outcomes, name="flights", version="1.0.0", machine="a machine")


HELD = Outcome("quality.auc", "quality", held=True, measured=0.7, rule="at least", threshold=0.6)


def test_one_error_counts_and_names_all_that_does_not_hold() -> None:
    wrong = [Outcome(f"own.{i}", "own", held=False, message=f"{i} is wrong") for i in range(6)]
    verdict = over(HELD, *wrong)
    with pytest.raises(GateError) as raised:
        verdict.require()
    error = raised.value
    assert (error.code, error.exit_code) == ("gate.failed", 8)
    assert error.message.startswith(
        "flights-1.0.0: 6 of 7 gates do not hold, nothing was written: "
    )
    assert "own.0: 0 is wrong; own.1: 1 is wrong" in error.message
    assert error.message.endswith("; and 2 more")
    assert error.report is verdict
    assert json.dumps(error.as_dict())
    over(HELD).require()


def test_a_report_is_json_whatever_was_measured() -> None:
    odd = Outcome(
        "x", "own", held=False, measured=math.nan, interval=(0.0, math.inf),
        parts=(Part("y", measured=math.inf, interval=(math.nan, 1.0)),),
    )  # fmt: skip
    told = json.loads(msgspec.json.encode(over(odd)))
    assert told["gates"][0]["measured"] is None
    assert told["gates"][0]["parts"][0]["interval"] is None
    assert msgspec.json.decode(msgspec.json.encode(over(HELD)), type=Verdict) == over(HELD)


def test_what_a_manifest_records_is_bounded() -> None:
    parts = tuple(Part("segment " * 30, 10, 0.1, (0.1, 0.2)) for _ in range(50))
    many = [msgspec.structs.replace(HELD, message="long " * 500, parts=parts) for _ in range(300)]
    columns = [Outcome(f"columns.c{i}.null", "columns", held=True) for i in range(500)]
    recorded = over(*columns, *many).recorded
    assert len(recorded) == MAX_RECORDED
    assert recorded[0].message == "500 checks on 500 columns hold"
    assert max(len(outcome.parts) for outcome in recorded) == MAX_PARTS
    assert len(msgspec.json.encode(recorded)) < MAX_MANIFEST_BYTES


def test_every_gate_is_asked_and_own_ones_that_break_do_not_hold() -> None:
    asked: list[str] = []

    def fine(seen: Context) -> Outcome:
        asked.append(seen.name)
        return Outcome("", "own", held=seen.frame.rows == 600, measured=1.0)

    def broken(_: Context) -> Outcome:
        raise ZeroDivisionError("by nothing")

    def silent(_: Context) -> Outcome:
        return None  # type: ignore[return-value]

    declared = Gates(columns={"x": Column(min=1)}, budgets=Budgets(model_bytes=1))
    seen = context({"x": np.zeros(600)}, scored(600),
                   measured=Measured({"model_bytes": 2}, {}, "m"))  # fmt: skip
    verdict = judge(declared, seen, [broken, fine, silent])
    assert asked == ["flights"]
    assert verdict.failed == ("columns.x.range", "budgets.model_bytes", "own.broken", "own.silent")
    messages = {outcome.name: outcome.message for outcome in verdict.gates}
    assert messages["own.broken"] == "it raised ZeroDivisionError: by nothing"
    assert messages["own.silent"] == "it answered with NoneType, an Outcome is needed"
    assert "own.fine" in messages


def test_an_own_gate_may_refuse_with_an_error_of_its_own() -> None:
    def asks(_: Context) -> Outcome:
        raise UsageError("the table of limits is not there")

    with pytest.raises(UsageError, match="table of limits"):
        judge(Gates(), context({"x": np.zeros(3)}), [asks])


FIGURES = {"latency_us": 108.0, "memory_bytes": 1000.0, "model_bytes": 1001.0}


def test_a_time_may_be_over_its_budget_by_the_margin_and_bytes_may_not() -> None:
    measured = Measured(FIGURES, {"latency_us": (101.0, 140.0)}, "x86_64, a processor, 2 cores")
    declared = Budgets(latency_us=100, memory_bytes=950, model_bytes=1000)
    found = {o.name: o for o in budgets.judge(declared, measured)}
    assert found["budgets.latency_us"].held
    assert found["budgets.latency_us"].interval == (101.0, 140.0)
    assert "101 to 140 in rounds" in found["budgets.latency_us"].message
    assert "x86_64, a processor, 2 cores" in found["budgets.latency_us"].message
    assert found["budgets.memory_bytes"].held
    assert not found["budgets.model_bytes"].held
    (strict,) = budgets.judge(Budgets(latency_us=100, margin=0), measured)
    assert not strict.held


def test_what_differs_from_run_to_run_stays_out_of_a_reproducible_record() -> None:
    measured = Measured(FIGURES, {"latency_us": (101.0, 140.0)}, "a machine", repeatable=False)
    held, size = budgets.judge(Budgets(latency_us=200, model_bytes=2000), measured)
    assert (held.held, held.measured, held.interval) == (True, None, None)
    assert held.message == "within 200 µs"
    assert size.measured == 1001


def test_people_see_what_failed_first_with_its_sentence_and_columns_in_one_line() -> None:
    columns = [Outcome(f"columns.c{i}.null", "columns", held=True) for i in range(3)]
    failed = Outcome("data.ids", "data", held=False, measured=2.0, rule="at most", threshold=0.0,
                     message="a, b look like ids")  # fmt: skip
    silent = Outcome("incumbent.auc", "incumbent", held=True, judged=False, message="no release")
    lines = shown.lines(over(*columns, HELD, silent, failed))
    assert lines[0].endswith("1 of 4 gates does not hold, 1 could not be judged\x1b[0m")
    text = "\n".join(lines)
    assert text.index("data.ids") < text.index("a, b look like ids") < text.index("3 checks on 3")
    assert "no release" in text
    assert shown.lines(over(HELD))[0].endswith("1 gate holds\x1b[0m")


COLUMNS = st.sampled_from(["numbers", "whole", "flags", "words", "holes", "inf", "one", "none"])


@settings(max_examples=40)
@given(st.lists(COLUMNS, min_size=1, max_size=8), st.integers(0, 99))
def test_a_recipe_that_was_begun_holds_on_the_data_it_was_begun_from(
    kinds: list[str], seed: int
) -> None:
    rng = np.random.default_rng(seed)
    n = 300
    made: dict[str, Array] = {
        "numbers": (rng.normal(0, 10.0 ** rng.integers(-6, 9), n)).astype(np.float32),
        "whole": rng.integers(-5, 500, n),
        "flags": rng.integers(0, 2, n),
        "words": words(rng.choice(['a"b', "ü\n", "c\\", "d", ""], n)),
        "holes": np.where(rng.random(n) < 0.4, np.nan, rng.normal(0, 1, n)).astype(np.float32),
        "inf": np.where(rng.random(n) < 0.001, np.inf, rng.normal(0, 1, n)).astype(np.float32),
        "one": np.full(n, rng.normal(), np.float32),
        "none": np.full(n, np.nan, np.float32),
    }
    columns = {f"{kind} '{i}\"": made[kind] for i, kind in enumerate(kinds)}
    start = starter.Start('flights "x"', "m.onnx", "d.npz", "y", "h", aside=("z",))
    measured = Measured(
        {"latency_us": 9.3, "latency_p99_us": 20.0, "latency_16_us": 12.0, "load_ms": 2.0,
         "memory_bytes": 9_547_780, "model_bytes": 1120, "bundle_bytes": 42_000}, {}, "a machine",
    )  # fmt: skip
    seen = context(columns, scored(n, seed), measured=measured)
    text = starter.write(start, Frame(columns), seen)
    recipe = msgspec.convert(tomllib.loads(text), recipes.Recipe)
    assert recipe.data.aside == ("z",)
    gates = msgspec.structs.replace(
        recipe.gates, data=None
    )  # of made-up columns, some are constant
    assert judge(gates, seen).failed == ()
    assert set(recipe.gates.columns) == set(columns)
    assert recipe.gates.quality is not None
    assert recipe.gates.budgets is not None
    # Without a model, from the data alone.
    early = starter.write(start, Frame(columns), None)
    assert set(msgspec.convert(tomllib.loads(early), recipes.Recipe).gates.columns) == set(columns)
