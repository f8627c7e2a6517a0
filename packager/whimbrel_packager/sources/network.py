"""Networks of any framework: what `torch` and `keras` have in common as sources.

A framework's part is small: which inputs its model declares, what it answers, and the plain ONNX.
Placing the columns, finding out what the numbers mean, and the model's boundary are the same.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np

from whimbrel_packager.sources import Description, network_boundary, network_inputs, thresholds
from whimbrel_packager.sources.network_answer import Answer, decide

if TYPE_CHECKING:
    from collections.abc import Sequence

    from whimbrel_packager.frame import Frame
    from whimbrel_packager.sources import Options
    from whimbrel_packager.sources.network_inputs import Input, Placed
    from whimbrel_packager.sources.thresholds import Thresholds
    from whimbrel_packager.untyped import Proto

    Array = np.ndarray[Any, Any]

EXAMPLE_ROWS = 4  # exporters specialise on 0 and 1
_SAMPLE_ROWS = 64
GUARD = "missing values stay missing"


class Made(NamedTuple):
    """The outputs of a network on some rows, flat and in order."""

    names: list[str]
    values: list[Array]


class Opened(Protocol):
    """A network that a framework has opened."""

    framework: str
    framework_version: str
    converter: str
    converter_version: str

    @property
    def estimator(self) -> str:
        """Its name, for messages."""

    def inputs(self, frame: Frame) -> list[Input]:
        """Return the inputs that it declares, in its order; ``frame`` may tell their types."""

    def prepare(self, fed: Sequence[Array]) -> None:
        """Make it ready to be asked and converted, given `EXAMPLE_ROWS` rows of each input.

        Raises:
            ConversionError: its code cannot be made a graph.
        """

    def answer(self, fed: Sequence[Array]) -> Made:
        """Return its outputs.

        Raises:
            ValueError: it does not accept these rows.
        """

    def to_onnx(self, fed: Sequence[Array]) -> Proto:
        """Return the plain conversion: inputs and outputs in the order of the above.

        Raises:
            ConversionError: the framework's converter refuses it; says why.
        """

    def rewrites(self) -> tuple[str, ...]:
        """Return the rewrites that the plain conversion took."""


class NetworkSource:
    """An opened network as a `whimbrel_packager.sources.Source`."""

    reads_blocks = True

    def __init__(self, network: Opened, options: Options, *, own_names: bool = False) -> None:
        self.network = network
        self.options = options
        self._own_names = own_names  # a matrix input keeps the name that the file has for it
        self._placed: Placed | None = None
        self._answer: Answer | None = None
        self._main = 0
        self._others: dict[int, str] = {}
        self._guarded = False

    @property
    def estimator(self) -> str:
        """Name of the network, for messages."""
        return self.network.estimator

    def columns(self, frame: Frame) -> tuple[str, ...]:
        """Return the columns that the network reads; see `network_inputs.place`."""
        return self._place(frame).columns

    def attempts(self, frame: Frame) -> tuple[tuple[str, ...], ...]:
        """Return the plain way, and one that answers NaN where a number of the input is NaN.

        NaN is lost on the way, here or there: onnxruntime's MaxPool, GRU and LSTM make numbers of
        it where torch does not, TensorFlow's ReLU makes 0 of it where onnxruntime does not. No
        such answer means anything, and the guarded model gives none. A network that deals with
        NaN itself holds in the plain way already.
        """
        placed = self._place(frame)
        floats = any((one.kind or "FP32").startswith("FP") for one in placed.inputs)
        return ((), (GUARD,)) if floats else ((),)

    def convert(self, frame: Frame, rewrites: tuple[str, ...] = ()) -> tuple[Any, Description]:
        """Return the network as ONNX, with a free batch dimension and an answer at its end.

        Raises:
            ConversionError: it cannot be converted, with the reason.
            UsageError: what was said of its output contradicts itself.
        """
        network = self.network
        rows = frame.take(np.arange(max(EXAMPLE_ROWS, min(frame.rows, _SAMPLE_ROWS))) % frame.rows)
        network.prepare([a[:EXAMPLE_ROWS] for a in self._place(frame).arrays(rows)])
        placed = self._placed = self._place(frame)  # what is prepared may tell its inputs better
        fed = placed.arrays(rows)
        names, made = network.answer(fed)
        main = self._main = network_boundary.main_output(
            names, self.options.main_output, self.estimator
        )
        answer = self._answer = decide(
            made[main], self.options, output=names[main], what=self.estimator
        )
        self._others = network_boundary.other_names(names, main, answer)
        self._guarded = GUARD in rewrites
        proto = network.to_onnx([array[:EXAMPLE_ROWS] for array in fed])
        roles = network_boundary.finish(
            proto,
            placed,
            answer,
            network_boundary.Ends(main, self._others, fed, made),
            guard=self._guarded,
        )
        return proto, Description(
            framework=network.framework,
            framework_version=network.framework_version,
            estimator=self.estimator,
            converter=network.converter,
            converter_version=network.converter_version,
            task=answer.task,
            columns=placed.columns,
            matrix=placed.matrix,
            roles=roles,
            classes=answer.classes,
            rewrites=(*network.rewrites(), *rewrites),
        )

    def predict(self, frame: Frame) -> dict[str, Array]:
        """Return what the framework itself answers, by the names of the converted outputs.

        Raises:
            ValueError: it does not accept these rows.
        """
        if self._placed is None or self._answer is None:
            raise RuntimeError("a network is asked after it is converted")
        fed = self._placed.arrays(frame)
        _, made = self.network.answer(fed)
        if self._guarded:
            made = [_without(values, _missing(fed)) for values in made]
        answers = self._answer.of(made[self._main])
        return {**answers, **{name: made[i] for i, name in self._others.items()}}

    def thresholds(self) -> Thresholds:
        """Return nothing: a network has no split thresholds."""
        return thresholds.listed()

    def _place(self, frame: Frame) -> Placed:
        inputs = self.network.inputs(frame)
        matrix = inputs[0].name if self._own_names else self.options.matrix_input
        return network_inputs.place(inputs, frame, matrix=matrix, what=self.estimator)


def _missing(fed: Sequence[Array]) -> Array:
    """Return (n,) bool: the rows with a NaN in any input."""
    found = np.zeros(len(fed[0]), dtype=bool)
    for array in fed:
        if array.dtype.kind == "f":
            found |= np.isnan(array.reshape(len(array), -1)).any(axis=1)
    return found


def _without(values: Array, rows: Array) -> Array:
    if values.dtype.kind != "f":
        return values
    kept = values.copy()
    kept[rows] = np.nan
    return kept
