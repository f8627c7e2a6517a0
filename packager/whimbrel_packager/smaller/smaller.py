"""Smaller networks: the graph optimised, or the weights in int8 or float16.

Everything here is about one ONNX model and nothing else: no data but the rows it is calibrated
on, no quality. Three habits make the result fit for devices:

- What makes an answer of the network's numbers (softmax, label) stays in float32: in int8 the
  probabilities would not sum to one.
- A missing or infinite number gives no answer: int8 has neither and makes some number of it, so
  that it is taken out before the network, and NaN is put behind it.
- int8 weights have seven bits: with eight, sums saturate on processors without VNNI, and the same
  model answers differently there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from whimbrel_core.errors import ConversionError
from whimbrel_packager.sources.network_boundary import rename

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from whimbrel_packager.untyped import Proto

    Array = np.ndarray[Any, Any]

WEIGHTED = ("Conv", "ConvTranspose", "Gemm", "MatMul")
_STATIC = (
    *WEIGHTED,
    "Relu",
    "Clip",
    "MaxPool",
    "Add",
    "GlobalAveragePool",
    "AveragePool",
    "Gather",
)
_DYNAMIC = ("Gemm", "MatMul", "Gather")
_OWN = ("answer/", "guard/", "missing/")
_PORTABLE = ("", "ai.onnx.ml", "com.microsoft")
_FLOAT16_MAX, _FLOAT16_MIN = 65504.0, 5.97e-08


def optimised(source: Path, target: Path, level: str) -> Proto:
    """Return a model as onnxruntime optimises it, for any machine of its kind.

    Args:
        source: the model's file.
        target: where onnxruntime may write its own.
        level: "basic" or "extended".

    Raises:
        ConversionError: what it makes runs on some processors alone.
    """
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.graph_optimization_level = {
        "basic": ort.GraphOptimizationLevel.ORT_ENABLE_BASIC,
        "extended": ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED,
    }[level]
    options.optimized_model_filepath = str(target)
    options.log_severity_level = 4
    ort.InferenceSession(str(source), options, providers=["CPUExecutionProvider"])
    proto = onnx.load(target)
    odd = sorted({node.domain for node in proto.graph.node} - set(_PORTABLE))
    if odd:
        raise ConversionError(
            f"the optimised model uses {', '.join(odd)}, which not every processor has",
            hint='take graph = "basic" in [optimise]; a device optimises for itself when it loads',
        )
    return proto


def float16(proto: Proto) -> Proto:
    """Return a model with weights and sums in float16, its inputs, outputs and answer as before."""
    from onnxruntime.transformers import float16 as converter

    _name_nodes(proto)
    _infer(proto)
    kept = [node.name for node in proto.graph.node if _is_own(node)]
    made = converter.convert_float_to_float16(
        proto,
        keep_io_types=True,
        max_finite_val=_FLOAT16_MAX,
        min_positive_val=_FLOAT16_MIN,
        node_block_list=kept,
        op_block_list=[*converter.DEFAULT_OP_BLOCK_LIST, "IsNaN", "IsInf"],
    )
    _sort(made.graph)  # it puts its casts at the end
    return made


def int8(
    proto: Proto,
    folder: Path,
    *,
    calibration: Sequence[Mapping[str, Array]] | None,
    scales: Mapping[str, tuple[Array, Array]],
) -> Proto:
    """Return a model with int8 weights.

    Args:
        proto: the model; it is changed.
        folder: for files on the way.
        calibration: batches of inputs by name, whose ranges the activations get; None: they are
            quantised while the model runs, by what a batch holds.
        scales: (scale, zero point) by tensor, taken over from a predecessor.
    """
    from onnxruntime import quantization as q

    _keep_missing(proto)
    _name_nodes(proto)
    _infer(proto)
    kept = [node.name for node in proto.graph.node if _is_own(node)]
    source, target = folder / "float32.onnx", folder / "int8.onnx"
    onnx.save(proto, source)
    if calibration is None:
        q.quantize_dynamic(
            source, target, op_types_to_quantize=list(_DYNAMIC), weight_type=q.QuantType.QInt8,
            reduce_range=True, nodes_to_exclude=kept, extra_options={"MatMulConstBOnly": True},
        )  # fmt: skip
        return onnx.load(target)
    kinds = {np.dtype(np.int8): q.QuantType.QInt8, np.dtype(np.uint8): q.QuantType.QUInt8}
    overrides = {
        name: [{"quant_type": kinds[zero.dtype], "scale": scale, "zero_point": zero}]
        for name, (scale, zero) in scales.items()
    }
    q.quantize_static(
        source, target, _Rows(calibration), quant_format=q.QuantFormat.QDQ,
        op_types_to_quantize=list(_STATIC), activation_type=q.QuantType.QUInt8,
        weight_type=q.QuantType.QInt8, per_channel=False, reduce_range=True,
        nodes_to_exclude=kept, calibrate_method=q.CalibrationMethod.MinMax,
        extra_options={"TensorQuantOverrides": overrides} if overrides else {},
    )  # fmt: skip
    return onnx.load(target)


def scales_of(proto: Proto) -> dict[str, tuple[Array, Array]]:
    """Return (scale, zero point) by tensor of an int8 model, for a successor to take over."""
    held = {tensor.name: tensor for tensor in proto.graph.initializer}
    found = {}
    for name, tensor in held.items():
        base = name.removesuffix("_scale")
        zero = held.get(f"{base}_zero_point")
        if base != name and zero is not None and zero.data_type in _EIGHT_BITS:
            scale = numpy_helper.to_array(tensor)
            if scale.size == 1:
                found[base] = (scale.reshape(()), numpy_helper.to_array(zero).reshape(()))
    return found


def tidy(proto: Proto) -> None:
    """Leave out what optimisers declare and do not use, in place."""
    used = {node.domain for node in _nodes(proto.graph)} | {""}
    kept = [entry for entry in proto.opset_import if entry.domain in used]
    del proto.opset_import[:], proto.graph.value_info[:]
    proto.opset_import.extend(kept)


_EIGHT_BITS = (TensorProto.INT8, TensorProto.UINT8)


class _Rows:
    """Calibration rows as onnxruntime reads them."""

    def __init__(self, batches: Sequence[Mapping[str, Array]]) -> None:
        self._left = iter(batches)

    def get_next(self) -> dict[str, Array] | None:
        """Return the next batch, None after the last."""
        batch = next(self._left, None)
        return None if batch is None else dict(batch)

    def set_range(self, start_index: int, end_index: int) -> None:
        """Do nothing: all rows are read at once."""


def _keep_missing(proto: Proto) -> None:
    """Take out what is not finite, and put NaN into its rows of the float outputs, in place."""
    graph = proto.graph
    floats = [v for v in graph.input if v.type.tensor_type.elem_type == TensorProto.FLOAT]
    outputs = [v for v in graph.output if v.type.tensor_type.elem_type == TensorProto.FLOAT]
    if not floats or not outputs:
        return
    rename(graph, {v.name: f"network/{v.name}" for v in (*floats, *outputs)})
    for value in (*floats, *outputs):
        value.name = value.name.removeprefix("network/")
    inner = list(graph.node)
    del graph.node[:]

    def constant(name: str, values: Array) -> str:
        graph.initializer.append(numpy_helper.from_array(values, f"missing/{name}"))
        return f"missing/{name}"

    zero = constant("zero", np.zeros((), np.float32))
    nan = constant("nan", np.full((), np.nan, np.float32))
    found = ""
    for i, value in enumerate(floats):
        name, at = value.name, f"missing/at/{i}"
        sizes = [d.dim_value for d in value.type.tensor_type.shape.dim][1:]
        wide = int(np.prod(sizes))
        flat = constant(f"flat/{i}", np.array([0, wide], dtype=np.int64))
        ones = constant(f"ones/{i}", np.ones((wide, 1), np.float32))
        graph.node.extend(
            [
                helper.make_node("IsNaN", [name], [f"{at}/nan"]),
                helper.make_node("IsInf", [name], [f"{at}/infinite"]),
                helper.make_node("Or", [f"{at}/nan", f"{at}/infinite"], [at]),
                helper.make_node("Where", [at, zero, name], [f"network/{name}"]),
                helper.make_node("Cast", [at], [f"{at}/one"], to=TensorProto.FLOAT),
                helper.make_node("Reshape", [f"{at}/one", flat], [f"{at}/flat"]),
                helper.make_node("MatMul", [f"{at}/flat", ones], [f"{at}/count"]),
                helper.make_node("Greater", [f"{at}/count", zero], [f"{at}/any"]),
            ]
        )
        if found:
            graph.node.append(helper.make_node("Or", [found, f"{at}/any"], [f"{at}/or"]))
        found = f"{at}/or" if found else f"{at}/any"
    graph.node.extend(inner)
    for value in outputs:
        rank = len(value.type.tensor_type.shape.dim)
        shape = constant(f"rows/{value.name}", np.array([0] + [1] * (rank - 1), dtype=np.int64))
        rows = f"missing/rows_of/{value.name}"
        graph.node.append(helper.make_node("Reshape", [found, shape], [rows]))
        graph.node.append(
            helper.make_node("Where", [rows, nan, f"network/{value.name}"], [value.name])
        )


def _is_own(node: Proto) -> bool:
    return any(name.startswith(_OWN) for name in (*node.input, *node.output))


def _name_nodes(proto: Proto) -> None:
    for i, node in enumerate(proto.graph.node):
        node.name = f"node_{i}"


def _infer(proto: Proto) -> None:
    """Put the types and shapes of inner tensors into a model, in place."""
    inferred = onnx.shape_inference.infer_shapes(proto)
    del proto.graph.value_info[:]
    proto.graph.value_info.extend(inferred.graph.value_info)


def _sort(graph: Proto) -> None:
    """Put the nodes of a graph in an order in which each comes after what it reads, in place."""
    made = {name: i for i, node in enumerate(graph.node) for name in node.output if name}
    nodes, order = list(graph.node), []
    placed: set[int] = set()
    for first in range(len(nodes)):
        waiting = [first]
        while waiting:
            at = waiting[-1]
            read = {made[n] for node in _within(nodes[at]) for n in node.input if n in made}
            missing = sorted(read - placed - {at})
            if missing and at not in placed:
                waiting.extend(missing)
                continue
            waiting.pop()
            if at not in placed:
                placed.add(at)
                order.append(nodes[at])
    del graph.node[:]
    graph.node.extend(order)


def _within(node: Proto) -> list[Proto]:
    """Return a node and those of the graphs inside it."""
    inner = [n for a in node.attribute if a.HasField("g") for n in _nodes(a.g)]
    return [node, *inner]


def _nodes(graph: Proto) -> list[Proto]:
    found = list(graph.node)
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("g"):
                found += _nodes(attribute.g)
    return found
