"""A signed model must not be able to end the worker that serves it by what it is asked."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import pytest
from onnx import TensorProto, helper

from whimbrel_core.errors import ConversionError
from whimbrel_packager import frame as frames
from whimbrel_packager.conversion import child, hazards, proving
from whimbrel_packager.recipe import Recipe
from whimbrel_packager.sources import Options, given

if TYPE_CHECKING:
    from pathlib import Path

    from whimbrel_packager.untyped import Proto


def quotient(operator: str, *, guarded: bool = False) -> Proto:
    """Raw ONNX: a number of the integer quotient of two columns."""
    inputs = [helper.make_tensor_value_info(n, TensorProto.INT64, [None, 1]) for n in ("a", "b")]
    kind = TensorProto.FLOAT if guarded else TensorProto.INT64
    nodes = [helper.make_node("Cast", [n], [f"{n}2"], to=kind) for n in ("a", "b")]
    nodes += [
        helper.make_node(operator, ["a2", "b2"], ["c"]),
        helper.make_node("Cast", ["c"], ["d"], to=TensorProto.FLOAT),
    ]
    outputs = [helper.make_tensor_value_info("d", TensorProto.FLOAT, [None, 1])]
    graph = helper.make_graph(nodes, "g", inputs, outputs)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)


def whole_numbers(least: int) -> pd.DataFrame:
    rng = np.random.default_rng(1)
    return pd.DataFrame({"a": rng.integers(-50, 50, 100), "b": rng.integers(least, 60, 100)})


def pack(model: Proto, folder: Path) -> proving.Proven:
    table = frames.of(whole_numbers(1))
    path, options = given.model_file(model, folder, Options(task="regression"), table)
    return proving.first_proven(
        Recipe(name="q", version="1.0.0", limits=child.Limits(timeout_s=60)),
        path, table, folder, options=options, tell=lambda _stage: None, check=lambda _done: None,
    )  # fmt: skip


def test_a_division_of_integers_that_kills_the_runtime_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(ConversionError, match="end the process that serves the model") as caught:
        pack(quotient("Div"), tmp_path)
    assert caught.value.code == "conversion.hazard"
    assert "smallest integer by -1" in caught.value.message
    assert "cast integers to float" in str(caught.value.hint)


def test_the_same_division_of_floats_is_packed(tmp_path: Path) -> None:
    assert pack(quotient("Div", guarded=True), tmp_path).proved.proof.rows


def test_every_pair_of_integers_is_divided_by_zero_and_the_smallest_by_minus_one() -> None:
    fed = {name: np.array([[5], [6]], dtype=np.int32) for name in ("a", "b")}
    made = hazards.rows({**fed, "c": np.array([[0.5], [1]], dtype=np.float32)})
    rows = set(zip(made["a"][:, 0].tolist(), made["b"][:, 0].tolist(), strict=True))
    least = np.iinfo(np.int32).min
    assert {(least, -1), (-1, least), (1, 0), (0, 0), (least, 5), (5, 0)} <= rows
    assert np.isnan(made["c"]).any()
    assert np.isinf(made["c"]).any()


def test_a_model_without_numbers_has_no_hazards() -> None:
    made = hazards.rows({"word": np.array([["x"]], dtype=object)})
    assert made["word"].tolist() == [["x"]] * len(made["word"])
