"""Columns of reference data: values of one length, as numbers or as words, and their kind.

Strings are categorical; at most 64 distinct float32 values, which repeat, are discrete; else numeric.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from whimbrel_core.errors import ProfileError
from whimbrel_core.profile.feature import MAX_VALUES, Kind, Role

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

_REPEATS = 5  # values of a discrete feature occur this often on average; fewer are a continuum


@dataclass(frozen=True)
class ColumnSpec:
    """One column of reference data.

    Args:
        name: unique feature name.
        role: "input" or "output".
        tensor: name of the model's input or output tensor.
        column: index into the tensor's flattened trailing dimensions.
        values: (n,) numbers (any numeric or bool dtype; NaN is null) or strings (object, str or
            bytes dtype; None and NaN are null). All columns have the same n.
        unit: physical unit, or None.
        kind: None: decided from the values (see `prepare`).
    """

    name: str
    role: Role
    tensor: str
    column: int
    values: NDArray[Any]
    unit: str | None = None
    kind: Kind | None = None


def require_rows(columns: Sequence[ColumnSpec]) -> None:
    """Require columns of one length, with at least one row.

    Raises:
        ProfileError: there is none, or one is of another shape or length.
    """
    lengths = {column.name: len(np.asarray(column.values)) for column in columns}
    if not columns or min(lengths.values()) == 0:
        raise ProfileError("a baseline needs at least one column and one row")
    first = columns[0]
    for column in columns:
        if np.ndim(column.values) != 1:
            raise ProfileError(
                f"column {column.name!r} has shape {np.shape(column.values)}; (n,) is needed"
            )
        if lengths[column.name] != lengths[first.name]:
            raise ProfileError(
                f"column {column.name!r} has {lengths[column.name]} rows, "
                f"{first.name!r} has {lengths[first.name]}"
            )


def prepare(column: ColumnSpec) -> tuple[NDArray[Any], Kind]:
    """Return float32 numbers with "numeric" or "discrete", or words with "categorical".

    Raises:
        ProfileError: the column cannot be what its ``kind`` says.
    """
    values = np.asarray(column.values)
    numbers = _numbers(values)
    if numbers is None:
        if column.kind not in (None, "categorical"):
            raise ProfileError(f"column {column.name!r} holds strings and cannot be {column.kind}")
        return values, "categorical"
    if column.kind == "categorical":
        raise ProfileError(
            f"column {column.name!r} holds numbers and cannot be categorical",
            hint="convert it to strings if the model reads strings; else leave the kind out",
        )
    distinct = np.unique(numbers[np.isfinite(numbers)])
    if column.kind == "discrete" and len(distinct) > MAX_VALUES:
        raise ProfileError(
            f"column {column.name!r} has {len(distinct)} values and cannot be discrete "
            f"({MAX_VALUES} at most)"
        )
    few = len(distinct) <= MAX_VALUES
    repeats = len(distinct) <= 2 or len(distinct) * _REPEATS <= len(numbers)  # noqa: PLR2004 — a flag
    return numbers, column.kind or ("discrete" if few and repeats else "numeric")


def is_null(value: object) -> bool:
    """Return whether an entry of a column of words says that there is none."""
    return value is None or (isinstance(value, float) and math.isnan(value))


def _numbers(values: NDArray[Any]) -> NDArray[np.float32] | None:
    """Return ``values`` as float32 (null is NaN), or None when they are strings."""
    if values.dtype.kind not in "fiubO":
        return None
    if values.dtype.kind == "O":
        if any(isinstance(value, (str, bytes)) for value in values.tolist()):
            return None
        values = values.astype(np.float64)
    with np.errstate(over="ignore", invalid="ignore"):
        numbers: NDArray[np.float32] = values.astype(np.float32)
        numbers += np.float32(0)  # −0.0 and 0.0 are one value
    return numbers
