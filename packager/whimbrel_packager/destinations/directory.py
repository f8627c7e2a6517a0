"""A directory: served by any file server, carried on a USB stick."""

from __future__ import annotations

import contextlib
import fcntl
import os
from typing import TYPE_CHECKING

from whimbrel_core.errors import StorageError, UsageError
from whimbrel_packager import atomic
from whimbrel_packager.destinations.port import ConflictError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class Directory:
    """A repository in a directory, with a lock that ends with its process."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def where(self) -> str:
        """The path."""
        return str(self.path)

    def read(self, path: str) -> bytes | None:
        """Return a file's bytes, None when it is not there. Raises `StorageError`."""
        try:
            return (self.path / path).read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise StorageError(
                f"{self.path / path} cannot be read: {error.strerror}",
                hint="correct its permissions, or restore it",
            ) from error

    def names(self, folder: str) -> list[str]:
        """Return the names of the files in a folder."""
        try:
            return [entry.name for entry in os.scandir(self.path / folder) if entry.is_file()]
        except (FileNotFoundError, NotADirectoryError):
            return []
        except OSError as error:
            raise StorageError(
                f"{self.path / folder} cannot be read: {error.strerror}",
                hint="correct its permissions",
            ) from error

    def store(self, path: str, data: bytes) -> None:
        """Keep a file whose name holds its digest. Raises `StorageError`."""
        if self.read(path) != data:  # a damaged one is repaired
            atomic.write(self.path / path, data)

    def create(self, path: str, data: bytes) -> None:
        """Write a file that must not be there. Raises `ConflictError`, `StorageError`."""
        self.replace(path, data, seen=None)

    def replace(self, path: str, data: bytes, *, seen: bytes | None) -> None:
        """Write over what was seen. Raises `ConflictError`, `StorageError`."""
        # Compare, then rename: the lock is held, and sticks with FAT have no hard links, which
        # writing without a look would need.
        found = self.read(path)
        if found == data:
            return
        if found != seen:
            raise ConflictError.over(path, self.where)
        atomic.write(self.path / path, data)

    @contextlib.contextmanager
    def exclusive(self) -> Iterator[None]:
        """Hold the directory's lock: one publisher at a time.

        Raises:
            UsageError: somebody else publishes just now.
            StorageError: the directory cannot be written.
        """
        try:
            (self.path / "metadata").mkdir(parents=True, exist_ok=True)
            descriptor = os.open(self.path / ".lock", os.O_RDWR | os.O_CREAT, 0o644)
        except OSError as error:
            raise StorageError(f"{self.path} cannot be written: {error.strerror}") from error
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise UsageError(
                    f"somebody else is publishing to {self.path} just now",
                    hint="run it again when they are done",
                    code="usage.locked",
                ) from None
            yield
        finally:
            os.close(descriptor)  # and with it the lock, also when a process is killed
