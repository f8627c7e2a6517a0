"""HTTP/1.1 on one connection: bytes in, requests to the routes, responses in their order.

Built for many small requests on connections that stay: one read buffer for the whole worker
(asyncio's own would allocate a quarter of a megabyte per read), one write per read, no task and
no future per request. Pipelined requests are answered in order; a client that sends faster than
it reads is read no further.

A head that is known is not parsed again (`whimbrel_agent.serving.heads`); what is parsed is held
against the limits as it comes in (`whimbrel_agent.serving.incoming`).

Whatever bytes arrive, the answer is a response or the end of the connection: a limit passed or a
request that is not HTTP is answered once, with an error, and the connection is closed after the
client had time to read it.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from time import perf_counter
from typing import TYPE_CHECKING, cast

import httptools

from whimbrel_agent.serving import http
from whimbrel_agent.serving.heads import END_OF_HEAD, KnownHeads
from whimbrel_agent.serving.incoming import Incoming
from whimbrel_core.errors import RequestError, UnavailableError, WhimbrelError

if TYPE_CHECKING:
    from whimbrel_agent.channel import ServingSettings
    from whimbrel_agent.serving.routes import InferRoute, Routes

_READ_BYTES = 256 * 1024
_MAX_PIPELINED = 64
# How long a connection that was refused in mid-request is drained, so that its client gets to
# read why: closing with unread bytes sends a reset, which may overtake the answer.
_LINGER_S = 1.0
_log = logging.getLogger("whimbrel.serving")


class Shared:
    """What the connections of one worker have in common.

    Args:
        routes: answer the requests.
        settings: limits.
    """

    def __init__(self, routes: Routes, settings: ServingSettings) -> None:
        self.routes = routes
        self.settings = settings
        self.buffer = memoryview(bytearray(_READ_BYTES))
        self.heads = KnownHeads()
        self.connections: set[Connection] = set()
        self.draining = False
        self.idle = asyncio.Event()
        self.served = 0


class _Pending:
    """The place of a response in its connection's order, filled later."""

    __slots__ = ("connection", "data", "keep_alive")

    def __init__(self, connection: Connection, *, keep_alive: bool) -> None:
        self.connection = connection
        self.keep_alive = keep_alive
        self.data: bytes | None = None

    def resolve(self, answer: bytes | WhimbrelError) -> None:
        # A drained worker closes after the last answer that this connection waits for.
        keep_alive = self.keep_alive and not (
            self.connection.shared.draining and self.connection.is_last(self)
        )
        self.keep_alive = keep_alive
        if isinstance(answer, WhimbrelError):
            self.data = http.error_response(answer, keep_alive=keep_alive)
        else:
            self.data = http.OK.response(answer, keep_alive=keep_alive)
        self.connection.send_ready()


class Connection(Incoming, asyncio.BufferedProtocol):
    """One client.

    Args:
        shared: of the worker.
    """

    def __init__(self, shared: Shared) -> None:
        super().__init__(shared.settings)
        self.shared = shared
        self.last_active = 0.0
        self._transport: asyncio.Transport | None = None
        self._out: list[bytes] = []
        self._queue: deque[_Pending] = deque()
        self._plain: InferRoute | None = None
        self._paused = False

    # asyncio.BufferedProtocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the client in, or turn it away when there are too many."""
        self._transport = cast("asyncio.Transport", transport)
        shared = self.shared
        shared.connections.add(self)
        self.last_active = perf_counter()
        if len(shared.connections) > shared.settings.max_connections:
            self._close_with(
                UnavailableError(
                    f"{shared.settings.max_connections} connections are open, no more are served",
                    hint="keep connections alive, or raise max_connections",
                )
            )

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's
        """Forget the client."""
        self.shared.connections.discard(self)
        if self.shared.draining and not self.shared.connections:
            self.shared.idle.set()
        self._transport = None
        self._queue.clear()

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002 - asyncio's
        """Lend the worker's read buffer; `buffer_updated` is called before anybody else reads."""
        return self.shared.buffer

    def buffer_updated(self, nbytes: int) -> None:
        """Parse what came; answer what is complete."""
        if self._closing:
            return
        self.last_active = perf_counter()
        if self._in_message or not self._answer_known(nbytes):
            self._parse(nbytes)
        out = self._out
        if out:
            self._out = []
            if self._transport is not None:
                self._transport.write(out[0] if len(out) == 1 else b"".join(out))
        if self._refusal is not None or self._closing:
            self._finish()

    def _answer_known(self, nbytes: int) -> bool:
        """Answer what came if it is one request, whole, with a head that is known."""
        shared = self.shared
        data = bytes(shared.buffer[:nbytes])
        end = data.find(END_OF_HEAD) + len(END_OF_HEAD)
        known = shared.heads.get(data[:end])
        if known is None or nbytes - end != known.body_bytes or shared.draining:
            return False
        shared.served += 1
        self._infer(known.route, data[end:], keep_alive=True)
        return True

    def _parse(self, nbytes: int) -> None:
        shared = self.shared
        fresh = not self._in_message
        self._wire_bytes += nbytes
        try:
            self._feed(shared.buffer[:nbytes])
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            self._on_parser_error(error)
            return
        finally:
            if self._in_message:
                self._check_unfinished()
        if fresh and self._plain is not None:
            shared.heads.remember(shared.buffer, nbytes, self._plain, self._body_bytes)
        self._plain = None

    def _finish(self) -> None:
        """Refuse what was found wrong; end what is to be ended."""
        if self._closing:
            self._end()
        elif self._refusal is not None:
            self._close_with(self._refusal)

    def eof_received(self) -> bool:
        """Answer what is in flight before the connection is closed."""
        if self._queue:
            self._closing = True
            return True
        return False

    def pause_writing(self) -> None:
        """Stop reading from a client that does not read."""
        self._paused = True
        if self._transport is not None and not self._transport.is_closing():
            self._transport.pause_reading()

    def resume_writing(self) -> None:
        """Read on."""
        self._paused = False
        self._resume_if_room()

    # a request is in

    def invite(self) -> None:
        """Ask for the body, unless other answers come first."""
        if not self._queue:
            self._out.append(http.CONTINUE)

    def on_message_complete(self) -> None:
        """Answer the request, or queue its answer."""
        self._in_message = False
        self._wire_bytes = 0
        if self._closing or self._refusal is not None:
            return
        parser = self._parser
        shared = self.shared
        keep_alive = parser.should_keep_alive() and not shared.draining
        body = self._body if isinstance(self._body, bytes) else b"".join(self._body)
        self._body = b""
        method = parser.get_method()
        shared.served += 1
        infer = shared.routes.infer.get(self._url) if method == b"POST" else None
        if infer is not None:
            if keep_alive and body and not self._expects:
                self._plain = infer
            self._infer(infer, body, keep_alive=keep_alive)
        else:
            try:
                data = shared.routes.respond(method, self._url, body, keep_alive=keep_alive)
            except Exception as error:  # noqa: BLE001 - the boundary
                data = _failure(error, keep_alive=keep_alive)
            self._deliver(data, keep_alive=keep_alive)
        if not keep_alive:
            self._closing = True

    def _infer(self, route: InferRoute, body: bytes, *, keep_alive: bool) -> None:
        """Answer an inference request, or queue its answer."""
        if route.batcher is not None:
            self._submit(route, body, keep_alive=keep_alive)
            return
        try:
            data = http.OK.response(route.service.answer(body), keep_alive=keep_alive)
        except Exception as error:  # noqa: BLE001 - the boundary
            data = _failure(error, keep_alive=keep_alive)
        self._deliver(data, keep_alive=keep_alive)

    # answers

    def send_ready(self) -> None:
        """Write the answers at the head of the queue that are there."""
        ready = []
        queue = self._queue
        while queue and queue[0].data is not None:
            pending = queue.popleft()
            ready.append(pending.data or b"")
            if not pending.keep_alive:
                self._closing = True
                queue.clear()
        if not ready or self._transport is None:
            return
        self._transport.write(b"".join(ready))
        if self._closing:
            self._end()
        else:
            self._resume_if_room()

    def is_last(self, pending: _Pending) -> bool:
        """Return whether no answer is queued after ``pending``."""
        return bool(self._queue) and self._queue[-1] is pending

    def close_if_idle(self) -> None:
        """Close the connection when nothing is in flight on it."""
        if not self._in_message and not self._queue and self._transport is not None:
            self._transport.close()

    def close_if_stalled(self, now: float, *, idle_s: float, request_s: float) -> None:
        """Close the connection when its client has been silent for too long."""
        silent = now - self.last_active
        if self._queue or self._transport is None:
            return
        if self._in_message and silent > request_s:
            self._close_with(
                RequestError(
                    f"the rest of the request did not come for {request_s:.0f} s",
                    code="request.timeout",
                )
            )
        elif silent > idle_s:
            self._transport.close()

    def _submit(self, route: InferRoute, body: bytes, *, keep_alive: bool) -> None:
        pending = _Pending(self, keep_alive=keep_alive)
        self._queue.append(pending)
        started = perf_counter()
        try:
            request = route.service.decode(body)
        except RequestError as error:
            pending.resolve(error)
            return
        if route.batcher is not None:
            route.batcher.submit(request, started, pending)
        if len(self._queue) >= _MAX_PIPELINED and self._transport is not None:
            self._transport.pause_reading()

    def _deliver(self, data: bytes, *, keep_alive: bool) -> None:
        if self._queue:
            # An earlier request on this connection is still being computed: keep the order.
            pending = _Pending(self, keep_alive=keep_alive)
            pending.data = data
            self._queue.append(pending)
        else:
            self._out.append(data)

    def _resume_if_room(self) -> None:
        transport = self._transport
        if (
            transport is not None
            and not self._paused
            and len(self._queue) < _MAX_PIPELINED
            and not transport.is_closing()
        ):
            transport.resume_reading()

    def _close_with(self, error: WhimbrelError) -> None:
        """Answer ``error`` after what is in flight, and end."""
        route = self.shared.routes.infer.get(self._url)
        if route is not None and isinstance(error, RequestError):
            route.service.count_rejected(error)
        data = http.error_response(error, keep_alive=False)
        if self._queue:
            pending = _Pending(self, keep_alive=False)
            pending.data = data
            self._queue.append(pending)
            self._closing = True
            return
        if self._transport is not None:
            self._transport.write(data)
        self._closing = True
        self._end()

    def _end(self) -> None:
        """Close once nothing is in flight, leaving the client time to read."""
        transport = self._transport
        if transport is None or self._queue or transport.is_closing():
            return
        if self._refusal is None:
            transport.close()
            return
        if transport.can_write_eof():
            transport.write_eof()
        asyncio.get_running_loop().call_later(_LINGER_S, transport.close)


def _failure(error: Exception, *, keep_alive: bool) -> bytes:
    """Return the response to a request that failed; a fault of ours is logged, not spread."""
    if not isinstance(error, WhimbrelError):
        _log.error("a request failed inside the worker; serving goes on", exc_info=error)
        error = WhimbrelError(
            f"the worker failed on this request: {type(error).__name__}",
            code="worker.fault",
            hint="see the agent's log",
        )
    return http.error_response(error, keep_alive=keep_alive)
