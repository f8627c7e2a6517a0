"""Declared columns: type, range, words, missing values, uniqueness and order of each."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import msgspec
import numpy as np

from whimbrel_packager.gates.outcome import Outcome, limit, named, number, refused

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from whimbrel_packager.frame import Frame

    Array = np.ndarray[Any, Any]

KIND = "columns"
Type = Literal["", "number", "integer", "boolean", "text"]


class Column(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a column of the reference data is. What is not said is not checked.

    Args:
        type: "number", "integer" (whole numbers), "boolean" (0 and 1) or "text".
        min: least value.
        max: largest value.
        categories: the words that it may hold.
        max_outside: share of its values that may lie outside of ``min`` to ``max`` or
            ``categories``.
        max_null: share of the rows that may have no value.
        unique: whether no value may occur twice.
        increasing: whether no value may be below that of the row before (time).
    """

    type: Type = ""
    min: float | None = None
    max: float | None = None
    categories: tuple[str, ...] = ()
    max_outside: float = 0.0
    max_null: float | None = None
    unique: bool = False
    increasing: bool = False


def judge(
    declared: Mapping[str, Column], frame: Frame, undeclared: str, inputs: Sequence[str]
) -> Iterator[Outcome]:
    """Yield an outcome per declared property of a column.

    Args:
        declared: by column name.
        frame: the reference rows.
        undeclared: "refuse" fails on a column that the model reads and nobody declared.
        inputs: the columns that the model reads.
    """
    for name, column in declared.items():
        if name not in frame.columns:
            yield refused(
                f"columns.{name}", KIND, f"the data has no column {name!r}, which is declared"
            )
        else:
            yield from _column(name, column, frame.columns[name])
    if undeclared == "refuse":
        unknown = [name for name in inputs if name not in declared]
        yield limit(
            "columns.undeclared", KIND, len(unknown), 0,
            message=f"the model reads {named(unknown)}, which nothing declares"
            if unknown else "every column that the model reads is declared",
        )  # fmt: skip


def _column(name: str, column: Column, values: Array) -> Iterator[Outcome]:
    if values.ndim > 1 and (column.unique or column.increasing or column.categories):
        yield refused(f"columns.{name}", KIND, "it is an array a row: only type, range and nulls "
                      "can be declared")  # fmt: skip
        return
    rows = len(values)
    text = values.dtype == object
    present = ~missing(values)
    known = values[present]

    def checked(check: str, measured: float, most: float, message: str) -> Outcome:
        return limit(
            f"columns.{name}.{check}", KIND, measured, most, message=message, rows=rows,
            unit="share",
        )  # fmt: skip

    if column.type:
        odd = _odd(column.type, known, text=text)
        yield checked("type", odd, 0, f"{_share(odd)} of its values are other than {column.type}")
    ranged = column.min is not None or column.max is not None
    if ranged and text:
        yield refused(f"columns.{name}.range", KIND, "it holds words, and a range is declared")
    elif ranged:
        low = -np.inf if column.min is None else column.min
        high = np.inf if column.max is None else column.max
        # As the frame holds it: 0.1 is not its own float32.
        low, high = float(np.float32(low)), float(np.float32(high))
        outside = _part((known < low) | (known > high) | ~np.isfinite(known))
        found = f", found {number(known.min())} to {number(known.max())}" if len(known) else ""
        wanted = f"{number(low)} to {number(high)}"
        yield checked("range", outside, column.max_outside,
                      f"{_share(outside)} of its values are outside of {wanted}{found}")  # fmt: skip
    if column.categories:
        listed = set(column.categories)
        words = [_word(value) for value in known.tolist()]
        other = [word for word in words if word not in listed]
        share = len(other) / len(words) if words else 0.0
        which = f": {named(sorted(set(other)))}" if other else ""
        yield checked("categories", share, column.max_outside,
                      f"{_share(share)} of its values are none of the {len(listed)} declared{which}")  # fmt: skip
    if column.max_null is not None:
        null = 1 - _part(present)
        yield checked("null", null, column.max_null, f"{_share(null)} of its values are missing")
    if column.unique:
        twice = 1 - distinct(known) / len(known) if len(known) else 0.0
        yield checked("unique", twice, 0, f"{_share(twice)} of its values repeat another")
    if column.increasing:
        back = _back(known)
        yield checked(
            "increasing", back, 0, f"{_share(back)} of its values are below the one before"
        )


def missing(values: Array) -> Array:
    """Return (n,) bool: where a column has no value (None or NaN)."""
    if values.dtype == object:
        return np.array([value is None for value in values.tolist()], dtype=bool)
    if values.dtype.kind == "f":
        # An array of numbers a row lacks a value when any of them is missing.
        return np.asarray(np.isnan(values).reshape(len(values), -1).any(axis=1))
    return np.zeros(len(values), dtype=bool)


def distinct(values: Array) -> int:
    """Return the number of distinct values of a column without missing ones."""
    if values.dtype == object:
        return len(set(values.tolist()))
    return len(np.unique(values))


def _odd(kind: str, known: Array, *, text: bool) -> float:
    """Return the share of values that are not of a type."""
    if not len(known):
        return 0.0
    if kind == "text" or text:
        return float((kind == "text") != text)
    if kind == "integer":
        return _part(~(np.isfinite(known) & (np.floor(known) == known)))
    if kind == "boolean":
        return _part(~np.isin(known, (0, 1)))
    return 0.0


def _back(known: Array) -> float:
    listed = known.astype(str) if known.dtype == object else known
    return _part(listed[1:] < listed[:-1])


def _word(value: object) -> str:
    # Numbers as a person writes them: 3, not 3.0.
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def _part(flags: Array) -> float:
    return float(flags.mean()) if len(flags) else 0.0


def _share(value: float) -> str:
    """Return a share as a percentage that does not round a few rows to none.

    >>> _share(0), _share(.00001), _share(.123)
    ('none', '0.001 %', '12.3 %')
    """
    return "none" if not value else f"{value * 100:.3g} %"
