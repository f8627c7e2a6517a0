"""The Open Inference Protocol's request body, checked against one model's inputs.

The schema is compiled once per model. The common case, flat data that fits, is decoded by msgspec
straight into a typed list and costs a few microseconds; whatever does not fit is looked at again,
slowly, for the sentence that tells the caller what to change.

Rules beyond the protocol: JSON ``null`` is a missing value, NaN in FP32 and FP64 and the empty
string in BYTES; shape ``[n]`` is accepted for ``[n, 1]``; ``parameters.timestamp`` is the event
time (RFC 3339 with an offset, or integer milliseconds since 1970) and ``parameters.ids`` gives
each row's prediction an id under which its label may come later.
"""

from __future__ import annotations

import struct
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any, cast

import msgspec
import numpy as np

from whimbrel_agent.serving.engine import DTYPES
from whimbrel_core.errors import RequestError

if TYPE_CHECKING:
    from numpy.typing import NDArray  # noqa: TC004 - never decoded, so never evaluated

    from whimbrel_core.bundle.manifest import Manifest, Tensor

# Event time outside of these is a unit mistaken (seconds, microseconds) or a clock never set.
_MIN_TIME_MS = int(datetime(1990, 1, 1, tzinfo=timezone.utc).timestamp() * 1000)
_MAX_TIME_MS = int(datetime(2200, 1, 1, tzinfo=timezone.utc).timestamp() * 1000)
_MAX_ID_CHARS = 256
_DECODE_ERRORS = (msgspec.MsgspecError, UnicodeError, RecursionError, OverflowError)

_ELEMENTS: dict[str, Any] = {
    "BOOL": list[bool],
    "INT32": list[int],
    "INT64": list[int],
    "FP32": list[float | None],
    "FP64": list[float | None],
    "BYTES": list[str | None],
}
_PACKED = {"FP32": "f", "FP64": "d", "INT64": "q", "INT32": "i"}
_MAX_PACKED = 1024
_WORDS = {
    "BOOL": "true or false",
    "INT32": "integers",
    "INT64": "integers",
    "FP32": "numbers or null",
    "FP64": "numbers or null",
    "BYTES": "strings or null",
}


class _Input(msgspec.Struct, gc=False):
    name: str
    shape: tuple[int, ...]
    datatype: str
    data: msgspec.Raw = msgspec.Raw()


class _Parameters(msgspec.Struct, gc=False):
    timestamp: int | datetime | None = None
    ids: list[str | int] | None = None


class _Output(msgspec.Struct, gc=False):
    name: str


class _Body(msgspec.Struct, gc=False):
    inputs: list[_Input]
    id: str | None = None
    parameters: _Parameters | None = None
    outputs: list[_Output] | None = None


def _typed_decoder(datatype: str) -> msgspec.json.Decoder[_Body]:
    """Return a decoder of bodies whose data are flat lists of ``datatype``, all in one pass."""
    typed = msgspec.defstruct(
        "_TypedInput",
        [
            ("name", str),
            ("shape", tuple[int, ...]),
            ("datatype", str),
            ("data", _ELEMENTS[datatype]),
        ],
        gc=False,
    )
    body = msgspec.defstruct(
        "_TypedBody",
        [
            ("inputs", list[typed]),  # type: ignore[valid-type]
            ("id", str | None, None),
            ("parameters", _Parameters | None, None),
            ("outputs", list[_Output] | None, None),
        ],
        gc=False,
    )
    return cast("msgspec.json.Decoder[_Body]", msgspec.json.Decoder(body))


class InferRequest(msgspec.Struct, gc=False):
    """A request that fits its model. Every array has ``rows`` rows."""

    feeds: dict[str, NDArray[Any]]
    rows: int
    id: str | None
    at_ms: int | None
    ids: list[str] | None
    outputs: tuple[str, ...] | None
    row: list[Any] | None
    """The values of the only row, in the manifest's order of inputs; None for several rows."""


# Arrays by input, rows, and the values of the only row.
_Read = tuple[dict[str, "NDArray[Any]"], int, "list[Any] | None"]


class InputSchema:
    """Decodes request bodies for one model.

    Args:
        manifest: states the inputs and outputs.
        max_rows: a request with more is refused.
    """

    def __init__(self, manifest: Manifest, *, max_rows: int) -> None:
        self._title = manifest.title
        self._max_rows = max_rows
        self._inputs = {tensor.name: _InputSpec(tensor) for tensor in manifest.inputs}
        self._outputs = frozenset(output.name for output in manifest.outputs)
        self._decoder = msgspec.json.Decoder(_Body)
        kinds = {tensor.datatype for tensor in manifest.inputs}
        self._typed = _typed_decoder(kinds.pop()) if len(kinds) == 1 else None
        self._only = next(iter(self._inputs.values())) if len(self._inputs) == 1 else None

    def decode(self, body: bytes) -> InferRequest:
        """Return the request in ``body``.

        Raises:
            RequestError: not JSON, not an inference request, or not one for this model.
        """
        message = self._message(body)
        inputs = message.inputs
        found = None
        if self._only is not None and len(inputs) == 1:
            found = self._only.read_row(inputs[0])
        feeds, rows, row = found or self._read(inputs)
        parameters = message.parameters
        at_ms = None
        ids = None
        if parameters is not None:
            if parameters.timestamp is not None:
                at_ms = _event_time(parameters.timestamp)
            if parameters.ids is not None:
                ids = _prediction_ids(parameters.ids, rows)
        outputs = message.outputs
        return InferRequest(
            feeds,
            rows,
            message.id,
            at_ms,
            ids,
            None if outputs is None else self._chosen(outputs),
            row,
        )

    def _message(self, body: bytes) -> _Body:
        if self._typed is not None:
            try:
                return self._typed.decode(body)
            except _DECODE_ERRORS:
                pass  # nested, or wrong: read each input's data by itself
        try:
            return self._decoder.decode(body)
        except _DECODE_ERRORS as error:
            raise _not_a_request(body, error) from error

    def _read(self, inputs: list[_Input]) -> _Read:
        """Return every input's array, their number of rows, and the values of the only row."""
        feeds: dict[str, NDArray[Any]] = {}
        values: dict[str, list[Any]] = {}
        rows = -1
        for item in inputs:
            name = item.name
            spec = self._inputs.get(name)
            if spec is None:
                raise self._unknown_input(name)
            if name in feeds:
                msg = f"input {name!r} is given twice"
                raise RequestError(msg, code="request.input", hint="give each input once")
            count = spec.rows(item)
            if count != rows:
                if rows >= 0:
                    msg = f"input {name!r} has {count} rows, the inputs before it have {rows}"
                    raise RequestError(
                        msg, code="request.shape", hint="all inputs of a request have equal rows"
                    )
                if count > self._max_rows:
                    msg = f"the request has {count} rows, {self._max_rows} are allowed"
                    raise RequestError(msg, code="request.rows", hint="send it in several requests")
                rows = count
            feeds[name], values[name] = spec.read(item, count)
        if len(feeds) != len(self._inputs):
            missing = ", ".join(repr(name) for name in self._inputs if name not in feeds)
            msg = f"missing input: {missing} of {self._title}"
            raise RequestError(
                msg, code="request.input", hint="GET the model's metadata for its inputs"
            )
        if rows != 1:
            return feeds, rows, None
        if len(values) == 1:
            return feeds, rows, values[name]
        return feeds, rows, [value for known in self._inputs for value in values[known]]

    def _chosen(self, outputs: list[_Output]) -> tuple[str, ...]:
        for output in outputs:
            if output.name not in self._outputs:
                known = ", ".join(sorted(self._outputs))
                msg = f"{self._title} has no output {output.name!r}"
                raise RequestError(msg, code="request.output", hint=f"its outputs: {known}")
        return tuple(output.name for output in outputs)

    def _unknown_input(self, name: str) -> RequestError:
        known = ", ".join(self._inputs)
        return RequestError(
            f"{self._title} has no input {name[:80]!r}",
            code="request.input",
            hint=f"its inputs: {known[:400]}",
        )


class _InputSpec:
    """Reads one input's data into an array of its datatype and shape."""

    def __init__(self, tensor: Tensor) -> None:
        self._tensor = tensor
        self._name, self._datatype = tensor.name, tensor.datatype
        self._tail = tuple(tensor.shape[1:])
        self._rank = len(tensor.shape)
        self._width = int(np.prod(self._tail, dtype=np.int64)) if self._tail else 1
        self._dtype = DTYPES[tensor.datatype]
        self._decoder: msgspec.json.Decoder[list[Any]] = msgspec.json.Decoder(
            _ELEMENTS[tensor.datatype]
        )
        self._missing: str | float = "" if tensor.datatype == "BYTES" else float("nan")
        self._flat = self._tail == ()
        self._single = (1, *self._tail)
        code = _PACKED.get(tensor.datatype)
        fits = code is not None and self._width <= _MAX_PACKED
        self._pack = struct.Struct(f"={self._width}{code}").pack if fits else None

    def rows(self, item: _Input) -> int:
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

    def read_row(self, item: _Input) -> _Read | None:
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
            return None  # a null, or a number beyond float32
        return {item.name: array}, 1, data

    def read(self, item: _Input, rows: int) -> tuple[NDArray[Any], list[Any]]:
        """Return the data as ``(rows, …)``, and flat."""
        data: Any = item.data
        values = data if isinstance(data, list) else self._values(data, item.name, rows)
        if rows == 1 and len(values) == self._width and self._pack is not None:
            try:
                return np.ndarray(self._single, self._dtype, self._pack(*values)), values
            except (struct.error, OverflowError):
                pass  # a null, or a number beyond float32
        if len(values) != rows * self._width:
            msg = f"input {item.name!r} has {len(values)} elements, its shape {list(item.shape)} states {rows * self._width}"
            raise RequestError(msg, code="request.shape", hint="make data and shape agree")
        if None in values:
            values = [self._missing if value is None else value for value in values]
        try:
            # A number beyond float32 becomes an infinity, which the profile counts as one.
            with np.errstate(over="ignore"):
                array = np.array(values, self._dtype)
        except (OverflowError, ValueError) as error:
            msg = f"input {item.name!r} has a number that {item.datatype} cannot hold"
            raise RequestError(msg, code="request.data", hint="check the value's range") from error
        return (array if self._flat else array.reshape(rows, *self._tail)), values

    def _values(self, raw: msgspec.Raw, name: str, rows: int) -> list[Any]:
        if not raw:
            msg = f"input {name!r} has no data"
            raise RequestError(
                msg, code="request.data", hint="send JSON data; the binary extension is not served"
            )
        try:
            return self._decoder.decode(raw)
        except _DECODE_ERRORS:
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
            flat: list[Any] = msgspec.convert(level, _ELEMENTS[self._tensor.datatype])
        except _DECODE_ERRORS as error:
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


def _not_a_request(body: bytes, error: Exception) -> RequestError:
    hint = 'send {"inputs": [{"name", "shape", "datatype", "data"}]}'
    if not body:
        return RequestError("the request has no body", code="request.json", hint=hint)
    if isinstance(error, msgspec.ValidationError):
        return RequestError(f"not an inference request: {error}", code="request.format", hint=hint)
    return RequestError(f"the body is not JSON: {str(error)[:200]}", code="request.json", hint=hint)


def _event_time(value: int | datetime) -> int:
    if isinstance(value, datetime):
        if value.tzinfo is None:
            msg = f"timestamp {value.isoformat()} has no offset from UTC"
            raise RequestError(msg, code="request.timestamp", hint="end it with Z or +01:00")
        value = int(value.timestamp() * 1000)
    if not _MIN_TIME_MS <= value < _MAX_TIME_MS:
        msg = f"timestamp {value} is not a time between 1990 and 2200"
        raise RequestError(
            msg, code="request.timestamp", hint="give RFC 3339, or milliseconds since 1970"
        )
    return value


def _prediction_ids(values: list[str | int], rows: int) -> list[str]:
    if len(values) != rows:
        msg = f"{len(values)} prediction ids for {rows} rows"
        raise RequestError(msg, code="request.ids", hint="give one id per row, or none")
    ids = [str(value) for value in values]
    if any(not 0 < len(text) <= _MAX_ID_CHARS for text in ids):
        msg = f"a prediction id is empty or longer than {_MAX_ID_CHARS} characters"
        raise RequestError(msg, code="request.ids")
    return ids
