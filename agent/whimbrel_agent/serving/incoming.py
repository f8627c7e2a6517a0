"""The request that comes in on a connection: what the parser finds, held against the limits.

A limit that is passed, an encoding that is not served and bytes that are not HTTP are remembered as
a refusal, the first one alone; whoever has the connection answers it and closes.
"""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

import httptools

from whimbrel_core.errors import RequestError

if TYPE_CHECKING:
    from whimbrel_agent.channel import ServingSettings

_LENGTHS_THAT_MATTER = frozenset(
    map(len, ("expect", "content-encoding", "inference-header-content-length"))
)
_log = logging.getLogger("whimbrel.serving")


class Incoming(ABC):
    """What has come of a request so far. A base class, so that nothing is handed on per request.

    Args:
        settings: limits.
    """

    def __init__(self, settings: ServingSettings) -> None:
        self._parser = httptools.HttpRequestParser(self)
        self._feed = self._parser.feed_data
        self._url = b""
        self._body: bytes | list[bytes] = b""
        self._body_bytes = 0
        self._head_bytes = 0
        self._wire_bytes = 0
        self._in_message = False
        self._in_head = False
        self._refusal: RequestError | None = None
        self._expects = False
        self._closing = False
        self._max_body = settings.max_body_bytes
        self._max_head = settings.max_header_bytes
        # Chunked framing may outweigh the body, but not without end.
        self._max_wire = settings.max_header_bytes + 8 * settings.max_body_bytes

    @abstractmethod
    def invite(self) -> None:
        """Ask a client that waits to be asked for the body."""

    @abstractmethod
    def on_message_complete(self) -> None:
        """Take the request: all of it is here, or it has been refused."""

    # httptools

    def on_message_begin(self) -> None:
        """Begin a request."""
        self._url = b""
        self._body = b""
        self._body_bytes = 0
        self._head_bytes = 0
        self._expects = False
        self._in_message = self._in_head = True

    def on_url(self, url: bytes) -> None:
        """Take a part of the request target."""
        self._url += url
        self._head_bytes += len(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Count a header, and look at it when its name is as long as one that matters."""
        size = len(name)
        self._head_bytes += size + len(value)
        if size in _LENGTHS_THAT_MATTER:
            self._look_at(name.lower(), value)

    def _look_at(self, name: bytes, value: bytes) -> None:
        if name == b"expect":
            self._expects = value.lower() == b"100-continue"
        elif name == b"content-encoding" and value.lower() != b"identity":
            shown = value[:40].decode("latin-1")
            self._refuse(
                f"content-encoding {shown!r} is not served",
                "request.encoding",
                "send the body as it is",
            )
        elif name == b"inference-header-content-length":
            self._refuse(
                "the binary tensor extension is not served", "request.format", "send JSON data"
            )

    def on_headers_complete(self) -> None:
        """Refuse what is too large before it is read; invite what waits to be invited."""
        self._in_head = False
        if self._head_bytes > self._max_head:
            self._refuse_head()
        if self._expects and self._refusal is None:
            self.invite()

    def on_body(self, body: bytes) -> None:
        """Take a part of the body."""
        if self._refusal is not None:
            return
        self._body_bytes += len(body)
        if self._body_bytes > self._max_body:
            self._body = b""
            self._refuse_body()
        elif not self._body:
            self._body = body
        elif isinstance(self._body, list):
            self._body.append(body)
        else:
            self._body = [self._body, body]

    # what is wrong

    def _on_parser_error(self, error: Exception) -> None:
        if self._closing or self._refusal is not None:
            return  # what follows the last answer is not looked at
        if isinstance(error, httptools.HttpParserUpgrade):
            # Answered already, as plain HTTP/1.1; what follows would be another protocol.
            if not self._in_message:
                self._closing = True
                return
            self._refuse("this server speaks HTTP/1.1 only", "request.format")
        elif isinstance(error, httptools.HttpParserCallbackError):
            _log.error("a request failed inside the worker; closing", exc_info=error)
            self._refuse("the worker failed on this request", "worker.fault", "see the agent's log")
        else:
            self._refuse(f"not an HTTP/1.1 request: {error}", "request.http")

    def _check_unfinished(self) -> None:
        """Refuse a request that grows without end."""
        if self._closing or self._refusal is not None:
            return
        if self._in_head and self._wire_bytes > self._max_head:
            self._refuse_head()
        elif self._wire_bytes > self._max_wire:
            self._refuse_body()

    def _refuse(self, message: str, code: str, hint: str | None = None) -> None:
        if self._refusal is None:
            self._refusal = RequestError(message, code=code, hint=hint)

    def _refuse_head(self) -> None:
        self._refuse(
            f"the request's head is larger than {self._max_head} bytes",
            "request.headers",
            "send fewer or shorter headers",
        )

    def _refuse_body(self) -> None:
        self._refuse(
            f"the request's body is larger than {self._max_body} bytes",
            "request.size",
            "send it in several requests",
        )
