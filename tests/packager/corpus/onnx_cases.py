"""Raw ONNX."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from tests.packager.corpus.case import Case, Given

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    Array = np.ndarray[Any, Any]
    Proto = Any

SOURCE = "Raw ONNX"
WEIGHTS = np.random.default_rng(4).normal(size=(4, 3)).astype(np.float32)
FILTER = np.random.default_rng(5).normal(size=(3, 3, 3, 3)).astype(np.float32)
FLOAT = TensorProto.FLOAT


class Asked(NamedTuple):
    """What a model computes, written once more in numpy."""

    numbers: Callable[..., Array]
    layer: str = ""
    classes: tuple[str, ...] = ()


def ask(asked: Asked, rows: Any) -> dict[str, Any]:  # noqa: ANN401 - as a case has them
    """Return the answers of the numpy form; a missing number is no row of a network."""
    given = list(rows.values()) if isinstance(rows, dict) else [np.asarray(rows)]
    if any(np.isnan(values.astype(np.float64)).any() for values in given):
        raise ValueError("a number is missing")
    numbers = asked.numbers(*(values.astype(np.float64) for values in given))
    if not asked.layer:
        return {"value": numbers}
    if asked.layer == "softmax":
        numbers = np.exp(numbers - numbers.max(1, keepdims=True))
        numbers /= numbers.sum(1, keepdims=True)
    answers = {"probabilities": numbers}
    if asked.classes:
        answers["label"] = np.array(asked.classes)[numbers.argmax(1)]
    return answers


def file(
    nodes: Sequence[Proto],
    inputs: Sequence[tuple[str, int, Sequence[int | str]]],
    outputs: Sequence[tuple[str, int, Sequence[int | str]]],
    *,
    weights: Sequence[Proto] = (),
    opset: int = 18,
    ir: int = 9,
    domains: Sequence[Proto] = (),
) -> Proto:
    graph = helper.make_graph(
        list(nodes),
        "g",
        [helper.make_tensor_value_info(*value) for value in inputs],
        [helper.make_tensor_value_info(*value) for value in outputs],
        [numpy_helper.from_array(WEIGHTS, "w"), *weights],
    )
    imports = [helper.make_opsetid("", opset), *domains]
    return helper.make_model(graph, opset_imports=imports, ir_version=ir)


def product(
    *, batch: int | str = "n", opset: int = 18, ir: int = 9, last: str = "Softmax"
) -> Proto:
    nodes = [helper.make_node("MatMul", ["x", "w"], ["z"])]
    end = {"axis": 1} if last == "Softmax" else {}
    nodes.append(helper.make_node(last, ["z"], ["p"], **end))  # type: ignore[arg-type]
    shape = [("x", FLOAT, [batch, 4])], [("p", FLOAT, [batch, 3])]
    return file(nodes, *shape, opset=opset, ir=ir)


def rows(*shape: int, rows: int = 100) -> Array:
    return np.random.default_rng(3).normal(size=(rows, *shape)).astype(np.float32)


def times(x: Array) -> Array:
    return np.asarray(x @ WEIGHTS)


def given(
    proto: Proto, asked: Asked, data: object = None, **options: object
) -> Callable[[Path], Given]:
    return lambda _folder: Given(proto, rows(4) if data is None else data, options, asked)


def external(folder: Path) -> Given:
    path = folder / "model.onnx"
    onnx.save(product(), path, save_as_external_data=True, location="weights.bin", size_threshold=0)
    return Given(path, rows(4), {}, Asked(times, "softmax"))


def escaping(folder: Path) -> Given:
    (folder / "inside").mkdir()
    done = external(folder / "inside")
    proto = onnx.load(done.model, load_external_data=False)  # type: ignore[arg-type]
    proto.graph.initializer[0].external_data[0].value = "../weights.bin"
    (folder / "inside/weights.bin").rename(folder / "weights.bin")
    onnx.save(proto, folder / "inside/model.onnx")
    return done


def convolved(image: Array) -> Array:
    windows = np.lib.stride_tricks.sliding_window_view(image, (3, 3), axis=(2, 3))
    return np.asarray(np.einsum("nchwij,kcij->nk", windows, FILTER) / windows.shape[2] ** 2)


def branch(name: str, operator: str) -> Proto:
    return helper.make_graph(
        [helper.make_node(operator, ["z"], [name])],
        name,
        [],
        [helper.make_tensor_value_info(name, FLOAT, None)],
    )


POOLED = file(
    [
        helper.make_node("Conv", ["image", "f"], ["c"]),
        helper.make_node("GlobalAveragePool", ["c"], ["g"]),
        helper.make_node("Flatten", ["g"], ["out"]),
    ],
    [("image", FLOAT, ["n", 3, 6, 6])],
    [("out", FLOAT, ["n", 3])],
    weights=[numpy_helper.from_array(FILTER, "f")],
)
TWO = file(
    [
        helper.make_node("MatMul", ["a", "w"], ["z"]),
        helper.make_node("Add", ["z", "b"], ["sum"]),
        helper.make_node("Neg", ["b"], ["neg"]),
    ],
    [("a", FLOAT, ["n", 4]), ("b", FLOAT, ["n", 3])],
    [("neg", FLOAT, ["n", 3]), ("sum", FLOAT, ["n", 3])],
)
ZIPPED = file(
    [
        helper.make_node("MatMul", ["x", "w"], ["z"]),
        helper.make_node("Softmax", ["z"], ["p"], axis=1),
        helper.make_node("ArgMax", ["p"], ["best"], axis=1, keepdims=0),
        helper.make_node("Gather", ["names", "best"], ["label"]),
        helper.make_node("ZipMap", ["p"], ["shares"], domain="ai.onnx.ml",
                         classlabels_strings=["a", "b", "c"]),
    ],
    [("x", FLOAT, ["n", 4])],
    [("label", TensorProto.STRING, ["n"]), ("shares", FLOAT, ["n", 3])],
    weights=[numpy_helper.from_array(np.array(["a", "b", "c"], dtype=object), "names")],
    domains=[helper.make_opsetid("ai.onnx.ml", 3)],
)  # fmt: skip
_MAPS = helper.make_sequence_type_proto(
    helper.make_map_type_proto(TensorProto.STRING, helper.make_tensor_type_proto(FLOAT, None))
)
ZIPPED.graph.output[1].type.CopyFrom(_MAPS)
LISTED = file(
    [helper.make_node("SequenceConstruct", ["x", "x"], ["list"])],
    [("x", FLOAT, ["n", 4])],
    [("list", FLOAT, ["n", 4])],
)
LISTED.graph.output[0].type.CopyFrom(
    helper.make_sequence_type_proto(helper.make_tensor_type_proto(FLOAT, None))
)
CHOSEN = file(
    [
        helper.make_node("MatMul", ["x", "w"], ["z"]),
        helper.make_node("ReduceSum", ["one"], ["total"], keepdims=0),
        helper.make_node("Greater", ["total", "zero"], ["which"]),
        helper.make_node("If", ["which"], ["out"], then_branch=branch("t", "Tanh"),
                         else_branch=branch("e", "Neg")),
    ],
    [("x", FLOAT, ["n", 4])],
    [("out", FLOAT, ["n", 3])],
    weights=[numpy_helper.from_array(np.ones(2, np.float32), "one"),
             numpy_helper.from_array(np.zeros((), np.float32), "zero")],
)  # fmt: skip
RESHAPED = file(
    [
        helper.make_node("Reshape", ["x", "shape"], ["wide"]),
        helper.make_node("MatMul", ["wide", "w"], ["deep"]),
        helper.make_node("Reshape", ["deep", "back"], ["out"]),
    ],
    [("x", FLOAT, [2, 4])],
    [("out", FLOAT, [2, 3])],
    weights=[numpy_helper.from_array(np.array([2, 1, 4]), "shape"),
             numpy_helper.from_array(np.array([2, 3]), "back")],
)  # fmt: skip
TOKENS = file(
    [
        helper.make_node("Gather", ["table", "words"], ["found"]),
        helper.make_node("ReduceMean", ["found", "axis"], ["out"], keepdims=0),
    ],
    [("words", TensorProto.INT64, ["n", 6])],
    [("out", FLOAT, ["n", 3])],
    weights=[numpy_helper.from_array(rows(3, rows=20), "table"),
             numpy_helper.from_array(np.array([1]), "axis")],
)  # fmt: skip
OWN = file(
    [helper.make_node("Twist", ["x"], ["out"], domain="somebody.own")],
    [("x", FLOAT, ["n", 4])],
    [("out", FLOAT, ["n", 4])],
    domains=[helper.make_opsetid("somebody.own", 1)],
)
PIXELS = np.random.default_rng(6).integers(0, 256, (40, 6, 6, 3), dtype=np.uint8)
_SCALED = [
    helper.make_node("Cast", ["pixels"], ["floats"], to=FLOAT),
    helper.make_node("Mul", ["floats", "scale"], ["scaled"]),
    helper.make_node("Transpose", ["scaled"], ["image"], perm=[0, 3, 1, 2]),
    *list(POOLED.graph.node),
]


def bytewise(*, batch: int | str = "n", quantised: bool = False) -> Proto:
    """Return a network of images as cameras and TFLite give them: uint8, channels last."""
    weights = [numpy_helper.from_array(FILTER, "f"),
               numpy_helper.from_array(np.array(1 / 255, np.float32), "scale"),
               numpy_helper.from_array(np.array(0, np.uint8), "zero")]  # fmt: skip
    first = helper.make_node("DequantizeLinear", ["pixels", "scale", "zero"], ["scaled"])
    return file(
        [first, *_SCALED[2:]] if quantised else _SCALED,
        [("pixels", TensorProto.UINT8, [batch, 6, 6, 3])],
        [("out", FLOAT, [batch, 3])],
        weights=weights,
    )


def scaled(pixels: Array) -> Array:
    return convolved(pixels.transpose(0, 3, 1, 2) / 255)


_KINDS = {"a": np.uint8, "b": np.int8, "c": np.uint16, "d": np.int16}
SMALL = file(
    [
        *(helper.make_node("Cast", [name], [f"{name}1"], to=FLOAT) for name in _KINDS),
        helper.make_node("Sum", [f"{name}1" for name in _KINDS], ["value"]),
    ],
    [(name, helper.np_dtype_to_tensor_dtype(np.dtype(kind)), ["n", 1])
     for name, kind in _KINDS.items()],
    [("value", FLOAT, ["n", 1])],
)  # fmt: skip
BYTES_WIDE = file(
    [
        helper.make_node("Cast", ["x"], ["floats"], to=FLOAT),
        helper.make_node("MatMul", ["floats", "w"], ["out"]),
    ],
    [("x", TensorProto.UINT8, ["n", 4])],
    [("out", FLOAT, ["n", 3])],
)
HALF = file(
    [helper.make_node("MatMul", ["x", "w16"], ["out"])],
    [("x", TensorProto.FLOAT16, ["n", 4])],
    [("out", TensorProto.FLOAT16, ["n", 3])],
    weights=[numpy_helper.from_array(WEIGHTS.astype(np.float16), "w16")],
)
LONG = file(
    [
        helper.make_node("Cast", ["x"], ["floats"], to=FLOAT),
        helper.make_node("MatMul", ["floats", "w"], ["out"]),
    ],
    [("x", TensorProto.UINT64, ["n", 4])],
    [("out", FLOAT, ["n", 3])],
)


def whole(kind: type, *shape: int, rows: int = 60) -> Array:
    ends = np.iinfo(kind)
    return np.random.default_rng(7).integers(ends.min, ends.max, (rows, *shape), dtype=kind)


RANDOM = file(
    [
        helper.make_node("RandomNormalLike", ["x"], ["noise"]),
        helper.make_node("Add", ["x", "noise"], ["y"]),
        helper.make_node("MatMul", ["y", "w"], ["out"]),
    ],
    [("x", FLOAT, ["n", 4])],
    [("out", FLOAT, ["n", 3])],
)

CASES = [
    Case("a matrix and a softmax", given(product(), Asked(times, "softmax"))),
    Case("operator set 9", given(product(opset=9, ir=4), Asked(times, "softmax"))),
    Case("a newer file format than needed", given(product(ir=11), Asked(times, "softmax"))),
    Case(
        "logits, named",
        given(product(last="Identity"), Asked(times, "softmax", ("a", "b", "c")),
              output="logits", classes=("a", "b", "c")),
    ),
    Case(
        "a frozen batch",
        given(product(batch=5), Asked(times, "softmax")),
        rewrites=("batch dimension freed",),
    ),
    Case("external data", external),
    Case("images", given(POOLED, Asked(convolved), {"image": rows(3, 6, 6, rows=40)},
                         output="value")),
    Case("two matrices", given(TWO, Asked(lambda a, b: times(a) + b), {"a": rows(4), "b": rows(3)},
                               output="value", main_output="sum")),
    Case("whole numbers as ids",
         given(TOKENS, Asked(lambda words: rows(3, rows=20)[words.astype(int)].mean(1)),
               {"words": np.random.default_rng(3).integers(0, 20, (80, 6))}, output="value")),
    Case("images of bytes", given(bytewise(), Asked(scaled), {"pixels": PIXELS}, output="value")),
    Case("images of bytes, dequantised",
         given(bytewise(quantised=True), Asked(scaled), {"pixels": PIXELS}, output="value")),
    Case("images of bytes, one at a time",
         given(bytewise(batch=1), Asked(scaled), {"pixels": PIXELS}, output="value"),
         rewrites=("batch dimension freed",)),
    Case("images of bytes, given as floats",
         given(bytewise(), Asked(scaled), {"pixels": PIXELS / 255}, output="value"),
         refused="input.column", says="the model takes UINT8: whole numbers from 0 to 255"),
    Case("columns of 8 and 16 bits",
         given(SMALL, Asked(lambda columns: columns.sum(1, keepdims=True)),
               {name: whole(kind) for name, kind in _KINDS.items()}, task="regression")),
    Case("a column beyond 8 bits",
         given(SMALL, Asked(times), {name: whole(np.int16) for name in _KINDS}, task="regression"),
         refused="input.column", says="and the model takes UINT8"),
    Case("a matrix of bytes", given(BYTES_WIDE, Asked(times), whole(np.uint8, 4), output="value")),
    Case("half floats", given(HALF, Asked(times), rows(4), output="value"),
         refused="conversion.failed", says="has the type FLOAT16"),
    Case("integers without a name", given(LONG, Asked(times), whole(np.int16, 4), output="value"),
         refused="conversion.failed", says="has the type UINT64"),
    Case("ZipMap", given(ZIPPED, Asked(times, "softmax", ("a", "b", "c"))),
         rewrites=("ZipMap taken out",)),
    Case("control flow", given(CHOSEN, Asked(lambda x: np.tanh(times(x))), output="value")),
    Case("external data outside the folder", escaping, refused="conversion.failed",
         says="outside the model's folder"),
    Case("a batch size inside the graph", given(RESHAPED, Asked(times), output="value"),
         refused="conversion.runtime", says="cannot run the model"),
    Case("operators of one's own", given(OWN, Asked(times)), refused="conversion.failed",
         says="somebody.own.Twist"),
    Case("an output that is a list", given(LISTED, Asked(times)), refused="conversion.failed",
         says="is a sequence or map"),
    Case("random numbers", given(RANDOM, Asked(times), output="value"), refused="parity.differs",
         says="does not answer as its source"),
    Case("numbers that nobody named", given(product(last="Identity"), Asked(times)),
         refused="conversion.failed", says="no output is a label, probabilities or a value"),
    Case("an operator set to come", given(product(opset=99), Asked(times)),
         refused="conversion.failed", says="cannot be run here"),
]  # fmt: skip
