"""Feeds: the columns of a frame as a model's inputs, in the types and ranks that it declares.

Whole numbers are never wrapped nor cut off: reference data that an input of theirs cannot hold are
refused by column and value.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from whimbrel_core.bundle.datatypes import DTYPES, RANGES
from whimbrel_core.errors import InputError
from whimbrel_packager.frame import Frame, words

if TYPE_CHECKING:
    from collections.abc import Sequence

    Array = np.ndarray[Any, Any]
    Declared = tuple[str, str, tuple[int, ...]]
    """Name, datatype, and shape with the batch first."""


def of(frame: Frame, inputs: Sequence[Declared], matrix: str | None) -> dict[str, Array]:
    """Return the arrays that a model is fed, by input.

    Args:
        frame: the model's columns, in its order.
        inputs: as the model declares them.
        matrix: name of the one (n, F) input of all columns; None: one input per column.

    Raises:
        InputError: a column holds what its input cannot.
    """
    if matrix is not None:
        kind = inputs[0][1]
        columns = [_matrix_column(name, c, kind) for name, c in frame.columns.items()]
        empty = np.zeros((0, 0), DTYPES[kind])
        return {matrix: np.stack(columns, axis=1) if columns else empty}
    fed = {}
    for name, kind, shape in inputs:
        array = _column(name, frame.columns[name], kind)
        if array.ndim == 1 and len(shape) != 1:
            array = array.reshape(-1, 1)
        fed[name] = array.reshape(-1) if len(shape) == 1 else array
    return fed


def fitted(frame: Frame, inputs: Sequence[Declared], matrix: str | None) -> Frame:
    """Return a frame whose columns are whole numbers where the model takes those.

    Raises:
        InputError: a column holds what its input cannot.
    """
    kinds = kinds_of(frame, inputs, matrix)
    return Frame(
        {
            name: _whole(name, column, kinds[name])
            if kinds[name] in RANGES and column.dtype.kind != "b"
            else column
            for name, column in frame.columns.items()
        }
    )


def kinds_of(frame: Frame, inputs: Sequence[Declared], matrix: str | None) -> dict[str, str]:
    """Return the datatype of the input that each column goes into, by column."""
    if matrix is not None:
        return dict.fromkeys(frame.names, inputs[0][1])
    return {name: kind for name, kind, _ in inputs}


def _matrix_column(name: str, column: Array, kind: str) -> Array:
    # Numbers that stand beside others in a matrix are float32 on their way into a wider one.
    return _column(name, column if kind in RANGES else column.astype(np.float32), kind)


def _column(name: str, column: Array, kind: str) -> Array:
    if kind == "BYTES":
        return words(column)
    if kind in RANGES:
        return _whole(name, column, kind).astype(DTYPES[kind], copy=False)
    narrow = column.astype(np.float32) if column.dtype.kind == "f" else column
    with np.errstate(over="ignore"):
        return narrow.astype(DTYPES[kind], copy=False)


def _whole(name: str, column: Array, kind: str) -> Array:
    """Return whole numbers in the range of a datatype: of a block in it, else as int64."""
    low, high = RANGES[kind]
    if column.dtype.kind not in "iub":
        # 2^63 is the first float64 beyond int64; what lies between is rounded to it.
        odd = ~((column >= low) & (column <= high) & (column < 2.0**63)) | (
            np.trunc(column) != column
        )
    elif column.size and (int(column.min()) < low or int(column.max()) > high):
        odd = (column < low) | (column > high)
    else:
        odd = np.zeros(0, dtype=bool)
    if odd.any():
        value = column[tuple(np.argwhere(odd)[0])]
        missing = column.dtype.kind == "f" and np.isnan(value)
        raise InputError(
            f"column {name!r} of the reference data holds {'a missing number' if missing else value}"
            f", and the model takes {kind}: whole numbers from {low} to {high}",
            hint="leave those rows out, or fill them in, as whoever asks the model will have to"
            if missing
            else "give the numbers as the model takes them, without scaling"
            if column.ndim > 1
            else "give the column as integers",
            code="input.column",
        )
    return column.astype(DTYPES[kind] if column.ndim > 1 else np.int64, copy=False)
