"""How bytes of a repository are read: over HTTP with Range (`http_transport`), or from a folder.

One small port, `chunks`, gives a stream from an offset on. Every foreign exception becomes one of
ours; sizes and times are bounded by the caller and there.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from whimbrel_core.errors import InputError, UnavailableError

if TYPE_CHECKING:
    from collections.abc import Iterator

CHUNK = 64 * 1024


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


def transport(url: str, *, ca: str = "", timeout_s: float = 30.0) -> Transport:
    """Return the transport for a repository's ``url`` (http, https, or a folder's path)."""
    if url.startswith(("http://", "https://")):
        # Control, which only moves files, does without the 30 ms and 5 MB of an HTTP client.
        from whimbrel_agent.update.http_transport import HttpTransport

        return HttpTransport(url, ca=ca, timeout_s=timeout_s)
    return FolderTransport(url)
