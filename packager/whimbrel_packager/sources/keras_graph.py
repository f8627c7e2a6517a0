"""From a function of TensorFlow to ONNX: frozen, and with what tf2onnx lacks put in.

tf2onnx leaves captured constants (of Normalization) and lookup tables (of StringLookup) as inputs
that nobody feeds, and knows no Erfc (of an exact GELU) and no Bucketize (of Discretization); what
it does not know it hands on under TensorFlow's name. Constants are frozen here, the four operators
are given a form in ONNX, and what is still foreign afterwards is refused by name.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from whimbrel_core.errors import ConversionError
from whimbrel_packager.conversion.canonical import MAX_MODEL_BYTES
from whimbrel_packager.sources.foreign import quiet, reason
from whimbrel_packager.sources.network_boundary import OPSET

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from whimbrel_packager.untyped import Proto

    Array = np.ndarray[Any, Any]
    Graph = Any
    """A graph, node or function of TensorFlow or tf2onnx, neither of which ships types."""

_LOOKUP, _ERFC, _BUCKETS = "LookupTableFindV2", "Erfc", "Bucketize"
_NAMES = {_LOOKUP: "lookup table as LabelEncoder", _ERFC: "Erfc as 1 − Erf",
          _BUCKETS: "Bucketize as comparisons"}  # fmt: skip


def convert(
    function: Graph, names: Sequence[str], specs: Sequence[Graph], what: str
) -> tuple[Proto, tuple[str, ...]]:
    """Return a function as ONNX, and what tf2onnx had to be helped with.

    Args:
        function: with its concrete function as ``concrete``.
        names: of its inputs, in the order wanted.
        specs: their types and shapes.
        what: names it in messages.

    Raises:
        ConversionError: it uses operators that have no form in ONNX.
    """
    import tf2onnx
    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

    concrete = function.concrete
    with quiet():
        frozen = convert_variables_to_constants_v2(concrete, lower_control_flow=False)
    tables = _tables(concrete)
    definition = frozen.graph.as_graph_def()
    if definition.ByteSize() > MAX_MODEL_BYTES:
        raise ConversionError(
            f"{what} has {definition.ByteSize()} bytes, {MAX_MODEL_BYTES} fit one file",
            hint="quantise or prune it",
        )
    _place_tables(definition, tables)
    own = [t for t in frozen.inputs if t.op.name not in tables]
    order = _order(own, names, specs)
    used: dict[str, None] = {}
    handlers: dict[str, tuple[Callable[..., None], list[object]]] = {
        _ERFC: (_noted(used, _erfc), []),
        _BUCKETS: (_noted(used, _bucketize), []),
        _LOOKUP: (_noted(used, _lookup(tables)), []),
    }
    try:
        with quiet():
            proto, _ = tf2onnx.convert.from_graph_def(
                definition,
                name="model",
                input_names=[own[i].name for i in order],
                output_names=[tensor.name for tensor in frozen.outputs],
                opset=OPSET,
                custom_op_handlers=handlers,
            )
    except MemoryError:
        raise
    except Exception as error:
        raise ConversionError(
            f"{what} cannot be converted: {reason(error)}",
            hint="leave out or replace the layer that the message names",
        ) from error
    _require_known(proto, what)
    return proto, tuple(_NAMES[op] for op in used)


def _order(own: Sequence[Graph], names: Sequence[str], specs: Sequence[Graph]) -> list[int]:
    """Return the index of each input's tensor: by its name in the graph, else as they stand."""
    known = {tensor.op.name: i for i, tensor in enumerate(own)}
    for wanted in (names, [spec.name for spec in specs]):
        if all(name in known for name in wanted):
            return [known[name] for name in wanted]
    return list(range(len(own)))


def _tables(concrete: Graph) -> dict[str, tuple[Array, Array]]:
    """Return keys and values of the lookup tables that a function captures, by placeholder."""
    import tensorflow as tf

    found = {}
    types: dict[tuple[int, int], None] = {}
    definition: Graph = concrete.graph.as_graph_def()
    for nodes in (definition.node, *(f.node_def for f in definition.library.function)):
        for node in nodes:
            if node.op == _LOOKUP:
                types[node.attr["Tin"].type, node.attr["Tout"].type] = None
    for tensor, placeholder in concrete.graph.captures:
        if tensor.dtype != tf.resource:
            continue
        for keys, values in types:
            try:
                made = tf.raw_ops.LookupTableExportV2(
                    table_handle=tensor, Tkeys=tf.DType(keys), Tvalues=tf.DType(values)
                )
            except tf.errors.OpError:
                continue  # a variable, or a table of other types
            found[placeholder.op.name] = (made.keys.numpy(), made.values.numpy())
            break
    return found


def _place_tables(definition: Graph, tables: Mapping[str, tuple[Array, Array]]) -> None:
    """Make the placeholders of tables what tf2onnx takes a table to be."""
    import tensorflow as tf

    for node in definition.node:
        if node.name in tables:
            node.op = "HashTableV2"
            for name in list(node.attr):
                del node.attr[name]
            node.attr["shared_name"].s = node.name.encode()
            for name, values in zip(("key_dtype", "value_dtype"), tables[node.name], strict=True):
                node.attr[name].type = tf.as_dtype(values.dtype).as_datatype_enum


def _noted(used: dict[str, None], handler: Callable[..., None]) -> Callable[..., None]:
    def noted(graph: Graph, node: Graph, _name: str, _args: object) -> None:
        used[node.type] = None
        handler(graph, node)

    return noted


def _erfc(graph: Graph, node: Graph) -> None:
    kind, shape = graph.get_dtype(node.output[0]), graph.get_shape(node.output[0])
    given, made = node.input[0], node.output
    graph.remove_node(node.name)
    dtype = {1: np.float32, 11: np.float64}[kind]
    one = graph.make_const(f"{node.name}/one", np.ones((), dtype)).output[0]
    erf = graph.make_node("Erf", [given], shapes=[shape], dtypes=[kind]).output[0]
    graph.make_node("Sub", [one, erf], name=node.name, outputs=made, shapes=[shape], dtypes=[kind])


def _bucketize(graph: Graph, node: Graph) -> None:
    """Count the boundaries that are not above: NaN, which nothing is above, goes to the last."""
    from onnx import TensorProto

    edges = np.array(node.get_attr("boundaries").floats, dtype=np.float32)
    given, made, shape = node.input[0], node.output, graph.get_shape(node.output[0])
    kind = graph.get_dtype(given)
    graph.remove_node(node.name)

    def step(op: str, inputs: list[str], made_of: int, **attributes: int) -> str:
        done = graph.make_node(op, inputs, attr=attributes, dtypes=[made_of], shapes=[None])
        return str(done.output[0])

    if kind != TensorProto.FLOAT:
        given = step("Cast", [given], TensorProto.FLOAT, to=TensorProto.FLOAT)
    last = graph.make_const(f"{node.name}/axis", np.array([-1], dtype=np.int64)).output[0]
    wide = step("Unsqueeze", [given, last], TensorProto.FLOAT)
    bounds = graph.make_const(f"{node.name}/boundaries", edges).output[0]
    above = step("Less", [wide, bounds], TensorProto.BOOL)
    reached = step("Not", [above], TensorProto.BOOL)
    counted = step("Cast", [reached], TensorProto.INT32, to=TensorProto.INT32)
    graph.make_node("ReduceSum", [counted, last], name=node.name, outputs=made, shapes=[shape],
                    dtypes=[TensorProto.INT32], attr={"keepdims": 0})  # fmt: skip


def _lookup(tables: Mapping[str, tuple[Array, Array]]) -> Callable[[Graph, Graph], None]:
    def handle(graph: Graph, node: Graph) -> None:
        table = node.inputs[0]
        while table.type == "Identity":
            table = table.inputs[0]
        shared = table.get_attr_value("shared_name")
        keys, values = tables[shared.decode() if isinstance(shared, bytes) else shared]
        default = node.inputs[2].get_tensor_value(as_list=False).reshape(-1)[0]
        order = np.argsort(keys)  # tables have none; files have to
        kind, shape = graph.get_dtype(node.output[0]), graph.get_shape(node.output[0])
        given, made = node.input[1], node.output
        graph.remove_node(node.name)
        attributes = {
            **_listed("keys", keys[order]),
            **_listed("values", values[order]),
            **{name.replace("values_", "default_").removesuffix("s"): listed[0]
               for name, listed in _listed("values", np.array([default])).items()},
        }  # fmt: skip
        graph.make_node(
            "LabelEncoder", [given], domain="ai.onnx.ml", name=node.name, outputs=made,
            attr=attributes, shapes=[shape], dtypes=[kind],
        )  # fmt: skip

    return handle


def _listed(what: str, values: Array) -> dict[str, list[Any]]:
    if values.dtype.kind in "iu":
        return {f"{what}_int64s": [int(value) for value in values]}
    if values.dtype.kind == "f":
        return {f"{what}_floats": [float(value) for value in values]}
    return {f"{what}_strings": [v if isinstance(v, bytes) else str(v).encode() for v in values]}


def _require_known(proto: Proto, what: str) -> None:
    """Refuse what tf2onnx handed on under TensorFlow's name."""
    import onnx

    unknown: dict[str, None] = {}
    for graph in _graphs(proto.graph):
        for node in graph.node:
            if node.domain in ("", "ai.onnx") and not onnx.defs.has(node.op_type):
                unknown[node.op_type] = None
            elif node.domain not in ("", "ai.onnx", "ai.onnx.ml"):
                unknown[f"{node.domain}.{node.op_type}"] = None
    if unknown:
        raise ConversionError(
            f"{what} uses the operator {', '.join(unknown)}, which has no form in ONNX",
            hint="leave out or replace the layer with it, e.g. prepare the data before the model",
        )


def _graphs(graph: Proto) -> list[Proto]:
    found = [graph]
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("g"):
                found += _graphs(attribute.g)
    return found
