"""What is changed in a converted graph: its inputs, its outputs, and the precision between them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from onnx import TensorProto, helper, numpy_helper

if TYPE_CHECKING:
    from collections.abc import Sequence

    from whimbrel_packager.sources.sklearn_nodes import Step
    from whimbrel_packager.untyped import Proto

    Array = np.ndarray[Any, Any]

_DEFAULT = 13  # the newest form of all that is added here
_KINDS = {"FP32": TensorProto.FLOAT, "INT64": TensorProto.INT64, "BYTES": TensorProto.STRING}


def split_matrix(proto: Proto, matrix: str, kinds: dict[str, str]) -> None:
    """Replace the matrix input of a model by one input per column, joined in front of it."""
    graph = proto.graph
    _know(proto, "", _DEFAULT)
    inner = graph.input[0].type.tensor_type.elem_type
    joined, nodes, parts = f"{matrix}_joined", [], []
    rename(graph, {**{name: f"{name}_of_{matrix}" for name in kinds}, matrix: joined})
    del graph.input[:]
    for i, (name, kind) in enumerate(kinds.items()):
        graph.input.append(helper.make_tensor_value_info(name, _KINDS[kind], [None, 1]))
        parts.append(name)
        if _KINDS[kind] != inner:
            parts[-1] = f"{joined}_{i}"
            nodes.append(helper.make_node("Cast", [name], [parts[-1]], to=inner))
    nodes.append(helper.make_node("Concat", parts, [joined], axis=1))
    _in_front(graph, nodes)


def rename(graph: Proto, names: dict[str, str]) -> None:
    """Rename tensors: a column may be called like something inside the model."""
    for value in (*graph.input, *graph.output, *graph.initializer, *graph.value_info):
        value.name = names.get(value.name, value.name)
    for node in graph.node:
        node.input[:] = [names.get(name, name) for name in node.input]
        node.output[:] = [names.get(name, name) for name in node.output]


def float32_outside(proto: Proto) -> None:
    """Let a model of float64 read and answer float32, as devices send and count it."""
    graph, nodes = proto.graph, []
    _know(proto, "", _DEFAULT)
    for value in graph.input:
        if value.type.tensor_type.elem_type == TensorProto.DOUBLE:
            value.type.tensor_type.elem_type = TensorProto.FLOAT
            wide = f"{value.name}_float64"
            nodes.append(helper.make_node("Cast", [value.name], [wide], to=TensorProto.DOUBLE))
            for node in graph.node:
                node.input[:] = [wide if name == value.name else name for name in node.input]
    _in_front(graph, nodes)
    for value in graph.output:
        if value.type.tensor_type.elem_type == TensorProto.DOUBLE:
            value.type.tensor_type.elem_type = TensorProto.FLOAT
            _behind(graph, value.name, "Cast", to=TensorProto.FLOAT)


def flat_label(proto: Proto) -> None:
    """Make the first output of shape (rows,), whatever the converter thought of it."""
    value = proto.graph.output[0]
    _know(proto, "", _DEFAULT)
    constant(proto, "whimbrel_flat", np.array([-1], dtype=np.int64))
    _behind(proto.graph, value.name, "Reshape", "whimbrel_flat")
    value.type.tensor_type.shape.CopyFrom(
        helper.make_tensor_value_info("", TensorProto.INT64, [None]).type.tensor_type.shape
    )


def name_classes(proto: Proto, classes: Sequence[str]) -> None:
    """Turn a label of class numbers into one of words."""
    value = proto.graph.output[0]
    value.type.tensor_type.elem_type = TensorProto.STRING
    _know(proto, "ai.onnx.ml", 2)
    _behind(
        proto.graph, value.name, "LabelEncoder", domain="ai.onnx.ml",
        keys_int64s=list(range(len(classes))), values_strings=list(classes),
    )  # fmt: skip


def add_steps(proto: Proto, steps: Sequence[Step]) -> None:
    """Add operators to the first output."""
    value = proto.graph.output[0]
    _know(proto, "", _DEFAULT)
    double = value.type.tensor_type.elem_type == TensorProto.DOUBLE
    for i, (operator, number) in enumerate(steps):
        others = []
        if number is not None:
            others = [f"whimbrel_step_{i}"]
            kind = np.float64 if double else np.float32
            constant(proto, others[0], np.array([number], dtype=kind))
        _behind(proto.graph, value.name, operator, *others)


def keep_column(proto: Proto, output: int, column: int) -> None:
    """Keep one column of an output, as (rows, 1)."""
    value = proto.graph.output[output]
    _know(proto, "", _DEFAULT)
    constant(proto, "whimbrel_column", np.array([column], dtype=np.int64))
    _behind(proto.graph, value.name, "Gather", "whimbrel_column", axis=1)
    shaped = helper.make_tensor_value_info("", TensorProto.FLOAT, [None, 1])
    value.type.tensor_type.shape.CopyFrom(shaped.type.tensor_type.shape)


def drop_output(proto: Proto, output: int) -> None:
    """Take an output out of a model; nodes that only it needed stay, and cost nothing."""
    del proto.graph.output[output]


def _know(proto: Proto, domain: str, version: int) -> None:
    """Let a model know an operator set of at least a version.

    skl2onnx writes each node for the newest form and then imports no more than these need.
    """
    for entry in proto.opset_import:
        if entry.domain == domain:
            entry.version = max(entry.version, version)
            return
    proto.opset_import.append(helper.make_opsetid(domain, version))


def constant(proto: Proto, name: str, values: Array) -> None:
    """Add an initializer."""
    proto.graph.initializer.append(numpy_helper.from_array(values, name))


def _behind(graph: Proto, name: str, operator: str, *others: str, **attributes: Any) -> None:  # noqa: ANN401 - of ONNX, of any type
    """Put a node between an output's maker and the output."""
    before = f"{name}_before_{operator}_{len(graph.node)}"
    for node in graph.node:
        node.input[:] = [before if one == name else one for one in node.input]
        node.output[:] = [before if one == name else one for one in node.output]
    graph.node.append(helper.make_node(operator, [before, *others], [name], **attributes))


def _in_front(graph: Proto, nodes: list[Proto]) -> None:
    rest = list(graph.node)
    del graph.node[:]
    graph.node.extend([*nodes, *rest])
