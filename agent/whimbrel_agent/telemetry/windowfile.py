"""An open profile window in a file that outlives the process that fills it.

``<data_dir>/profiles/<window_id>.open``: one page of header, then the accumulator's memory. The
file is mapped, so what was counted is there after ``kill -9``; its blocks are reserved when it is
made, because a mapped write to a full disk would end the process. Where no file can be made (disk
full, read-only), the window is kept in memory: serving goes on, and only a crash would lose it.

The process that fills a file holds an ``flock`` on it. A file that can be locked was left by a
process that is gone, and `recover` closes it::

    0    magic   8  start_ms   16  end_ms   24  length and CRC-32 of the identity   32  identity
    4096 accumulator

``start_ms`` and ``end_ms`` change while a window is carried over; each is one aligned store.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import mmap
import os
import random
import secrets
import struct
import zlib
from typing import TYPE_CHECKING

import msgspec

from whimbrel_agent.channel import ClosedWindow
from whimbrel_core.errors import ProfileError
from whimbrel_core.profile import window as windows
from whimbrel_core.profile.counting.accumulator import Accumulator
from whimbrel_core.wire.messages import Clock

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from whimbrel_core.bundle.manifest import DriftPolicy
    from whimbrel_core.profile.baseline import Baseline
    from whimbrel_core.profile.window import Window

SUFFIX = ".open"
_MAGIC = b"WHIMWIN1"
_PAGE = 4096
_IDENTITY_AT = 32
_SIZES = struct.Struct("<II")
_TIME = struct.Struct("<q")


class ServedModel(msgspec.Struct, frozen=True):
    """Whose rows a window counts."""

    slot: str
    name: str
    version: str
    digest: str


class _Identity(msgspec.Struct, frozen=True):
    window_id: str
    model: ServedModel
    profile_id: str
    clock: Clock


def new_id() -> str:
    """Return 64 random bits as 16 hexadecimal digits."""
    return secrets.token_hex(8)


class OpenWindow:
    """One window that is being filled. Made by `open_window` or `recover`.

    Attributes:
        accumulator: counts the rows.
        path: the file, or None when it is in memory only.
    """

    def __init__(
        self,
        identity: _Identity,
        memory: mmap.mmap,
        accumulator: Accumulator,
        *,
        file: int | None,
        path: Path | None,
    ) -> None:
        self._identity = identity
        self._memory = memory
        self._file = file
        self.path = path
        self.accumulator = accumulator
        (self.start_ms,) = _TIME.unpack_from(memory, 8)
        (self.end_ms,) = _TIME.unpack_from(memory, 16)
        # For whoever decides when it is closed; not part of the file.
        self.touched = 0.0
        self.seen = -1
        self.empty = True

    @property
    def window_id(self) -> str:
        """16 hexadecimal digits; control stores a window only once by it."""
        return self._identity.window_id

    def move(self, *, start_ms: int | None = None, end_ms: int | None = None) -> None:
        """Change the period of a window that is carried over."""
        if start_ms is not None:
            _TIME.pack_into(self._memory, 8, start_ms)
            self.start_ms = start_ms
        if end_ms is not None:
            _TIME.pack_into(self._memory, 16, end_ms)
            self.end_ms = end_ms

    def window(self) -> Window:
        """Return the counts so far."""
        return self.accumulator.window(self.start_ms, self.end_ms)

    @property
    def digest(self) -> str:
        """Of the bundle that the rows were answered by."""
        return self._identity.model.digest

    def close(self, baseline: Baseline, policy: DriftPolicy) -> tuple[Window, ClosedWindow]:
        """Return the counts, and as what control is told of them. The file stays.

        What is told has the noise that the bundle's policy asks for; the exact counts stay here.
        """
        counted = self.window()
        told = counted
        if policy.noise_epsilon:
            # Not at a cold start, and in few bundles.
            from whimbrel_core.profile.privacy.noise import noised

            uniform = random.SystemRandom().random
            told = noised(counted, baseline, policy.noise_epsilon, uniform)
        model = self._identity.model
        return counted, ClosedWindow(
            window_id=self.window_id,
            slot=model.slot,
            name=model.name,
            version=model.version,
            digest=model.digest,
            profile_id=self._identity.profile_id,
            start_ms=self.start_ms,
            end_ms=self.end_ms,
            rows=counted.rows,
            clock=self._identity.clock,
            payload=windows.encode(told),
        )

    def release(self) -> None:
        """Unmap the memory and let go of the lock; the file stays."""
        self.accumulator.close()
        # An array over the mapping may still be referenced; it unmaps with the last of them.
        with contextlib.suppress(BufferError):
            self._memory.close()
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def discard(self) -> None:
        """Release, and remove the file: nothing was counted."""
        self.release()
        if self.path is not None:
            self.path.unlink(missing_ok=True)


def open_window(
    directory: Path,
    model: ServedModel,
    baseline: Baseline,
    *,
    start_ms: int,
    end_ms: int,
    clock: Clock,
    on_disk_error: Callable[[OSError], None],
) -> OpenWindow:
    """Return a new, empty window, in a file when the disk allows it and in memory when not."""
    identity = _Identity(new_id(), model, baseline.profile_id, clock)
    size = _PAGE + Accumulator.size(baseline)
    path: Path | None = directory / (identity.window_id + SUFFIX)
    file: int | None = None
    try:
        file, memory = _new_file(directory / (identity.window_id + ".new"), size)
    except OSError as error:
        on_disk_error(error)
        path, file, memory = None, None, mmap.mmap(-1, size)
    encoded = msgspec.msgpack.encode(identity)
    if len(encoded) > _PAGE - _IDENTITY_AT:
        msg = f"{model.name}: its names are too long for a window's header"
        raise ProfileError(msg)
    memory[_IDENTITY_AT : _IDENTITY_AT + len(encoded)] = encoded
    _SIZES.pack_into(memory, 24, len(encoded), zlib.crc32(encoded))
    _TIME.pack_into(memory, 8, start_ms)
    _TIME.pack_into(memory, 16, end_ms)
    accumulator = Accumulator(baseline, memoryview(memory)[_PAGE:])
    memory[: len(_MAGIC)] = _MAGIC
    if path is not None:
        try:
            # Only a whole header gets the name that recovery looks for.
            path.with_suffix(".new").rename(path)
        except OSError as error:
            on_disk_error(error)
            path = None
    return OpenWindow(identity, memory, accumulator, file=file, path=path)


def recover(path: Path, baseline_of: Callable[[str], Baseline]) -> OpenWindow | None:
    """Take over a window that a dead process left, or return None when its owner is alive.

    Args:
        path: a ``.open`` file.
        baseline_of: finds the baseline of a bundle by its digest.

    Raises:
        ProfileError: it cannot be read as a window; the file is unchanged.
        OSError: the disk refuses.
    """
    file = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    memory: mmap.mmap | None = None
    try:
        if not lock(file):
            os.close(file)
            return None
        _require_page(path, file)
        memory = mmap.mmap(file, 0)
        identity = _read_identity(path, memory)
        baseline = baseline_of(identity.model.digest)
        accumulator = Accumulator.attach(baseline, memoryview(memory)[_PAGE:])
        return OpenWindow(identity, memory, accumulator, file=file, path=path)
    except FileNotFoundError:
        os.close(file)
        return None
    except BaseException:  # whatever ends it: the lock goes with the file
        os.close(file)
        raise


def _require_page(path: Path, file: int) -> None:
    if os.fstat(file).st_size < _PAGE:
        msg = f"{path.name} is too short for a window"
        raise ProfileError(msg, code="profile.torn")


def digest_of(path: Path) -> str | None:
    """Return the bundle that the window in ``path`` is of, or None when it is gone.

    Raises:
        ProfileError: it has no valid header.
    """
    try:
        with path.open("rb") as file:
            return _read_identity(path, file.read(_PAGE).ljust(_PAGE, b"\0")).model.digest
    except FileNotFoundError:
        return None


def _read_identity(path: Path, memory: mmap.mmap | bytes) -> _Identity:
    length, crc = _SIZES.unpack_from(memory, 24)
    encoded = memory[_IDENTITY_AT : min(_IDENTITY_AT + length, _PAGE)]
    if memory[: len(_MAGIC)] != _MAGIC or zlib.crc32(encoded) != crc:
        msg = f"{path.name} has no valid header"
        raise ProfileError(msg, code="profile.torn", hint="the machine lost power as it was made")
    try:
        return msgspec.msgpack.decode(encoded, type=_Identity)
    except msgspec.MsgspecError as error:
        msg = f"{path.name} names no model: {error}"
        raise ProfileError(msg, code="profile.torn") from error


def _new_file(path: Path, size: int) -> tuple[int, mmap.mmap]:
    path.parent.mkdir(parents=True, exist_ok=True)
    file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        lock(file)
        _reserve(file, size)
        return file, mmap.mmap(file, size)
    except BaseException:  # whatever ends it: leave no half file
        os.close(file)
        path.unlink(missing_ok=True)
        raise


def _reserve(file: int, size: int) -> None:
    try:
        os.posix_fallocate(file, 0, size)
    except OSError as error:
        # A file system that cannot reserve (some overlay and network ones) gets written zeros.
        if error.errno not in {errno.EOPNOTSUPP, errno.EINVAL}:
            raise
        view = memoryview(bytes(size))
        while view:
            view = view[os.write(file, view) :]


def lock(file: int) -> bool:
    """Take the lock that says "my process fills this file"; return whether it was free."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
