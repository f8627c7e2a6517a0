"""How bytes of a repository are read: over HTTP with Range, or from a folder.

One small port, `open`, returns a stream from an offset on. Every foreign exception becomes one
of ours; sizes and times are bounded by the caller and here.
"""

from __future__ import annotations

import contextlib
import http.client
import ssl
import urllib.error
import urllib.request
from pathlib import Path
from typing import IO, TYPE_CHECKING, Protocol
from urllib.parse import quote, urlsplit

from whimbrel_agent import __version__
from whimbrel_core.errors import InputError, UnavailableError

if TYPE_CHECKING:
    from collections.abc import Iterator

CHUNK = 64 * 1024
_PARTIAL, _NOT_FOUND, _RANGE = 206, 404, 416


class NotInRepositoryError(UnavailableError):
    """The repository answers, and has no such file (yet)."""

    default_code = "repository.missing"


class Transport(Protocol):
    """Reads files of a repository by their path."""

    def chunks(self, path: str, offset: int = 0) -> Iterator[bytes]:
        """Yield the bytes of ``path`` from ``offset`` on.

        Where the source cannot begin in the middle, it raises `RestartError`.

        Raises:
            NotInRepositoryError: there is no such file.
            UnavailableError: the source does not answer, or stopped answering.
        """


class RestartError(UnavailableError):
    """The source cannot continue from the middle: begin again at zero."""

    default_code = "repository.range"


class FolderTransport:
    """A repository in a folder: a USB stick, a network mount."""

    def __init__(self, folder: str) -> None:
        self._folder = Path(folder)

    def chunks(self, path: str, offset: int = 0) -> Iterator[bytes]:
        """Yield the bytes of ``path`` from ``offset`` on; see `Transport`."""
        parts = path.split("/")
        if any(part in {"", ".", ".."} for part in parts):
            msg = f"repository path {path!r} is not a plain relative path"
            raise InputError(msg, code="repository.path")
        try:
            with self._folder.joinpath(*parts).open("rb") as file:
                file.seek(offset)
                while piece := file.read(CHUNK):
                    yield piece
        except FileNotFoundError as error:
            if not self._folder.is_dir():
                msg = f"repository folder {self._folder} is not there"
                raise UnavailableError(
                    msg, code="repository.unavailable", hint="is the medium mounted?"
                ) from error
            msg = f"repository {self._folder} has no {path}"
            raise NotInRepositoryError(msg) from error
        except OSError as error:
            msg = f"{path} in {self._folder} cannot be read: {error}"
            raise UnavailableError(msg, code="repository.unavailable") from error


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


def transport(url: str, *, ca: str = "", timeout_s: float = 30.0) -> Transport:
    """Return the transport for a repository's ``url`` (http, https, or a folder's path)."""
    if url.startswith(("http://", "https://")):
        return HttpTransport(url, ca=ca, timeout_s=timeout_s)
    return FolderTransport(url)
