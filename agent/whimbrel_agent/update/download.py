"""One file, fetched to ``downloads/<sha256>.part``: resumed where it stopped, checked whole.

What was fetched is kept through errors, power cuts and a full disk, and is only believed when
length and SHA-256 are those that were signed.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
import time
from typing import IO, TYPE_CHECKING

from whimbrel_agent.paths import sync_folder
from whimbrel_agent.update.transport import CHUNK, RestartError
from whimbrel_core.errors import StorageError, TrustError, UnavailableError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from whimbrel_agent.paths import DataDirectory
    from whimbrel_agent.update.transport import Transport

_DISK_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


@contextlib.contextmanager
def alone(home: DataDirectory, *, wait_s: float = 0.0) -> Iterator[None]:
    """Hold the lock on downloads: two at once would spoil or remove each other's parts.

    Args:
        home: data directory.
        wait_s: for so many seconds another holder is waited for.

    Raises:
        UnavailableError: somebody else holds it.
        StorageError: the folder cannot be used.
    """
    try:
        descriptor = os.open(home.downloads / ".lock", os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        msg = f"{home.downloads} cannot be used: {error}"
        raise StorageError(msg) from error
    try:
        until = time.monotonic() + wait_s
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError as error:
                if time.monotonic() >= until:
                    msg = "another updater is at work in this data directory"
                    raise UnavailableError(msg, code="updater.busy") from error
            time.sleep(0.01)
        yield
    finally:
        os.close(descriptor)


def fetch(source: Transport, path: str, part: Path, *, length: int, digest: str) -> None:
    """Complete ``part`` with the bytes of ``path`` and check it.

    Raises:
        UnavailableError: the source stopped; ``part`` keeps what came.
        StorageError: the disk is full or refuses; ``part`` keeps what was written.
        TrustError: all the bytes came and are not what was signed; ``part`` was removed.
    """
    try:
        with part.open("ab") as file:
            have = file.tell()
            if have > length:
                file.truncate(0)
                have = 0
            if have < length:
                try:
                    _append(source, path, file, have, length)
                except RestartError:
                    file.truncate(0)
                    _append(source, path, file, 0, length)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise _disk(error, part) from error
    found_length, found = measure(part)
    if (found_length, found) != (length, digest):
        if found_length < length:
            msg = f"{path}: {found_length} of {length} bytes came, then the source ended"
            raise UnavailableError(msg, code="repository.short", hint="this is tried again")
        part.unlink()
        msg = f"{path} is not what was signed (sha256 {found[:12]}…, signed {digest[:12]}…)"
        raise TrustError(
            msg, code="trust.digest", hint="the copy is damaged or forged; nothing was installed"
        )


def settle(part: Path, final: Path) -> None:
    """Give a complete file its name, durably.

    Raises:
        StorageError: the disk refuses; ``part`` is as it was.
    """
    try:
        part.replace(final)
        sync_folder(final.parent)
    except OSError as error:
        raise _disk(error, final) from error


def measure(path: Path) -> tuple[int, str]:
    """Return length and SHA-256 of a file, in constant memory.

    Raises:
        StorageError: it cannot be read.
    """
    hasher = hashlib.sha256()
    length = 0
    try:
        with path.open("rb") as file:
            while piece := file.read(CHUNK * 4):
                hasher.update(piece)
                length += len(piece)
    except OSError as error:
        msg = f"{path} cannot be read: {error}"
        raise StorageError(msg) from error
    return length, hasher.hexdigest()


def _append(source: Transport, path: str, file: IO[bytes], offset: int, length: int) -> None:
    added = 0
    for piece in source.chunks(path, offset):
        if offset + added + len(piece) > length:
            # More than was signed: not the file. The check afterwards says so.
            file.write(piece[: length - offset - added])
            file.truncate(0)
            msg = f"{path} is longer than the {length} bytes that were signed"
            raise TrustError(msg, code="trust.length", hint="nothing was installed")
        file.write(piece)
        added += len(piece)


def _disk(error: OSError, path: Path) -> StorageError:
    if error.errno in _DISK_FULL:
        msg = f"the disk is full while writing {path}; what was fetched so far is kept"
        return StorageError(
            msg, code="storage.full", hint="free space; the download goes on from there"
        )
    msg = f"{path} cannot be written: {error}"
    return StorageError(msg)
