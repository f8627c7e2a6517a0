"""The port: what the repository's logic needs of a place that keeps files.

Paths are relative, with ``/``: ``metadata/3.targets.json``, ``targets/bundles/…``. Each file is
there whole or not at all. Three ways to write, by what a name promises:

- `Destination.store`: the name holds the content's digest. Writing it again changes nothing.
- `Destination.create`: the name holds a version, and gets its content once. The commit.
- `Destination.replace`: the one file that changes, ``metadata/timestamp.json``; compare and swap.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from whimbrel_core.errors import UsageError

if TYPE_CHECKING:
    from contextlib import AbstractContextManager


class ConflictError(UsageError):
    """Somebody else wrote there first; nothing of theirs was touched."""

    default_code = "usage.conflict"

    @classmethod
    def over(cls, path: str, where: str) -> ConflictError:
        """Return the error for a file that another publisher wrote."""
        return cls(
            f"somebody else published to {where} at the same time: {path} is theirs; "
            "it was not touched, and nothing of yours is visible",
            hint="run it again: it goes on from what they published",
        )


class Destination(Protocol):
    """A place that keeps a repository's files."""

    @property
    def where(self) -> str:
        """The place's name in messages."""
        ...

    def read(self, path: str) -> bytes | None:
        """Return a file's bytes, None when it is not there.

        Raises:
            UnavailableError, TrustError, StorageError: the place does not answer, does not let
                us in, or cannot be read.
        """
        ...

    def names(self, folder: str) -> list[str]:
        """Return the names of the files in a folder; none when it is not there."""
        ...

    def store(self, path: str, data: bytes) -> None:
        """Keep a file whose name holds its digest; one that is there and whole stays.

        Raises:
            UnavailableError, TrustError, StorageError: it was not kept, or its state is
                unknown; nothing names it yet, and storing it again is harmless.
        """
        ...

    def create(self, path: str, data: bytes) -> None:
        """Write a file that must not be there; equal bytes that are there are as good.

        Raises:
            ConflictError: there is one with other bytes; it was not touched.
        """
        ...

    def replace(self, path: str, data: bytes, *, seen: bytes | None) -> None:
        """Write over a file of which ``seen`` is what was read (None: it was not there).

        Raises:
            ConflictError: it changed in between; it was not touched.
        """
        ...

    def exclusive(self) -> AbstractContextManager[None]:
        """Hold the place alone, where it has a lock; elsewhere conflicts are found by writing.

        Raises:
            UsageError: somebody else holds it.
        """
        ...
