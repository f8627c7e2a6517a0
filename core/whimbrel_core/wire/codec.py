"""Bytes to messages and back, with limits that hold before anything is allocated.

Small things travel on MQTT: a message over `MAX_MESSAGE_BYTES` is refused on both sides.
"""

from __future__ import annotations

from typing import TypeVar

import msgspec

from whimbrel_core import identity
from whimbrel_core.errors import InputError, WireError
from whimbrel_core.wire import messages

MAX_MESSAGE_BYTES = 32 * 1024
MAX_SEQ = (1 << 63) - 1

_ENCODER = msgspec.msgpack.Encoder()
M = TypeVar("M", bound=msgspec.Struct)
_DECODERS: dict[type[msgspec.Struct], msgspec.msgpack.Decoder[msgspec.Struct]] = {
    kind: msgspec.msgpack.Decoder(kind)
    for kind in (
        messages.Life,
        messages.State,
        messages.WindowMessage,
        messages.EventMessage,
        messages.Ack,
        messages.ServerLife,
        messages.Hint,
    )
}


def encode(message: messages.UpMessage | messages.DownMessage) -> bytes:
    """Return ``message`` as msgpack.

    Raises:
        WireError: it would be larger than the protocol allows.
    """
    data = _ENCODER.encode(message)
    if len(data) > MAX_MESSAGE_BYTES:
        msg = f"{type(message).__name__} is {len(data)} bytes, {MAX_MESSAGE_BYTES} are allowed"
        raise WireError(msg, code="wire.limit")
    return data


def decode(kind: type[M], data: bytes | bytearray) -> M:
    """Return the ``kind`` of message in ``data``.

    Raises:
        WireError: too large, malformed, or with a value that the protocol forbids.
    """
    if len(data) > MAX_MESSAGE_BYTES:
        msg = f"{kind.__name__} is {len(data)} bytes, {MAX_MESSAGE_BYTES} are allowed"
        raise WireError(msg, code="wire.limit")
    try:
        message = _DECODERS[kind].decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, OverflowError) as error:
        msg = f"{kind.__name__} message: {error}"
        raise WireError(msg) from error
    _check(message)
    return message  # type: ignore[return-value]


def _check(message: msgspec.Struct) -> None:
    try:
        if isinstance(message, messages.WindowMessage):
            _check_key(message.device, message.epoch, message.seq)
            identity.slot_name(message.slot)
            identity.digest(message.digest)
            identity.digest(message.profile_id)
            if message.end_ms <= message.start_ms or message.rows < 0 or message.merged < 1:
                msg = "window has no duration, or a negative count"
                raise WireError(msg, code="wire.value")
        elif isinstance(message, messages.EventMessage):
            _check_key(message.device, message.epoch, message.seq)
        elif isinstance(message, (messages.Life, messages.State)):
            identity.device_id(message.device)
        elif isinstance(message, messages.Ack):
            identity.epoch(message.epoch)
    except InputError as error:
        if isinstance(error, WireError):
            raise
        raise WireError(error.message, hint=error.hint, code="wire.value") from error


def _check_key(device: str, epoch: str, seq: int) -> None:
    identity.device_id(device)
    identity.epoch(epoch)
    if not 1 <= seq <= MAX_SEQ:
        msg = f"seq {seq} is out of range"
        raise WireError(msg, code="wire.value")
