"""HTTP/1.1 responses as bytes: heads prepared once, errors as JSON with a code and a hint."""

from __future__ import annotations

import time

import msgspec

from whimbrel_agent.serving.engine import ModelFailedError
from whimbrel_core.errors import RequestError, WhimbrelError

REASONS = {
    200: "OK",
    400: "Bad Request",
    404: "Not Found",
    405: "Method Not Allowed",
    408: "Request Timeout",
    413: "Content Too Large",
    415: "Unsupported Media Type",
    431: "Request Header Fields Too Large",
    500: "Internal Server Error",
    503: "Service Unavailable",
}
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
JSON = b"application/json"
PROMETHEUS = b"text/plain; version=0.0.4; charset=utf-8"

_STATUS_OF = {
    "request.size": 413,
    "request.headers": 431,
    "request.encoding": 415,
    "request.not_found": 404,
    "request.slot": 404,
    "request.version": 404,
    "request.method": 405,
    "request.timeout": 408,
    "unavailable": 503,
}
_DAYS = (b"Mon", b"Tue", b"Wed", b"Thu", b"Fri", b"Sat", b"Sun")
_MONTHS = tuple(b"Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec".split())
_END = b"\r\n\r\n"
_END_AND_CLOSE = b"\r\nconnection: close\r\n\r\n"


class _DateLine:
    """The ``date`` header, formatted at most once a second (RFC 9110, 6.6.1)."""

    def __init__(self) -> None:
        self._line = b""
        self._valid_until = 0.0

    def get(self) -> bytes:
        now = time.time()
        if not self._valid_until - 1 <= now < self._valid_until:
            self._line = b"date: %b\r\n" % http_date(now)
            self._valid_until = int(now) + 1
        return self._line


_DATE = _DateLine()


def http_date(seconds: float) -> bytes:
    """Return a time since 1970 as HTTP writes it (RFC 9110, 5.6.7), whatever the locale.

    >>> http_date(784111777)
    b'Sun, 06 Nov 1994 08:49:37 GMT'
    """
    at = time.gmtime(seconds)
    return b"%b, %02d %b %04d %02d:%02d:%02d GMT" % (
        _DAYS[at.tm_wday],
        at.tm_mday,
        _MONTHS[at.tm_mon - 1],
        at.tm_year,
        at.tm_hour,
        at.tm_min,
        at.tm_sec,
    )


class Head:
    """The unchanging part of a response's head: status and content type."""

    def __init__(self, status: int, content_type: bytes = JSON, extra: bytes = b"") -> None:
        self._start = b"HTTP/1.1 %d %s\r\ncontent-type: %s\r\n%s" % (
            status,
            REASONS[status].encode("ascii"),
            content_type,
            extra,
        )

    def response(self, body: bytes, *, keep_alive: bool) -> bytes:
        """Return the whole response."""
        return b"%b%bcontent-length: %d%b%b" % (
            self._start,
            _DATE.get(),
            len(body),
            _END if keep_alive else _END_AND_CLOSE,
            body,
        )

    def without_body(self, body: bytes, *, keep_alive: bool) -> bytes:
        """Return the response to HEAD: what GET would say, without saying it."""
        whole = self.response(body, keep_alive=keep_alive)
        return whole[: len(whole) - len(body)]


OK = Head(200)
METRICS = Head(200, PROMETHEUS)
_HEADS = {status: Head(status) for status in REASONS if status not in {200, 405, 503}}
_HEADS[405] = Head(405, extra=b"allow: GET, HEAD, POST\r\n")
_HEADS[503] = Head(503, extra=b"retry-after: 1\r\n")


def status_of(error: WhimbrelError) -> int:
    """Return the HTTP status for ``error``."""
    if isinstance(error, ModelFailedError):
        return 500
    if error.code in _STATUS_OF:
        return _STATUS_OF[error.code]
    return 400 if isinstance(error, RequestError) else 500


def error_response(error: WhimbrelError, *, keep_alive: bool) -> bytes:
    """Return ``error`` as a response: ``{"error": sentence, "code": …, "hint": …}``."""
    body = msgspec.json.encode({"error": error.message, "code": error.code, "hint": error.hint})
    return _HEADS[status_of(error)].response(body, keep_alive=keep_alive)
