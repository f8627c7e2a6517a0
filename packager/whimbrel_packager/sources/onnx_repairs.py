"""What exporters leave in ONNX files that no device can be served with, taken out where it can be."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from onnx import TensorProto, helper

from whimbrel_core.errors import ConversionError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from whimbrel_packager.untyped import Proto

    Array = np.ndarray[Any, Any]
    Session = Any  # onnxruntime ships no types

MAX_EXTERNAL_BYTES = 1_900_000_000
_KNOWN = ("", "ai.onnx", "ai.onnx.ml", "com.microsoft", "ai.onnx.preview.training")


def require_known_domains(proto: Proto, what: str) -> None:
    """Refuse operators that only somebody's own runtime has.

    Raises:
        ConversionError: names them.
    """
    own = {(function.domain, function.name) for function in proto.functions}
    odd = {
        f"{node.domain}.{node.op_type}": None
        for node in _nodes(proto.graph)
        if node.domain not in _KNOWN and (node.domain, node.op_type) not in own
    }
    if odd:
        raise ConversionError(
            f"{what} uses operators that onnxruntime does not have: {', '.join(list(odd)[:5])}",
            hint="export it without them: a device runs onnxruntime as it is",
        )


def take_out_zipmaps(proto: Proto) -> tuple[str, ...]:
    """Make outputs of maps those of the probabilities in them, in place; return their classes.

    A map per row costs 70 times as much, and is no tensor.
    """
    graph, classes = proto.graph, ()
    for node in [n for n in graph.node if n.op_type == "ZipMap"]:
        value = next((v for v in graph.output if v.name == node.output[0]), None)
        if value is None:
            continue
        for attribute in node.attribute:
            words = [word.decode() for word in attribute.strings]
            classes = tuple(words) or tuple(map(str, attribute.ints)) or classes
        graph.node.remove(node)
        # The output keeps its name: it is what callers know.
        graph.node.append(helper.make_node("Identity", [node.input[0]], [value.name]))
        shape = [None, len(classes)]
        value.CopyFrom(helper.make_tensor_value_info(value.name, TensorProto.FLOAT, shape))
    return classes


def free_batch(proto: Proto) -> tuple[int, bytes]:
    """Free a batch dimension that all inputs and outputs have fixed alike, in place.

    Returns:
        The batch size, with the file as it was; 0 with nothing when it is free already. Whether
        the inside of the graph goes along is for the proof to find out.
    """
    values = [*proto.graph.input, *proto.graph.output]
    dims = [v.type.tensor_type.shape.dim for v in values if v.type.HasField("tensor_type")]
    sizes = {d[0].dim_value if d and d[0].HasField("dim_value") else 0 for d in dims}
    if len(dims) != len(values) or len(sizes) != 1 or not all(len(d) > 1 for d in dims):
        return 0, b""
    size = sizes.pop()
    if not size:
        return 0, b""
    given: bytes = proto.SerializeToString()
    for dim in dims:
        dim[0].dim_param = "n"
    del proto.graph.value_info[:]
    return size, given


def in_batches(
    session: Session, names: list[str], fed: Mapping[str, Array], size: int
) -> list[Array]:
    """Run rows through a model that takes ``size`` of them at a time; the last batch is filled."""
    rows = len(next(iter(fed.values())))
    parts = []
    for at in range(0, rows, size):
        index = np.minimum(np.arange(at, at + size), rows - 1)
        parts.append(session.run(names, {name: array[index] for name, array in fed.items()}))
    return [np.concatenate(column)[:rows] for column in zip(*parts, strict=True)]


def inline(proto: Proto, path: Path) -> None:
    """Take external data into the model. Only files beside the model are opened."""
    total = 0
    for tensor in _tensors(proto.graph):
        if tensor.data_location != onnx.TensorProto.EXTERNAL:
            continue
        entries = {entry.key: entry.value for entry in tensor.external_data}
        location = PurePosixPath(entries.get("location", ""))
        folder = path.resolve().parent
        file = (folder / location).resolve()
        if location.is_absolute() or not file.is_relative_to(folder) or not location.name:
            raise ConversionError(
                f"{path.name}: tensor {tensor.name!r} is stored in {str(location)!r}, outside the "
                "model's folder",
                hint="export the model with its weights inside",
            )
        if not file.is_file():
            raise ConversionError(
                f"{path.name}: tensor {tensor.name!r} is stored in {str(location)!r}, which is "
                "not there",
                hint="put that file beside the model, or export the weights inside",
            )
        offset, length = int(entries.get("offset", 0)), int(entries.get("length", 0))
        with file.open("rb") as stream:
            stream.seek(offset)
            data = stream.read(length or MAX_EXTERNAL_BYTES)
        total += len(data)
        if (length and len(data) != length) or total > MAX_EXTERNAL_BYTES:
            raise ConversionError(
                f"{path.name}: the external data of {tensor.name!r} is cut short or too large",
                hint="export the model again",
            )
        tensor.raw_data = data
        tensor.data_location = onnx.TensorProto.DEFAULT
        del tensor.external_data[:]


def _tensors(graph: Proto) -> Proto:
    yield from graph.initializer
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("t"):
                yield attribute.t
            yield from attribute.tensors
            if attribute.HasField("g"):
                yield from _tensors(attribute.g)
            for inner in attribute.graphs:
                yield from _tensors(inner)


def _nodes(graph: Proto) -> list[Proto]:
    found = list(graph.node)
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("g"):
                found += _nodes(attribute.g)
    return found
