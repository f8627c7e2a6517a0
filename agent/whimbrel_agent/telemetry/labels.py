"""Remembers predictions until their labels come: a bounded table in a mapped file.

``<data_dir>/labels/<slot>-<digest>.labels``: buckets of eight predictions, each found by a 64-bit
hash of its id; a full bucket forgets its oldest. The file survives a crash and is shared with the
next worker, so that a label may come after an update. What is stored is what a profile needs (the
start of the prediction's window, score bin, predicted class or value, and the slices that the
row is in): no inputs, and no ids.

During a handover two workers may write one file. An entry is written before its hash, so that a
reader finds a whole entry or none; two writers in one bucket at the same instant may lose one of
two predictions, and never count a label twice: a join takes the entry out.
"""

from __future__ import annotations

import fcntl
import hashlib
import logging
import mmap
import os
import struct
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from pathlib import Path

SUFFIX = ".labels"
_MAGIC = b"WHIMLBL1"
_HEADER = 64
_WAYS = 8
# Eight hashes, then eight entries, then the way that is overwritten next.
_HASHES = struct.Struct("<8Q")
_HASH = struct.Struct("<Q")
_ENTRY = struct.Struct("<qdhHi")  # start_ms, value, score bin (-1: none), slices, class (-1: none)
_BUCKET_BYTES = 8 * _WAYS + _ENTRY.size * _WAYS + 8
_log = logging.getLogger("whimbrel.telemetry")


class Prediction(NamedTuple):
    """What is kept of one predicted row; ``slices`` are bits, the first slice is bit 0."""

    start_ms: int
    value: float
    score_bin: int | None
    predicted: int | None
    slices: int = 0


class PredictionTable:
    """The predictions of one model in one slot that wait for a label.

    Args:
        path: the file; it is made when it is not there, and made anew when it is not a table.
        capacity: predictions to remember (rounded up to whole buckets).
    """

    def __init__(self, path: Path, *, capacity: int) -> None:
        self.path = path
        self._buckets = max(1, -(-capacity // _WAYS))
        size = _HEADER + self._buckets * _BUCKET_BYTES
        try:
            self._memory = _map(path, size)
        except OSError as error:
            _log.warning(
                "%s cannot be made (%s); labels are remembered in memory only", path.name, error
            )
            self._memory = mmap.mmap(-1, size)
        if self._memory[: len(_MAGIC)] == _MAGIC:
            # A table of another capacity is used as it is.
            self._buckets = (len(self._memory) - _HEADER) // _BUCKET_BYTES
        else:
            self._memory[: len(_MAGIC)] = _MAGIC

    def remember(self, prediction_id: str, prediction: Prediction) -> None:
        """Keep ``prediction``; an id seen before is replaced."""
        key, base = self._find(prediction_id)
        memory = self._memory
        hashes = _HASHES.unpack_from(memory, base)
        cursor_at = base + _BUCKET_BYTES - 8
        if key in hashes:
            way = hashes.index(key)
        elif 0 in hashes:
            way = hashes.index(0)
        else:
            way = memory[cursor_at] % _WAYS
            memory[cursor_at] = (way + 1) % _WAYS
        _HASH.pack_into(memory, base + 8 * way, 0)
        score_bin = -1 if prediction.score_bin is None else prediction.score_bin
        predicted = -1 if prediction.predicted is None else prediction.predicted
        _ENTRY.pack_into(
            memory,
            base + 8 * _WAYS + _ENTRY.size * way,
            prediction.start_ms,
            prediction.value,
            score_bin,
            prediction.slices,
            predicted,
        )
        _HASH.pack_into(memory, base + 8 * way, key)

    def take(self, prediction_id: str) -> Prediction | None:
        """Return the prediction with this id and forget it, or None when it is not known."""
        key, base = self._find(prediction_id)
        hashes = _HASHES.unpack_from(self._memory, base)
        if key not in hashes:
            return None
        way = hashes.index(key)
        start_ms, value, score_bin, slices, predicted = _ENTRY.unpack_from(
            self._memory, base + 8 * _WAYS + _ENTRY.size * way
        )
        _HASH.pack_into(self._memory, base + 8 * way, 0)
        return Prediction(
            start_ms,
            value,
            None if score_bin < 0 else score_bin,
            None if predicted < 0 else predicted,
            slices,
        )

    def close(self) -> None:
        """Unmap the table; the file stays."""
        self._memory.close()

    def _find(self, prediction_id: str) -> tuple[int, int]:
        """Return the hash of an id (never 0, which marks a free place) and its bucket's offset."""
        raw = hashlib.blake2b(prediction_id.encode("utf-8", "surrogatepass"), digest_size=8)
        key = int.from_bytes(raw.digest(), "little") or 1
        return key, _HEADER + (key % self._buckets) * _BUCKET_BYTES


def table_path(directory: Path, slot: str, digest: str) -> Path:
    """Return where the table of ``digest`` in ``slot`` is."""
    return directory / f"{slot}-{digest}{SUFFIX}"


def other_tables(directory: Path, slot: str, digest: str) -> list[Path]:
    """Return the tables of other bundles that served in ``slot``, newest first."""
    own = table_path(directory, slot, digest).name
    length = len(own)
    # A slot's name may itself contain dashes: only names of equal length are this slot's.
    found = [
        path
        for path in directory.glob(f"{slot}-*{SUFFIX}")
        if path.name != own and len(path.name) == length
    ]
    return sorted(found, key=lambda path: path.stat().st_mtime, reverse=True)


def _map(path: Path, size: int) -> mmap.mmap:
    path.parent.mkdir(parents=True, exist_ok=True)
    file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        # Two workers may come at once: the first makes it, the second finds it made.
        fcntl.flock(file, fcntl.LOCK_EX)
        present = os.fstat(file).st_size
        if present >= _HEADER + _BUCKET_BYTES and os.pread(file, len(_MAGIC), 0) == _MAGIC:
            return mmap.mmap(file, present)
        os.ftruncate(file, 0)
        try:
            os.posix_fallocate(file, 0, size)
        except OSError:
            os.ftruncate(file, 0)
            raise
        os.pwrite(file, _MAGIC, 0)
        return mmap.mmap(file, size)
    finally:
        # The mapping keeps a duplicate of the file, which would keep the lock, too.
        fcntl.flock(file, fcntl.LOCK_UN)
        os.close(file)
