"""The worker's end of the channel to control."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING, cast

from whimbrel_agent.channel import (
    FrameDecoder,
    FromWorker,
    Judgement,
    Start,
    ToWorker,
    encode_frame,
)
from whimbrel_core.errors import WireError

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

_MAX_UNREAD_BYTES = 64 * 1024
_SEND_S = 1.0
_log = logging.getLogger("whimbrel.worker")


class Link(asyncio.Protocol):
    """What is said to control, and what control says, once the first frame has been read.

    Args:
        receive: called with each message.
        lost: called when control is gone, or cannot be understood.
    """

    def __init__(self, receive: Callable[[ToWorker], None], lost: Callable[[], None]) -> None:
        self._receive, self._lost = receive, lost
        self._decoder: FrameDecoder[ToWorker] = FrameDecoder(ToWorker)
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the channel."""
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """Hand on what control says."""
        try:
            for message in self._decoder.feed(data):
                self._receive(message)
        except WireError as error:
            _log.error("control cannot be understood (%s); draining", error)
            if self._transport is not None:
                self._transport.close()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's
        """Say that control is gone."""
        self._lost()

    def send(self, message: FromWorker) -> None:
        """Tell control; a control that does not read misses judgements, never blocks serving."""
        transport = self._transport
        if transport is None or transport.is_closing():
            return
        unread = transport.get_write_buffer_size()
        if unread > _MAX_UNREAD_BYTES and isinstance(message, Judgement):
            return
        transport.write(encode_frame(message))

    async def close(self) -> None:
        """Close the channel once what was said is on its way, or has waited for a second."""
        transport = self._transport
        deadline = time.monotonic() + _SEND_S
        # A transport cannot be awaited until it is empty.
        while (  # noqa: ASYNC110
            transport is not None
            and transport.get_write_buffer_size()
            and time.monotonic() < deadline
        ):
            await asyncio.sleep(0.01)
        if transport is not None:
            transport.close()


def receive_start(channel: socket.socket) -> Start | None:
    """Return control's first frame, or None when there is none."""
    decoder: FrameDecoder[ToWorker] = FrameDecoder(ToWorker)
    channel.setblocking(True)  # noqa: FBT003 - the socket's own API
    try:
        while data := channel.recv(65536):
            for message in decoder.feed(data):
                if isinstance(message, Start):
                    return message
                _log.error("control must begin with Start, not %s", type(message).__name__)
                return None
    except WireError as error:
        _log.error("control cannot be understood: %s", error)
        return None
    _log.error("control closed the channel before Start")
    return None
