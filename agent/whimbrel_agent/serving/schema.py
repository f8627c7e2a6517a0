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

from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any, cast

import msgspec

from whimbrel_agent.serving.inputs import DECODE_ERRORS, ELEMENTS, Input, InputSpec
from whimbrel_core.errors import RequestError

if TYPE_CHECKING:
    from numpy.typing import NDArray  # noqa: TC004 - never decoded, so never evaluated

    from whimbrel_agent.serving.inputs import Read
    from whimbrel_core.bundle.manifest import Datatype, Manifest

# Event time outside of these is a unit mistaken (seconds, microseconds) or a clock never set.
_MIN_TIME_MS = int(datetime(1990, 1, 1, tzinfo=timezone.utc).timestamp() * 1000)
_MAX_TIME_MS = int(datetime(2200, 1, 1, tzinfo=timezone.utc).timestamp() * 1000)
_MAX_ID_CHARS = 256


class _Parameters(msgspec.Struct, gc=False):
    timestamp: int | datetime | None = None
    ids: list[str | int] | None = None


class _Output(msgspec.Struct, gc=False):
    name: str


class _Body(msgspec.Struct, gc=False):
    inputs: list[Input]
    id: str | None = None
    parameters: _Parameters | None = None
    outputs: list[_Output] | None = None


def _typed_decoder(datatype: Datatype) -> msgspec.json.Decoder[_Body]:
    """Return a decoder of bodies whose data are flat lists of ``datatype``, all in one pass."""
    typed = msgspec.defstruct(
        "_TypedInput",
        [
            ("name", str),
            ("shape", tuple[int, ...]),
            ("datatype", str),
            ("data", ELEMENTS[datatype]),
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


class InputSchema:
    """Decodes request bodies for one model.

    Args:
        manifest: states the inputs and outputs.
        max_rows: a request with more is refused.
    """

    def __init__(self, manifest: Manifest, *, max_rows: int) -> None:
        self._title = manifest.title
        self._max_rows = max_rows
        self._inputs = {tensor.name: InputSpec(tensor) for tensor in manifest.inputs}
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
            except DECODE_ERRORS:
                pass  # nested, or wrong: read each input's data by itself
        try:
            return self._decoder.decode(body)
        except DECODE_ERRORS as error:
            raise _not_a_request(body, error) from error

    def _read(self, inputs: list[Input]) -> Read:
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
