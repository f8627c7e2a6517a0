"""HTTP with our errors: who does not answer, who does not let us in, and what was said.

One small layer over ``urllib3`` for the fleet server and for registries. What may be sent twice is
tried again; whoever asks for patience (429, 503 with ``Retry-After``) gets it.
"""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import urlsplit

import urllib3
from urllib3.exceptions import HTTPError, MaxRetryError, SSLError
from urllib3.util import Retry, Timeout

from whimbrel_core.errors import InputError, UnavailableError, UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping

_ATTEMPTS = 4
_CONNECT_S, _READ_S = 10.0, 120.0
_PATIENCE_S = 60
_REPEATABLE = frozenset({"GET", "HEAD", "PUT"})
_BUSY = frozenset({429, 502, 503, 504})
LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})


class Answer(NamedTuple):
    """A response, read whole."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def good(self) -> bool:
        """Whether it is a success."""
        return 200 <= self.status < 300  # noqa: PLR2004 - what HTTP calls a success


class Http:
    """Asks one place; addresses may lead elsewhere, as uploads and tokens of registries do.

    Args:
        base: its address, without a path at the end.
        what: the place's name in messages.
        limit_bytes: the longest answer that is read.
    """

    def __init__(self, base: str, *, what: str, limit_bytes: int = 4 << 30) -> None:
        parts = urlsplit(base)
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            raise UsageError(
                f"{base!r} is not the address of a server", hint="give it as https://HOST:PORT"
            )
        self.base, self.what, self._limit_bytes = base.rstrip("/"), what, limit_bytes
        self.host = parts.hostname
        self._pool = urllib3.PoolManager(
            timeout=Timeout(connect=_CONNECT_S, read=_READ_S),
            retries=Retry(
                total=_ATTEMPTS,
                allowed_methods=_REPEATABLE,
                status_forcelist=_BUSY,
                backoff_factor=0.2,
                retry_after_max=_PATIENCE_S,
                raise_on_status=False,
                raise_on_redirect=False,
                # A token goes to the host that it is for, and nowhere else.
                remove_headers_on_redirect={"Authorization"},
            ),
        )

    def ask(
        self,
        method: str,
        path: str,
        *,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """Return the answer, whatever its status.

        Args:
            method: of HTTP.
            path: below the address, or an address of its own.
            body: to be sent.
            headers: beside what HTTP needs.

        Raises:
            UnavailableError: nobody answers, or not in time.
            InputError: the answer is longer than the limit.
        """
        url = path if path.startswith(("http://", "https://")) else self.base + path
        try:
            answer = self._pool.request(
                method, url, body=body, headers=dict(headers or {}), preload_content=False
            )
            content = b"" if method == "HEAD" else answer.read(self._limit_bytes + 1)
            if len(content) > self._limit_bytes:
                answer.close()
            else:
                answer.release_conn()
        except HTTPError as error:
            raise self._away(error) from error
        if len(content) > self._limit_bytes:
            raise InputError(f"{self.what} answered with more than {self._limit_bytes} bytes")
        return Answer(answer.status, {k.lower(): v for k, v in answer.headers.items()}, content)

    def _away(self, error: HTTPError) -> UnavailableError:
        reason = error.reason if isinstance(error, MaxRetryError) else error
        if isinstance(reason, (SSLError, ssl.SSLError)):
            return UnavailableError(
                f"{self.what} cannot be trusted: {reason}",
                hint="name the authority's certificate in SSL_CERT_FILE, or give the right host",
                code="unavailable.tls",
            )
        return UnavailableError(
            f"{self.what} does not answer: {_short(reason)}; nothing of yours is visible there",
            hint="is it running, and reachable from here? publish again: it goes on where it "
            "stopped",
        )


def _short(error: BaseException | None) -> str:
    text = str(error).rpartition(": ")[2] or type(error).__name__
    return text[:200]
