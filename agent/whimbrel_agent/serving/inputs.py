"""One input of a request: its data as an array of the model's datatype and shape, or the reason why not.

What fits is packed straight from numbers to bytes. Whole numbers are never wrapped nor cut off: one
beyond its datatype is refused with its row and value.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from whimbrel_core.bundle.datatypes import DTYPES, RANGES
from whimbrel_core.errors import RequestError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from whimbrel_core.bundle.manifest import Tensor

DECODE_ERRORS = (msgspec.MsgspecError, UnicodeError, RecursionError, OverflowError)
ELEMENTS: dict[str, Any] = {
    "BOOL": list[bool],
    **dict.fromkeys(RANGES, list[int]),
    "FP32": list[float | None],
    "FP64": list[float | None],
    "BYTES": list[str | None],
}
_WORDS: dict[str, str] = {
    "BOOL": "true or false",
    **{name: f"whole numbers from {low} to {high}" for name, (low, high) in RANGES.items()},
    "FP32": "numbers or null",
    "FP64": "numbers or null",
    "BYTES": "strings or null",
}
# Codes of the struct and array modules.
_CODES: dict[str, str] = {
    "INT8": "b", "INT16": "h", "INT32": "i", "INT64": "q", "UINT8": "B", "UINT16": "H",
    "FP32": "f", "FP64": "d",
}  # fmt: skip
_MAX_PACKED = 1024
_SHOWN = 40  # characters of a value in a message

# Arrays by input, rows, and the values of the only row.
Read = tuple[dict[str, "NDArray[Any]"], int, "list[Any] | None"]


class Input(msgspec.Struct, gc=False):
    """An input as the request states it; its data undecoded, or a flat list already."""

    name: str
    shape: tuple[int, ...]
    datatype: str
    data: msgspec.Raw = msgspec.Raw()


class InputSpec:
    """Reads one input's data into an array of its datatype and shape."""

    def __init__(self, tensor: Tensor) -> None:
        self._tensor = tensor
        self._name, self._datatype = tensor.name, tensor.datatype
        self._tail = tuple(tensor.shape[1:])
        self._rank = len(tensor.shape)
        self._width = int(np.prod(self._tail, dtype=np.int64)) if self._tail else 1
        self._dtype = DTYPES[tensor.datatype]
        self._decoder: msgspec.json.Decoder[list[Any]] = msgspec.json.Decoder(
            ELEMENTS[tensor.datatype]
        )
        self._missing: str | float = "" if tensor.datatype == "BYTES" else float("nan")
        self._flat = self._tail == ()
        self._single = (1, *self._tail)
        self._range = RANGES.get(tensor.datatype)
        code = _CODES.get(tensor.datatype)
        fits = code is not None and self._width <= _MAX_PACKED
        self._pack = struct.Struct(f"={self._width}{code}").pack if fits else None

    def rows(self, item: Input) -> int:
        """Return the number of rows that ``item`` states, if its shape and type fit."""
        tensor = self._tensor
        if item.datatype != tensor.datatype:
            msg = f"input {tensor.name!r} is {item.datatype[:20]!r}, the model takes {tensor.datatype}"
            raise RequestError(msg, code="request.datatype", hint=f"send it as {tensor.datatype}")
        shape = item.shape
        fits = shape[1:] == self._tail if len(shape) == self._rank else shape[1:] == ()
        if not shape or not fits or (len(shape) != self._rank and self._width != 1):
            wanted = ", ".join(str(size) for size in ("n", *self._tail))
            msg = f"input {tensor.name!r} has shape {list(shape)[:8]}, the model takes [{wanted}]"
            raise RequestError(msg, code="request.shape", hint="n is the number of rows")
        if shape[0] < 1:
            msg = f"input {tensor.name!r} has {shape[0]} rows"
            raise RequestError(msg, code="request.shape", hint="send at least one row")
        return shape[0]

    def read_row(self, item: Input) -> Read | None:
        """Return the one row of the only input if nothing about it is unusual, else None."""
        data: Any = item.data
        if (
            item.shape != self._single
            or item.name != self._name
            or item.datatype != self._datatype
            or len(data) != self._width
            or self._pack is None
        ):
            return None
        try:
            # Straight from numbers to bytes: half of what np.array costs for one row.
            array = np.ndarray(self._single, self._dtype, self._pack(*data))
        except (struct.error, OverflowError):
            return None  # a null, or a number beyond the datatype
        return {item.name: array}, 1, data

    def read(self, item: Input, rows: int) -> tuple[NDArray[Any], list[Any]]:
        """Return the data as ``(rows, …)``, and flat."""
        data: Any = item.data
        values = data if isinstance(data, list) else self._values(data, item.name, rows)
        if rows == 1 and len(values) == self._width and self._pack is not None:
            try:
                return np.ndarray(self._single, self._dtype, self._pack(*values)), values
            except (struct.error, OverflowError):
                pass  # a null, or a number beyond the datatype
        if len(values) != rows * self._width:
            msg = f"input {item.name!r} has {len(values)} elements, its shape {list(item.shape)} states {rows * self._width}"
            raise RequestError(msg, code="request.shape", hint="make data and shape agree")
        if self._range is None and None in values:
            values = [self._missing if value is None else value for value in values]
        try:
            array = self._array(values)
        except (OverflowError, ValueError) as error:
            raise self._unfit(values) from error
        return (array if self._flat else array.reshape(rows, *self._tail)), values

    def _array(self, values: list[Any]) -> NDArray[Any]:
        if self._datatype == "UINT8":
            return np.frombuffer(bytes(values), np.uint8)  # a third of what np.array takes
        # A number beyond float32 becomes an infinity, which the profile counts as one.
        with np.errstate(over="ignore"):
            return np.array(values, self._dtype)

    def _unfit(self, values: list[Any]) -> RequestError:
        """Return what to say of flat data in which something does not fit the datatype."""
        kind = self._datatype
        low, high = self._range or (0, 0)
        at = next(
            (i for i, one in enumerate(values) if type(one) is not int or not low <= one <= high), 0
        )
        return RequestError(
            f"input {self._name!r}, row {at // self._width} (data[{at}]): {_shown(values[at])} is "
            f"no {kind}",
            code="request.data",
            hint=f"{kind} data are {_WORDS[kind]}",
        )

    def _values(self, raw: msgspec.Raw, name: str, rows: int) -> list[Any]:
        if not raw:
            msg = f"input {name!r} has no data"
            raise RequestError(
                msg, code="request.data", hint="send JSON data; the binary extension is not served"
            )
        try:
            return self._decoder.decode(raw)
        except DECODE_ERRORS:
            return self._nested(raw, name, rows)

    def _nested(self, raw: msgspec.Raw, name: str, rows: int) -> list[Any]:
        """Return data that is nested like its shape, flattened row by row."""
        try:
            level: Any = msgspec.json.decode(raw)
            for size in (rows, *self._tail)[: self._rank - 1]:
                del size
                if not isinstance(level, list) or not all(isinstance(row, list) for row in level):
                    break
                level = self._flatten(level, name)
            if self._range is not None and isinstance(level, list):
                if any(type(value) is not int for value in level):
                    raise self._unfit(level)
                return level
            flat: list[Any] = msgspec.convert(level, ELEMENTS[self._tensor.datatype])
        except DECODE_ERRORS as error:
            kind = self._tensor.datatype
            msg = f"input {name!r} has data that are not {kind}: {error}"
            raise RequestError(
                msg, code="request.data", hint=f"{kind} data are {_WORDS[kind]}"
            ) from error
        return flat

    def _flatten(self, level: list[list[Any]], name: str) -> list[Any]:
        if len({len(row) for row in level}) > 1:
            msg = f"input {name!r} has rows of different lengths"
            raise RequestError(msg, code="request.shape", hint="make data and shape agree")
        return [value for row in level for value in row]


def _shown(value: object) -> str:
    """Return a value of JSON for a message: 2^70 is no number that JSON's encoder would write."""
    if type(value) in (int, float):
        beyond = isinstance(value, int) and value.bit_length() > 64  # noqa: PLR2004 - bits
        return "a number beyond 64 bits" if beyond else str(value)
    text = msgspec.json.encode(value).decode()
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"
