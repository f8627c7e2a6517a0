"""Canonical ONNX: the same model gives the same bytes, and nothing of the build machine.

Converters put random names (a uuid as the graph's name), unordered lists (operator sets), their
own name and version, and sometimes paths and source lines of the build machine into a model.
None of it changes an answer; all of it is taken out.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import onnx

from whimbrel_core.errors import ConversionError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from whimbrel_packager.untyped import Proto

GRAPH_NAME = "model"
MAX_MODEL_BYTES = 2_000_000_000  # a protobuf message ends at 2 GiB
DATATYPES = {
    onnx.TensorProto.FLOAT: "FP32",
    onnx.TensorProto.DOUBLE: "FP64",
    onnx.TensorProto.UINT8: "UINT8",
    onnx.TensorProto.INT8: "INT8",
    onnx.TensorProto.UINT16: "UINT16",
    onnx.TensorProto.INT16: "INT16",
    onnx.TensorProto.INT32: "INT32",
    onnx.TensorProto.INT64: "INT64",
    onnx.TensorProto.BOOL: "BOOL",
    onnx.TensorProto.STRING: "BYTES",
}
_SMALL = (
    "runtimes compute half floats in float32 where they can, so that no answer could be proven: "
    'pack the float32 model; [optimise] precision = "float16" makes it small after that'
)
_HINTS = {onnx.TensorProto.FLOAT16: _SMALL, onnx.TensorProto.BFLOAT16: _SMALL}


def canonicalise(model: Proto) -> bytes:
    """Return the canonical bytes of a `onnx.ModelProto`, which is changed in place.

    Raises:
        ConversionError: it is not valid ONNX, or too large for one file.
    """
    model.producer_name = model.producer_version = model.domain = model.doc_string = ""
    model.model_version = 0
    del model.metadata_props[:]
    _sort_opsets(model)
    for graph in _graphs(model.graph):
        graph.name = GRAPH_NAME
        _strip(graph)
        del graph.quantization_annotation[:]
    for function in model.functions:
        function.doc_string = ""
        del function.metadata_props[:]
        for node in function.node:
            _strip_node(node)
    if model.ByteSize() > MAX_MODEL_BYTES:
        raise ConversionError(
            f"the model has {model.ByteSize()} bytes, {MAX_MODEL_BYTES} fit one file",
            hint="quantise or prune it",
        )
    data: bytes = model.SerializeToString(deterministic=True)
    try:
        onnx.checker.check_model(data)
    except onnx.checker.ValidationError as error:
        first = str(error).splitlines()[0]
        raise ConversionError(f"the model is not valid ONNX: {first}") from error
    return data


def operators(model: Proto) -> dict[str, int]:
    """Return how often each operator is used, by ``domain.name`` (the default domain bare)."""
    counts: dict[str, int] = {}
    for graph in _graphs(model.graph):
        for node in graph.node:
            name = f"{node.domain}.{node.op_type}" if node.domain else node.op_type
            counts[name] = counts.get(name, 0) + 1
    return dict(sorted(counts.items()))


def signature(values: Proto, *, what: str) -> list[tuple[str, str, tuple[int, ...]]]:
    """Return (name, OIP datatype, shape with -1 for the batch) of a graph's inputs or outputs.

    Raises:
        ConversionError: a value that is no tensor, of a type without an OIP name, or whose batch
            dimension is fixed.
    """
    found = []
    for value in values:
        if not value.type.HasField("tensor_type"):
            raise ConversionError(
                f"{what} {value.name!r} is a sequence or map, not a tensor",
                hint="export it without ZipMap (options={'zipmap': False}); it also costs 70×",
            )
        kind = value.type.tensor_type.elem_type
        if kind not in DATATYPES:
            raise ConversionError(
                f"{what} {value.name!r} has the type {onnx.TensorProto.DataType.Name(kind)}; "
                f"accepted are {', '.join(DATATYPES.values())}",
                hint=_HINTS.get(kind, "cast it inside the model"),
            )
        dims = value.type.tensor_type.shape.dim
        shape = tuple(d.dim_value if d.HasField("dim_value") else -1 for d in dims)
        if not shape or shape[0] != -1:
            raise ConversionError(
                f"{what} {value.name!r} has the fixed shape {shape}; the first dimension must be "
                "the batch",
                hint="export it with a dynamic first dimension",
            )
        found.append((value.name, DATATYPES[kind], shape))
    return found


def _sort_opsets(model: Proto) -> None:
    used = {"" if entry.domain == "ai.onnx" else entry.domain: 0 for entry in model.opset_import}
    for entry in model.opset_import:
        domain = "" if entry.domain == "ai.onnx" else entry.domain
        used[domain] = max(used[domain], entry.version)
    del model.opset_import[:]
    model.opset_import.extend(onnx.helper.make_opsetid(d, v) for d, v in sorted(used.items()))


def _graphs(graph: Proto) -> Iterator[Any]:
    """Yield a graph and those inside its nodes (branches, loop bodies)."""
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("g"):
                yield from _graphs(attribute.g)
            for inner in attribute.graphs:
                yield from _graphs(inner)


def _strip(graph: Proto) -> None:
    graph.doc_string = ""
    del graph.metadata_props[:]
    for node in graph.node:
        _strip_node(node)
    for value in (*graph.input, *graph.output, *graph.value_info, *graph.initializer):
        value.doc_string = ""
        del value.metadata_props[:]


def _strip_node(node: Proto) -> None:
    node.doc_string = ""
    # torch writes absolute paths and source lines of the build machine here.
    del node.metadata_props[:]
    for attribute in node.attribute:
        attribute.doc_string = ""
