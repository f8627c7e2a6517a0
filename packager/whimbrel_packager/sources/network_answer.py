"""What the numbers that a network gives mean, and the layers that make an answer of them.

Networks end in logits more often than in probabilities, and say neither. A device needs
probabilities and a label: what `Options.output` names is taken as said, what is a distribution over
the classes is seen, and everything else is asked for. The layers are added to the ONNX model, and
proven like the rest of it: the expected answers come from the framework's own numbers.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np

from whimbrel_core.errors import ConversionError, UsageError

if TYPE_CHECKING:
    from whimbrel_core.bundle.manifest import Task
    from whimbrel_packager.sources import Options
    from whimbrel_packager.untyped import Proto

    Array = np.ndarray[Any, Any]

LABEL, PROBABILITIES, VALUE = "label", "probabilities", "value"
SLACK = 1e-3
_INTEGER = re.compile(r"0|-?[1-9]\d{0,17}")
_MATRIX = 2
_BINARY = 2


class Answer(NamedTuple):
    """What one output of a network means.

    Attributes:
        task: as in the manifest.
        layer: what makes probabilities of its numbers; "" when they are what is wanted.
        classes: class names by index; () for a regression.
        width: numbers a row.
    """

    task: Task
    layer: Literal["", "softmax", "sigmoid"] = ""
    classes: tuple[str, ...] = ()
    width: int = 1

    @property
    def roles(self) -> dict[str, str]:
        """Roles of the outputs that a device sees, by name."""
        if self.task == "regression":
            return {VALUE: "value"}
        return {LABEL: "label", PROBABILITIES: "probabilities"}

    def of(self, numbers: Array) -> dict[str, Array]:
        """Return the answer by output name, from what the framework gives, in float64."""
        if self.task == "regression":
            return {VALUE: numbers}
        with np.errstate(all="ignore"):
            x = numbers.astype(np.float64).reshape(len(numbers), self.width)
            if self.layer == "softmax":
                x = np.exp(x - x.max(axis=1, keepdims=True))
                x /= x.sum(axis=1, keepdims=True)
            elif self.layer == "sigmoid":
                x = np.exp(-np.logaddexp(0, -x))
            if self.width == 1:
                x = np.concatenate([1 - x, x], axis=1)
        return {LABEL: self._names()[x.argmax(axis=1)], PROBABILITIES: x}

    def graft(self, graph: Proto, tensor: str, element: int, rank: int) -> list[str]:
        """Put the layers behind a tensor of a graph and return the names of what they make.

        Args:
            graph: gets nodes and constants, named ``answer/…``; the names of `roles` are free.
            tensor: the output that is answered with.
            element: its ONNX type, FLOAT or DOUBLE.
            rank: its number of dimensions.
        """
        from onnx import helper, numpy_helper

        def node(kind: str, inputs: list[str], made: str, **attributes: int) -> str:
            named = helper.make_node(kind, inputs, [made], **attributes)  # type: ignore[arg-type]
            graph.node.append(named)
            return made

        def constant(name: str, values: Array) -> str:
            graph.initializer.append(numpy_helper.from_array(values, f"answer/{name}"))
            return f"answer/{name}"

        if self.task == "regression":
            return [node("Identity", [tensor], VALUE)]
        x = tensor
        if rank < _MATRIX:
            x = node("Unsqueeze", [x, constant("axis", np.array([1], np.int64))], "answer/rows")
        if self.layer == "softmax":
            x = node("Softmax", [x], "answer/shares", axis=1)
        elif self.layer == "sigmoid":
            x = node("Sigmoid", [x], "answer/shares")
        if self.width == 1:
            one = constant("one", np.ones(1, dtype=helper.tensor_dtype_to_np_dtype(element)))
            rest = node("Sub", [one, x], "answer/other_share")
            node("Concat", [rest, x], PROBABILITIES, axis=1)
        else:
            node("Identity", [x], PROBABILITIES)
        best = node("ArgMax", [PROBABILITIES], "answer/best", axis=1, keepdims=0)
        return [
            node("Gather", [constant("classes", self._names()), best], LABEL),
            PROBABILITIES,
        ]

    def _names(self) -> Array:
        """Return what the label is for each class: a number where all names are numbers."""
        if all(_INTEGER.fullmatch(name) for name in self.classes):
            return np.array([int(name) for name in self.classes], dtype=np.int64)
        return np.array(self.classes, dtype=object)


def decide(numbers: Array, options: Options, *, output: str, what: str) -> Answer:
    """Return what an output means, from what was said of it and what it holds.

    Args:
        numbers: the output on some reference rows, (n, …).
        options: what a person says.
        output: its name, for messages.
        what: names the network.

    Raises:
        ConversionError: the numbers are not what they are said to be, or may be several things.
        UsageError: what is said contradicts itself.
    """
    said, wide = options.output, int(np.prod(numbers.shape[1:]))
    _require_sense(options, what)
    if numbers.dtype.kind != "f":
        raise ConversionError(
            f"{what}: output {output!r} holds {numbers.dtype}, and an answer is made of "
            "probabilities, logits or values",
            hint="name another output with source.main_output, or end the network before its argmax",
        )
    flat = numbers.ndim <= _MATRIX
    if said == "value" or options.task == "regression":
        return Answer("regression", width=wide)
    if not flat and said:
        raise ConversionError(
            f"{what}: output {output!r} has the shape (n, {', '.join(map(str, numbers.shape[1:]))}), "
            f"and {said} are one row of numbers for each row of input",
            hint='pool it inside the network, or say source.output = "value"',
        )
    rows = numbers.reshape(len(numbers), -1)
    if said == "logits":
        return _classifier("softmax" if wide > 1 else "sigmoid", wide, options)
    if is_distribution(rows):
        wanted = said or wide > 1 or options.task or options.classes
        if wanted and flat:
            return _classifier("", wide, options)
    elif said == "probabilities":
        raise ConversionError(
            f"{what}: output {output!r} is said to be probabilities, and its rows sum to "
            f"{rows.sum(axis=1).min():.3g} … {rows.sum(axis=1).max():.3g} with numbers from "
            f"{rows.min():.3g} to {rows.max():.3g}",
            hint='if it gives logits, say source.output = "logits" (--output-is logits)',
        )
    if wide == 1 and not (options.task or options.classes):
        return Answer("regression", width=1)
    raise ConversionError(
        f"{what}: output {output!r} gives {wide} numbers a row that are no probabilities "
        f"({rows.min():.3g} … {rows.max():.3g}), and nothing says what they are",
        hint='say source.output = "logits" or "value" (--output-is …); logits get a softmax, so '
        "that devices see probabilities and a label",
    )


def is_distribution(rows: Array) -> bool:
    """Return whether the finite rows are probabilities: of all classes, or of one."""
    known = rows[np.isfinite(rows).all(axis=1)]
    if not known.size or known.min() < -SLACK or known.max() > 1 + SLACK:
        return False
    return rows.shape[1] == 1 or bool(np.abs(known.sum(axis=1) - 1).max() < SLACK)


def _require_sense(options: Options, what: str) -> None:
    classes = options.output in ("logits", "probabilities")
    if (classes and options.task == "regression") or (
        options.output == "value" and (options.task == "classification" or options.classes)
    ):
        raise UsageError(
            f"{what}: an output of {options.output} does not belong to "
            f"{'a regression' if classes else 'a classifier'}",
            hint="leave --task and --classes out, or say another source.output",
        )


def _classifier(layer: Literal["", "softmax", "sigmoid"], wide: int, options: Options) -> Answer:
    count = max(wide, _BINARY)
    if options.classes and len(options.classes) != count:
        raise UsageError(
            f"--classes names {len(options.classes)} classes, the model has {count}",
        )
    classes = options.classes or tuple(str(i) for i in range(count))
    return Answer("classification", layer, classes, wide)
