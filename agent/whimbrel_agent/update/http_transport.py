"""A repository behind http or https, on the standard library's client."""

from __future__ import annotations

import contextlib
import http.client
import ssl
import urllib.error
import urllib.request
from typing import IO, TYPE_CHECKING
from urllib.parse import quote, urlsplit

from whimbrel_agent import __version__
from whimbrel_agent.update.transport import CHUNK, NotInRepositoryError, RestartError
from whimbrel_core.errors import InputError, UnavailableError

if TYPE_CHECKING:
    from collections.abc import Iterator

_PARTIAL, _NOT_FOUND, _RANGE = 206, 404, 416


class HttpTransport:
    """A repository behind http or https; continues a broken download by Range."""

    def __init__(self, url: str, *, ca: str = "", timeout_s: float = 30.0) -> None:
        parts = urlsplit(url)
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            msg = f"repository {url!r} is not an http(s) address"
            raise InputError(msg, code="repository.url", hint="see repository.url in agent.toml")
        self._base = url.rstrip("/") + "/"
        self._timeout_s = timeout_s
        context = ssl.create_default_context()
        if ca:
            try:
                context.load_verify_locations(ca)
            except (OSError, ssl.SSLError) as error:
                msg = f"repository.ca {ca} cannot be used: {error}"
                raise InputError(msg, code="repository.ca") from error
        # No redirects to other schemes (file:, ftp:): only these two handlers exist.
        self._opener = urllib.request.OpenerDirector()
        for handler in (
            urllib.request.ProxyHandler(),
            urllib.request.HTTPHandler(),
            urllib.request.HTTPSHandler(context=context),
            urllib.request.HTTPDefaultErrorHandler(),
            urllib.request.HTTPErrorProcessor(),
            urllib.request.HTTPRedirectHandler(),
        ):
            self._opener.add_handler(handler)

    def chunks(self, path: str, offset: int = 0) -> Iterator[bytes]:
        """Yield the bytes of ``path`` from ``offset`` on; see `Transport`."""
        request = urllib.request.Request(  # noqa: S310 - the scheme was checked
            self._base + quote(path), headers={"User-Agent": f"whimbrel-agent/{__version__}"}
        )
        if offset:
            request.add_header("Range", f"bytes={offset}-")
        with contextlib.ExitStack() as stack:
            try:
                response: IO[bytes] = self._opener.open(request, timeout=self._timeout_s)
                stack.callback(response.close)
                self._check_range(response, path, offset)
                while piece := response.read(CHUNK):
                    yield piece
            except urllib.error.HTTPError as error:
                stack.callback(error.close)
                raise self._http_error(error, path) from error
            except (OSError, http.client.HTTPException) as error:
                msg = f"repository {self._base}: {path}: {getattr(error, 'reason', error) or type(error).__name__}"
                raise UnavailableError(
                    msg,
                    code="repository.unavailable",
                    hint="what serves goes on serving; this is tried again",
                ) from error

    def _check_range(self, response: IO[bytes], path: str, offset: int) -> None:
        status = getattr(response, "status", 0)
        stated = getattr(response, "headers", {}).get("Content-Range", "")
        if offset and (status != _PARTIAL or not stated.startswith(f"bytes {offset}-")):
            msg = f"{self._base}{path} cannot be continued from byte {offset}"
            raise RestartError(msg)

    def _http_error(self, error: urllib.error.HTTPError, path: str) -> UnavailableError:
        if error.code == _NOT_FOUND:
            msg = f"repository {self._base} has no {path}"
            return NotInRepositoryError(msg)
        if error.code == _RANGE:
            msg = f"{self._base}{path} cannot be continued from there"
            return RestartError(msg)
        msg = f"repository {self._base}: {path}: HTTP {error.code} {error.reason}"
        return UnavailableError(msg, code="repository.unavailable")
