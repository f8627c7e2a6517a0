"""The graph of a booster: columns → trees → sums → label and probabilities, or a value."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from whimbrel_packager.sources import forest as forests

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from whimbrel_packager.sources.forest import Forest
    from whimbrel_packager.untyped import Proto

    Array = np.ndarray[Any, Any]
    Word = str | int | float

# The newest pair that onnxruntime 1.17, the oldest one an agent may have, knows in full.
OPSETS = {"": 18, "ai.onnx.ml": 3}
_IR = 8
_KINDS = {"FP32": TensorProto.FLOAT, "INT64": TensorProto.INT64, "BYTES": TensorProto.STRING}


class Link(NamedTuple):
    """From sums to answers.

    Attributes:
        kind: ``step`` gives 1 above zero, ``square`` keeps the sign, ``softplus`` is log(1 + eˣ).
        scale: what sums are multiplied with first.
    """

    kind: Literal["identity", "sigmoid", "softmax", "exp", "softplus", "square", "step"] = (
        "identity"
    )
    scale: float = 1.0


class Graph:
    """A graph that is being put together."""

    def __init__(
        self, kinds: Mapping[str, str], matrix: str | None, *, double: bool = False
    ) -> None:
        """Begin with the inputs.

        Args:
            kinds: OIP datatypes by column.
            matrix: name of the one (n, F) input; None: one input per column.
            double: whether columns are compared as float64.
        """
        self._columns = kinds
        self._matrix = matrix
        self._double = double
        self._taken = {*kinds, *([matrix] if matrix else [])}
        self._words: dict[str, Sequence[Word]] = {}
        self._targets = 1
        self._nodes: list[Any] = []
        self._constants: list[Any] = []
        self._outputs: list[Any] = []

    def encode(self, column: str, words: Sequence[Word]) -> None:
        """Say that a column holds categories, of which trees see the index."""
        self._words[column] = words

    def grow(self, forest: Forest, absent: float | None) -> str:
        """Add the trees; return the name of their sums, (n, targets) float32.

        Args:
            forest: the trees.
            absent: a number that counts as missing.
        """
        columns = self._joined()
        if absent is not None:
            gaps = self._new("with_gaps")
            self._add("Imputer", [columns], gaps, domain="ai.onnx.ml",
                      imputed_value_floats=[float("nan")], replaced_value_float=absent)  # fmt: skip
            columns = gaps
        sums = self._new("sums")
        self._targets = len(forest.base)
        self._nodes.append(forests.node(forest, columns, sums, double=self._double))
        return sums

    def value(self, sums: str, link: Link) -> dict[str, str]:
        """Add the output of a regression; return roles by output."""
        name = self._new("value")
        self._add("Identity", [linked(self, sums, link)], name)
        self._outputs.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, [None, 1]))
        return {name: "value"}

    def classes(
        self, sums: str, link: Link, classes: Sequence[Word], threshold: float | None = None
    ) -> dict[str, str]:
        """Add label and probabilities; return roles by output."""
        label, probabilities = self._new("label"), self._new("probabilities")
        classify(
            self, sums, link, classes,
            targets=self._targets, outputs=(label, probabilities), threshold=threshold,
        )  # fmt: skip
        kind = TensorProto.INT64 if isinstance(classes[0], int) else TensorProto.STRING
        self._outputs += [
            helper.make_tensor_value_info(label, kind, [None]),
            helper.make_tensor_value_info(
                probabilities, TensorProto.FLOAT, [None, len(classes)]
            ),
        ]  # fmt: skip
        return {label: "label", probabilities: "probabilities"}

    def model(self) -> Proto:
        """Return the finished model."""
        if self._matrix is not None:
            inputs = [(self._matrix, TensorProto.FLOAT, len(self._columns))]
        else:
            inputs = [(name, _KINDS[kind], 1) for name, kind in self._columns.items()]
        graph = helper.make_graph(
            self._nodes,
            "booster",
            [helper.make_tensor_value_info(n, kind, [None, wide]) for n, kind, wide in inputs],
            self._outputs,
            self._constants,
        )
        opsets = [helper.make_opsetid(domain, version) for domain, version in OPSETS.items()]
        return helper.make_model(graph, opset_imports=opsets, ir_version=_IR)

    def constant(self, array: Array) -> str:
        """Add a constant and return its name."""
        name = self._new("constant")
        self._constants.append(numpy_helper.from_array(array, name))
        return name

    def apply(self, operator: str, *inputs: str, **attributes: object) -> str:
        """Add a node of the default domain and return the name of its output."""
        name = self._new(operator.lower())
        self._add(operator, list(inputs), name, **attributes)
        return name

    def give(self, operator: str, inputs: Sequence[str], output: str, **attributes: object) -> None:
        """Add a node of the default domain whose output has a given name."""
        self._add(operator, inputs, output, **attributes)

    def _joined(self) -> str:
        wanted = TensorProto.DOUBLE if self._double else TensorProto.FLOAT
        if self._matrix is not None:
            return self.apply("Cast", self._matrix, to=wanted) if self._double else self._matrix
        parts = [self._number(name, kind, wanted) for name, kind in self._columns.items()]
        return self.apply("Concat", *parts, axis=1)

    def _number(self, name: str, kind: str, wanted: int) -> str:
        words = self._words.get(name)
        if words is not None:
            codes = self._new("codes")
            attributes = _encoder(words, kind)
            self._add("LabelEncoder", [name], codes, domain="ai.onnx.ml", **attributes)
            name, kind = codes, "FP32"
        if kind == "FP32" and not self._double:
            return name
        return self.apply("Cast", name, to=wanted)

    def _add(self, operator: str, inputs: Sequence[str], output: str, **attributes: Any) -> None:  # noqa: ANN401 - of onnx
        self._nodes.append(helper.make_node(operator, list(inputs), [output], **attributes))

    def _new(self, name: str) -> str:
        """Return a name that no tensor has yet: columns may be called anything."""
        count, free = 0, name
        while free in self._taken:
            count += 1
            free = f"{name}_{count}"
        self._taken.add(free)
        return free


class Nodes(Protocol):
    """What links and classes are written with."""

    def constant(self, array: Array) -> str:
        """Add a constant and return its name."""

    def apply(self, operator: str, *inputs: str, **attributes: object) -> str:
        """Add a node of the default domain and return the name of its output."""

    def give(self, operator: str, inputs: Sequence[str], output: str, **attributes: object) -> None:
        """Add a node of the default domain whose output has a given name."""


def linked(graph: Nodes, sums: str, link: Link) -> str:
    """Add a link; return the name of the answers, of the shape of ``sums``."""
    if link.scale != 1:
        sums = graph.apply("Mul", sums, graph.constant(np.array(link.scale, dtype=np.float32)))
    if link.kind == "identity":
        return sums
    if link.kind == "softmax":
        return graph.apply("Softmax", sums, axis=1)
    if link.kind == "square":
        return graph.apply("Mul", sums, graph.apply("Abs", sums))
    if link.kind == "step":
        above = graph.apply("Greater", sums, graph.constant(np.array(0, dtype=np.float32)))
        return graph.apply("Cast", above, to=TensorProto.FLOAT)
    return graph.apply(
        {"sigmoid": "Sigmoid", "exp": "Exp", "softplus": "Softplus"}[link.kind], sums
    )


def classify(
    graph: Nodes, sums: str, link: Link, classes: Sequence[Word],
    *, targets: int, outputs: tuple[str, str], threshold: float | None = None,
) -> None:  # fmt: skip
    """Add label and probabilities, under the names of ``outputs``.

    Args:
        graph: where.
        sums: (n, targets).
        link: from sums to probabilities.
        classes: all integers, or all words.
        targets: 1 for two classes, or one for each class.
        outputs: names of the label, (n,), and of the probabilities, (n, classes).
        threshold: probability above which the second of two classes is the label; None: 0.5.
    """
    label, probabilities = outputs
    answers = linked(graph, sums, link)
    if targets == 1:
        one = graph.constant(np.array(1, dtype=np.float32))
        graph.give("Concat", [graph.apply("Sub", one, answers), answers], probabilities, axis=1)
    else:
        graph.give("Identity", [answers], probabilities)
    if threshold is None:
        best = graph.apply("ArgMax", probabilities, axis=1, keepdims=0)
    else:
        limit = graph.constant(np.array([threshold], dtype=np.float32))
        above = graph.apply("Cast", graph.apply("Greater", answers, limit), to=TensorProto.INT64)
        best = graph.apply("Reshape", above, graph.constant(np.array([-1], dtype=np.int64)))
    kind: Any = np.int64 if isinstance(classes[0], int) else object
    graph.give("Gather", [graph.constant(np.array(classes, dtype=kind)), best], label)


def _encoder(words: Sequence[Word], kind: str) -> dict[str, object]:
    """Return a LabelEncoder's attributes from categories to their index; NaN for all others."""
    codes = [float(i) for i in range(len(words))]
    if kind == "BYTES":
        keys: dict[str, object] = {"keys_strings": [str(word) for word in words]}
    elif kind == "INT64":
        # A category that is no integer is never met.
        pairs = [(int(w), c) for w, c in zip(words, codes, strict=True)
                 if not isinstance(w, str) and float(w).is_integer()]  # fmt: skip
        keys, codes = {"keys_int64s": [w for w, _ in pairs]}, [c for _, c in pairs]
    else:
        pairs_ = [(float(w), c) for w, c in zip(words, codes, strict=True)
                  if not isinstance(w, str)]  # fmt: skip
        keys, codes = {"keys_floats": [w for w, _ in pairs_]}, [c for _, c in pairs_]
    return {**keys, "values_floats": codes, "default_float": float("nan")}
