"""How bytes of a repository are read: over HTTP with Range, or from a folder (`repository_address`).

One small port, `chunks`, gives a stream from an offset on. Every foreign exception becomes one of
ours; sizes and times are bounded by the caller and there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from whimbrel_core.errors import UnavailableError

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
