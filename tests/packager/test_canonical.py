from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from whimbrel_packager.conversion import canonical

if TYPE_CHECKING:
    from pathlib import Path

CONVERT = """
import sys, hashlib, joblib
from whimbrel_packager import frame
from whimbrel_packager.conversion.canonical import canonicalise
from whimbrel_packager.sources import Options, open_source
from pathlib import Path
source = open_source(Path(sys.argv[1]), Options(allow_pickle=True))
data = frame.read(Path(sys.argv[2]))
data = data.select(source.columns(data), what="test")
proto, _ = source.convert(data)
raw = hashlib.sha256(proto.SerializeToString()).hexdigest()
print(raw, hashlib.sha256(canonicalise(proto)).hexdigest())
"""


@pytest.mark.timeout(300)  # three times the import of scikit-learn
def test_a_model_has_equal_bytes_whatever_the_hash_seed(material: tuple[Path, Path]) -> None:
    running = [
        subprocess.Popen(
            [sys.executable, "-c", CONVERT, *map(str, material)],
            env={**os.environ, "PYTHONHASHSEED": seed},
            stdout=subprocess.PIPE,
            text=True,
        )
        for seed in ("0", "1", "2")
    ]
    lines = [process.communicate()[0].split() for process in running]
    assert len({raw for raw, _ in lines}) > 1  # or this test proves nothing
    assert len({canonical for _, canonical in lines}) == 1


def dirty() -> onnx.ModelProto:
    """A model with everything that a build machine leaves behind, also inside a branch."""
    inner = helper.make_graph(
        [helper.make_node("Identity", ["x"], ["y"], doc_string="/home/somebody/model.py:12")],
        "branch 9f2c",
        [],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        doc_string="inner",
    )
    condition = helper.make_node("If", ["c"], ["out"], then_branch=inner, else_branch=inner)
    condition.metadata_props.add(key="source", value="/home/somebody/model.py")
    graph = helper.make_graph(
        [condition],
        "3f1e0c7a",
        [
            helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 1]),
            helper.make_tensor_value_info("c", TensorProto.BOOL, []),
        ],
        [helper.make_tensor_value_info("out", TensorProto.FLOAT, ["N", 1])],
    )
    model = helper.make_model(
        graph,
        ir_version=8,
        producer_name="tool",
        producer_version="1.2",
        doc_string="made on build-7",
        opset_imports=[
            helper.make_opsetid("ai.onnx.ml", 3),
            helper.make_opsetid("", 17),
            helper.make_opsetid("ai.onnx", 18),
        ],
    )
    model.metadata_props.add(key="host", value="build-7")
    return model


def test_nothing_of_the_build_machine_stays_in_a_model() -> None:
    data = canonical.canonicalise(dirty())
    for trace in (b"somebody", b"build-7", b"tool", b"3f1e0c7a", b"9f2c", b"inner"):
        assert trace not in data
    model = onnx.ModelProto.FromString(data)
    assert [(entry.domain, entry.version) for entry in model.opset_import] == [
        ("", 18),
        ("ai.onnx.ml", 3),
    ]
    assert model.graph.name == canonical.GRAPH_NAME
    assert canonical.canonicalise(model) == data


def test_operators_inside_branches_are_counted() -> None:
    assert canonical.operators(dirty()) == {"Identity": 2, "If": 1}


def test_the_answers_do_not_change(material: tuple[Path, Path]) -> None:
    import onnxruntime

    model = onnx.ModelProto.FromString(dirty().SerializeToString())
    fed = {"x": np.array([[1.0]], np.float32), "c": np.array(True)}
    before = onnxruntime.InferenceSession(model.SerializeToString()).run(None, fed)
    after = onnxruntime.InferenceSession(canonical.canonicalise(model)).run(None, fed)
    np.testing.assert_array_equal(before[0], after[0])
