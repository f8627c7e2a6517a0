"""How the columns of a frame become the inputs of a network.

A network with one matrix input takes all columns side by side, as a model of scikit-learn does;
the input is then called as `Options.matrix_input` says, whatever the framework called it. All
other inputs are columns or blocks of the frame, by name.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from whimbrel_core.errors import ConversionError, InputError
from whimbrel_packager import feeds
from whimbrel_packager.frame import datatype

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np

    from whimbrel_packager.frame import Frame

    Array = np.ndarray[Any, Any]

_MATRIX = 2  # dimensions: rows and columns
_EVERY = -1


class Input(NamedTuple):
    """An input as a network declares it.

    Attributes:
        name: as the framework has it.
        kind: OIP datatype; "" when the network does not say.
        tail: sizes after the batch, -1 where any size will do; None when the network does not say.
    """

    name: str
    kind: str = ""
    tail: tuple[int, ...] | None = None


class Placed(NamedTuple):
    """Where each input of a network comes from.

    Attributes:
        inputs: as declared, in the network's order.
        names: of the inputs on a device; a column each, unless there is one matrix.
        columns: that are read, in order.
        matrix: name of the one matrix input of all columns, or None.
    """

    inputs: tuple[Input, ...]
    names: tuple[str, ...]
    columns: tuple[str, ...]
    matrix: str | None

    def arrays(self, frame: Frame) -> list[Array]:
        """Return a frame's rows as the network's inputs, in its order and types."""
        declared = [
            (name, one.kind or "FP32", (-1,) if one.tail == () else (-1, *(one.tail or (-1,))))
            for one, name in zip(self.inputs, self.names, strict=True)
        ]
        fed = feeds.of(frame, declared, self.matrix)
        return [fed[name] for name in self.names]


def place(inputs: Sequence[Input], frame: Frame, *, matrix: str, what: str) -> Placed:
    """Find the columns that a network reads.

    Args:
        inputs: as it declares them.
        frame: the reference data.
        matrix: name for an input of all columns.
        what: names the network in messages.

    Raises:
        InputError: an input has no column, or one of another shape or type.
        ConversionError: an input that no column can be.
    """
    first = inputs[0]
    if len(inputs) == 1 and _is_matrix(first, frame):
        wide = _EVERY if first.tail is None else first.tail[0]
        if wide not in (_EVERY, len(frame.names)):
            raise InputError(
                f"input {first.name!r} of {what} has {wide} columns, the reference data has "
                f"{len(frame.names)} besides the label",
                hint="leave other columns out of the reference data",
                code="input.column",
            )
        words = [name for name in frame.names if datatype(frame.columns[name]) == "BYTES"]
        if words:
            raise InputError(
                f"{what} takes a matrix of numbers, and column {words[0]!r} holds words",
                hint="encode the words before, in the data or in the model",
                code="input.column",
            )
        return Placed(tuple(inputs), (matrix,), frame.names, matrix)
    names = _names(inputs, frame, what)
    for one, name in zip(inputs, names, strict=True):
        _require_fit(one, name, frame, what)
    return Placed(tuple(inputs), names, names, None)


def _is_matrix(one: Input, frame: Frame) -> bool:
    if frame.blocks or one.kind == "BYTES":
        return False
    # A lone (n, 1) or (n,) input is a matrix of one column when nothing is called like it.
    single = one.tail in ((), (1,))
    return one.tail is None or (len(one.tail) == 1 and not (single and one.name in frame.names))


def _names(inputs: Sequence[Input], frame: Frame, what: str) -> tuple[str, ...]:
    named = tuple(one.name for one in inputs)
    if len(named) == 1 and len(frame.names) == 1:
        return frame.names
    missing = [name for name in named if name not in frame.columns]
    if missing:
        raise InputError(
            f"{what} has the input {', '.join(map(repr, missing[:5]))}, and the reference data has "
            "nothing of that name",
            hint=f"name the arrays of the reference data as the inputs ({', '.join(named[:10])}); "
            f"it has {', '.join(frame.names[:10])}",
            code="input.column",
        )
    return named


def _require_fit(one: Input, name: str, frame: Frame, what: str) -> None:
    column = frame.columns[name]
    got = datatype(column)
    if one.kind and (one.kind == "BYTES") != (got == "BYTES"):
        raise InputError(
            f"input {one.name!r} is {one.kind}, column {name!r} of the reference data is {got}",
            code="input.column",
        )
    if one.tail is None:
        return
    tail = column.shape[1:] or ((1,) if one.tail else ())
    fits = len(tail) == len(one.tail) and all(
        wanted in (_EVERY, size) for wanted, size in zip(one.tail, tail, strict=True)
    )
    if not fits:
        shown = ", ".join("any" if size == _EVERY else str(size) for size in one.tail)
        error = InputError if column.ndim > 1 or one.tail in ((), (1,)) else ConversionError
        raise error(
            f"input {one.name!r} of {what} takes ({shown}) a row, {name!r} of the reference data "
            f"has {tuple(column.shape[1:]) or 'one number'}",
            hint="give reference data (.npz) with an array of (rows, …) in that shape",
            code="input.column",
        )
