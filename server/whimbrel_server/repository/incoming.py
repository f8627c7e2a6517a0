"""Files on their way into the repository: taken in pieces, whole or useless, named by nobody yet.

A publisher's files lie in ``<repository>/incoming`` (which is not served) until metadata that the
publisher signed names them. Nothing here is trusted: a file counts when its bytes have the digest
that it is called by, and it is moved when that digest is signed. What nobody names is dropped
after a day.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import re
import time
from typing import TYPE_CHECKING

import msgspec

from whimbrel_core.errors import InputError, StorageError, TrustError, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from io import BufferedRandom
    from pathlib import Path

FOLDER = "incoming"
PIECE_BYTES = 8 << 20
"""The largest piece; more would be held in memory, and proxies refuse large bodies."""
_LIFE_S = 24 * 3600.0
_FILES_AT_ONCE = 16
_DIGEST = re.compile(r"[0-9a-f]{64}")


class Received(msgspec.Struct, frozen=True):
    """How much of a file is here: ``received`` bytes; ``complete`` when they have its digest."""

    digest: str
    received: int
    complete: bool


class Incoming:
    """The folder of files that are on their way.

    Args:
        directory: of the repository; moving into it is a rename then.
        limit_bytes: the largest file that is taken.
    """

    def __init__(self, directory: Path, *, limit_bytes: int) -> None:
        self._folder = directory / FOLDER
        self._limit_bytes = limit_bytes

    def received(self, digest: str) -> Received:
        """Return how much of a file is here. Raises `InputError` for what is no digest."""
        whole = self.whole(digest)
        if whole is not None:
            return Received(digest, whole.stat().st_size, complete=True)
        part = self._part(digest)
        return Received(digest, part.stat().st_size if part.is_file() else 0, complete=False)

    def whole(self, digest: str) -> Path | None:
        """Return where a complete file lies; None when it is not here."""
        if not _DIGEST.fullmatch(digest):
            raise InputError(f"{digest[:80]!r} is not a SHA-256 in hexadecimal")
        file = self._folder / digest
        return file if file.is_file() else None

    def append(self, digest: str, offset: int, length: int, piece: bytes) -> Received:
        """Add a piece; the last one completes the file.

        Args:
            digest: SHA-256 of the whole file, hexadecimal.
            offset: where the piece begins, in bytes: as much as is here already.
            length: of the whole file, in bytes.
            piece: at most `PIECE_BYTES`.

        Raises:
            InputError: the file is too large, or the piece reaches beyond its end.
            UsageError: something else than ``offset`` is here (``conflict``); ask how much.
            TrustError: all is here, and it has another digest. It was dropped.
            StorageError: the disk refuses; what was here still is.
        """
        known = self.received(digest)
        if known.complete:
            return known
        if not 0 < length <= self._limit_bytes:
            raise InputError(
                f"a file of {length} bytes is not taken; the limit is {self._limit_bytes}",
                hint="raise repository.upload_mb in server.toml",
                code="upload.limit",
            )
        if len(piece) > PIECE_BYTES or offset + len(piece) > length:
            raise InputError(
                f"a piece of {len(piece)} bytes at {offset} does not fit a file of {length}",
                hint=f"send pieces of at most {PIECE_BYTES} bytes",
                code="upload.piece",
            )
        self._prune(digest)
        with self._opened(digest) as file:
            here = file.seek(0, os.SEEK_END)
            if here != offset:
                raise UsageError(
                    f"{here} bytes of {digest[:12]}… are here, the piece begins at {offset}",
                    hint="ask how much is here, and go on from there",
                    code="conflict",
                )
            try:
                file.write(piece)
                file.flush()
            except OSError as error:
                with contextlib.suppress(OSError):
                    file.truncate(here)
                raise self._refused(error) from error
            if here + len(piece) < length:
                return Received(digest, here + len(piece), complete=False)
            self._complete(file, digest)
        return Received(digest, length, complete=True)

    def _complete(self, file: BufferedRandom, digest: str) -> None:
        file.seek(0)
        part = self._part(digest)
        if hashlib.file_digest(file, "sha256").hexdigest() != digest:
            part.unlink()
            raise TrustError(
                f"the bytes that came do not have the digest {digest[:12]}…; they were dropped",
                hint="publish again",
                code="trust.digest",
            )
        try:
            os.fsync(file.fileno())
            part.replace(self._folder / digest)
        except OSError as error:
            raise self._refused(error) from error

    @contextlib.contextmanager
    def _opened(self, digest: str) -> Iterator[BufferedRandom]:
        try:
            self._folder.mkdir(exist_ok=True)
            file = self._part(digest).open("a+b")
        except OSError as error:
            raise self._refused(error) from error
        with file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise UsageError(
                    f"somebody else is sending {digest[:12]}… just now",
                    hint="wait until they are done, then publish again",
                    code="conflict",
                ) from None
            yield file

    def _prune(self, digest: str) -> None:
        """Drop what nobody named for a day; refuse another file when many are here still."""
        with contextlib.suppress(FileNotFoundError):
            entries = [entry for entry in os.scandir(self._folder) if entry.is_file()]
            kept = 0
            for entry in entries:
                with contextlib.suppress(FileNotFoundError):
                    if time.time() - entry.stat().st_mtime > _LIFE_S:
                        os.unlink(entry.path)  # noqa: PTH108 - an os.DirEntry
                    elif not entry.name.startswith(digest):
                        kept += 1
            if kept >= _FILES_AT_ONCE:
                raise StorageError(
                    f"{kept} files are here that no metadata names yet; no other is taken",
                    hint="publish what was begun, or wait: after a day they are dropped",
                    code="storage.uploads",
                )

    def _part(self, digest: str) -> Path:
        return self._folder / f"{digest}.part"

    def _refused(self, error: OSError) -> StorageError:
        return StorageError(
            f"{self._folder} cannot be written: {error.strerror}; what is published still is",
            hint="make room on the server, then publish again: it goes on where it stopped",
        )
