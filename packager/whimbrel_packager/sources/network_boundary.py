"""The boundary of a converted network: inputs and outputs as devices see them.

Exporters name inputs and outputs after counters of the process, leave sizes open that the data
fixes, and declare types that no request can carry. Here they get the names of the columns and of
the answer, a free batch dimension, the sizes that the data has, and casts where needed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from whimbrel_core.errors import ConversionError
from whimbrel_packager.conversion.canonical import DATATYPES

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from whimbrel_packager.sources.network_answer import Answer
    from whimbrel_packager.sources.network_inputs import Placed
    from whimbrel_packager.untyped import Proto

    Array = np.ndarray[Any, Any]

BATCH = "n"
OPSET = 18  # the newest that onnxruntime 1.17, the oldest one an agent may have, knows in full
# What later versions of the file format add is metadata and types that are refused here.
IR_VERSION = 9
_FLOATS = (TensorProto.FLOAT, TensorProto.DOUBLE)
_OUTER: dict[int, int] = {
    TensorProto.FLOAT16: TensorProto.FLOAT,
    TensorProto.BFLOAT16: TensorProto.FLOAT,
    TensorProto.UINT32: TensorProto.INT64,
}


class Ends(NamedTuple):
    """What goes in and comes out of a network, on some rows.

    Attributes:
        main: index of the output that answers.
        others: names for the outputs that are kept beside it, by index.
        fed: the inputs in the network's order; their sizes become the model's.
        made: the source's outputs in its order.
    """

    main: int
    others: Mapping[int, str]
    fed: Sequence[Array]
    made: Sequence[Array]


def finish(
    proto: Proto, placed: Placed, answer: Answer, ends: Ends, *, guard: bool
) -> dict[str, str]:
    """Give a network its boundary, in place, and return the roles of its outputs.

    Args:
        proto: with the network's own inputs and outputs, in its order.
        placed: names of the inputs on a device.
        answer: what the main output means.
        ends: which outputs, and what sizes.
        guard: whether to answer NaN wherever a number of the input is NaN.
    """
    graph = proto.graph
    weights = {tensor.name for tensor in graph.initializer}
    given = [value for value in graph.input if value.name not in weights]
    kinds = [_element(value) for value in given]
    out_kinds = [_element(value) for value in graph.output]
    fed_names, made_names = [v.name for v in given], [v.name for v in graph.output]
    roles = {**answer.roles, **dict.fromkeys(ends.others.values(), "other")}
    taken = {*placed.names, *roles}
    move = {name: f"network/{name}" for name in _tensors(graph) if name in taken}
    rename(graph, move)
    fed_names = [move.get(name, name) for name in fed_names]
    made_names = [move.get(name, name) for name in made_names]
    inner = list(graph.node)
    del graph.input[:], graph.output[:], graph.value_info[:], graph.node[:]
    for name, own, kind, rows in zip(placed.names, fed_names, kinds, ends.fed, strict=True):
        outer = _outer(kind, name)
        graph.input.append(helper.make_tensor_value_info(name, outer, [BATCH, *rows.shape[1:]]))
        graph.node.append(_passed(name, own, outer, kind))
    graph.node.extend(inner)
    missing = _missing(graph) if guard else ""
    outer = _outer(out_kinds[ends.main], made_names[ends.main])
    numbers, values = "answer/numbers", ends.made[ends.main]
    graph.node.append(_passed(made_names[ends.main], numbers, out_kinds[ends.main], outer))
    if missing:
        numbers = _guarded(graph, numbers, missing, outer, values.ndim)
    expected = answer.of(values)
    for name in answer.graft(graph, numbers, outer, values.ndim):
        made = expected[name]
        kind = {"f": outer, "i": TensorProto.INT64}.get(made.dtype.kind, TensorProto.STRING)
        graph.output.append(helper.make_tensor_value_info(name, kind, [BATCH, *made.shape[1:]]))
    for i, name in ends.others.items():
        made, outer = ends.made[i], _outer(out_kinds[i], name)
        if missing and made.dtype.kind == "f":
            plain = f"answer/plain/{name}"
            graph.node.append(_passed(made_names[i], plain, out_kinds[i], outer))
            kept = _guarded(graph, plain, missing, outer, made.ndim)
            graph.node.append(_passed(kept, name, outer, outer))
        else:
            graph.node.append(_passed(made_names[i], name, out_kinds[i], outer))
        graph.output.append(helper.make_tensor_value_info(name, outer, [BATCH, *made.shape[1:]]))
    proto.ir_version = min(proto.ir_version, IR_VERSION)
    return roles


def _missing(graph: Proto) -> str:
    """Add what tells the rows with a NaN in any input, and return its name: (n, 1) bool."""
    floats = [v for v in graph.input if v.type.tensor_type.elem_type in _FLOATS]
    _constant(graph, "guard/axis", np.array([1], dtype=np.int64))
    found = ""
    for i, value in enumerate(floats):
        sizes = [d.dim_value for d in value.type.tensor_type.shape.dim][1:]
        # 0 is "as it is": of no rows, -1 could not be told.
        flat = np.array([0, int(np.prod(sizes))], dtype=np.int64)
        shape = _constant(graph, f"guard/flat/{i}", flat)
        steps = (
            helper.make_node("Reshape", [value.name, shape], [f"guard/rows/{i}"]),
            helper.make_node("IsNaN", [f"guard/rows/{i}"], [f"guard/nan/{i}"]),
            helper.make_node("Cast", [f"guard/nan/{i}"], [f"guard/one/{i}"], to=TensorProto.FLOAT),
            helper.make_node("ReduceMax", [f"guard/one/{i}", "guard/axis"], [f"guard/any/{i}"]),
            helper.make_node("Cast", [f"guard/any/{i}"], [f"guard/{i}"], to=TensorProto.BOOL),
        )
        graph.node.extend(steps)
        if found:
            graph.node.append(helper.make_node("Or", [found, f"guard/{i}"], [f"guard/or/{i}"]))
        found = f"guard/or/{i}" if found else f"guard/{i}"
    return found


def _guarded(graph: Proto, tensor: str, missing: str, kind: int, rank: int) -> str:
    """Add what makes the rows of a tensor NaN that have one in the input; return its name."""
    dtype = helper.tensor_dtype_to_np_dtype(kind)
    nan = _constant(graph, f"guard/nan_of/{tensor}", np.full(1, np.nan, dtype))
    shape = np.array([0] + [1] * (rank - 1), dtype=np.int64)
    shape_name = _constant(graph, f"guard/shape_of/{tensor}", shape)
    rows, kept = f"guard/rows_of/{tensor}", f"guard/kept/{tensor}"
    graph.node.append(helper.make_node("Reshape", [missing, shape_name], [rows]))
    graph.node.append(helper.make_node("Where", [rows, nan, tensor], [kept]))
    return kept


def _constant(graph: Proto, name: str, values: Array) -> str:
    graph.initializer.append(numpy_helper.from_array(values, name))
    return name


def rename(graph: Proto, names: Mapping[str, str]) -> None:
    """Rename tensors of a graph, and where graphs inside it read them."""
    if not names:
        return
    for value in (*graph.input, *graph.output, *graph.initializer, *graph.value_info):
        value.name = names.get(value.name, value.name)
    for node in graph.node:
        node.input[:] = [names.get(name, name) for name in node.input]
        node.output[:] = [names.get(name, name) for name in node.output]
        for attribute in node.attribute:
            for inner in (attribute.g, *attribute.graphs):
                rename(inner, names)


def other_names(names: Sequence[str], main: int, answer: Answer) -> dict[int, str]:
    """Return names for the outputs beside the main one, distinct from those of the answer."""
    taken, chosen = set(answer.roles), {}
    for i, name in enumerate(names):
        if i != main:
            free = name or f"output_{i}"
            while free in taken:
                free += "_"
            taken.add(free)
            chosen[i] = free
    return chosen


def main_output(names: Sequence[str], wanted: str, what: str) -> int:
    """Return the index of the output that answers: as asked for, or the first.

    Raises:
        ConversionError: there is none of that name.
    """
    if not wanted:
        return 0
    if wanted not in names:
        raise ConversionError(
            f"{what} has no output {wanted!r}",
            hint=f"source.main_output is one of {', '.join(names)}",
        )
    return list(names).index(wanted)


def _passed(source: str, target: str, kind: int, wanted: int) -> Proto:
    if kind == wanted:
        return helper.make_node("Identity", [source], [target])
    return helper.make_node("Cast", [source], [target], to=wanted)


def _outer(kind: int, name: str) -> int:
    if kind in DATATYPES:
        return kind
    try:
        return _OUTER[kind]
    except KeyError:
        raise ConversionError(
            f"{name!r} has the type {TensorProto.DataType.Name(kind)}; accepted are "
            f"{', '.join(DATATYPES.values())}",
            hint="cast it inside the model",
        ) from None


def _element(value: Proto) -> int:
    if not value.type.HasField("tensor_type"):
        raise ConversionError(
            f"{value.name!r} is a sequence or map, not a tensor",
            hint="end the network before that step",
        )
    return int(value.type.tensor_type.elem_type)


def _tensors(graph: Proto) -> set[str]:
    """Return the names of all tensors of a graph and of those inside its nodes."""
    names = {value.name for value in (*graph.input, *graph.initializer)}
    for node in graph.node:
        names.update(node.output)
        for attribute in node.attribute:
            for inner in (attribute.g, *attribute.graphs):
                names |= _tensors(inner)
    return names
