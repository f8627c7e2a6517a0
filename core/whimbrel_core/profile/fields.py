"""What a window's bytes hold beside the counts of its features, and how they are wrapped.

Both readers (`whimbrel_core.profile.window`, `whimbrel_core.profile.flat`) take from here whatever
is not an array.
"""

from __future__ import annotations

import zlib
from typing import NamedTuple, Protocol

from whimbrel_core.errors import ProfileError
from whimbrel_core.profile.counts import LATENCY_CELLS, OpsCounts, QualityCounts
from whimbrel_core.profile.layout import (
    MAX_CELLS,
    MAX_CONFUSION_CLASSES,
    MAX_FEATURES,
    MAX_SCORE_BINS,
)
from whimbrel_core.profile.packing import MAX_COUNT, Reader, Writer, require_finite

__all__ = [
    "MAGIC",
    "MAX_ENCODED_BYTES",
    "MAX_SUM",
    "MAX_VALUE",
    "Head",
    "Rest",
    "deflate",
    "inflate",
    "read_head",
    "read_rest",
    "write_head",
    "write_rest",
]

MAGIC = b"WPW1"
MAX_ENCODED_BYTES = 64 * 1024
MAX_PLAIN_BYTES = 512 * 1024  # 256 features × 103 cells × 8 bytes and their sums fit
_MAX_TIME_MS = 1 << 47  # the year 6429
MAX_SUM = 1e100  # 2^53 rows of (2 × the largest float32)² stay below it
MAX_VALUE = 3.5e38  # the largest float32 is 3.4028e38

_HAS_FEATURES = 1
_HAS_OPS = 2
_HAS_SCORES = 4
_HAS_QUALITY = 8


class Counted(Protocol):
    """What a window says beside the counts of its features."""

    @property
    def profile_id(self) -> str: ...
    @property
    def start_ms(self) -> int: ...
    @property
    def end_ms(self) -> int: ...
    @property
    def rows(self) -> int: ...
    @property
    def duplicates(self) -> int: ...
    @property
    def ops(self) -> OpsCounts: ...
    @property
    def score_cells(self) -> tuple[int, ...] | None: ...
    @property
    def quality(self) -> QualityCounts | None: ...


def write_head(out: Writer, window: Counted, cells: bytes) -> None:
    """Write what stands before the counts of features; ``cells``: a byte per feature."""
    out.raw(bytes.fromhex(window.profile_id))
    out.signed(window.start_ms)
    out.unsigned(window.end_ms - window.start_ms)
    out.unsigned(window.rows)
    flags = (
        (_HAS_FEATURES if window.rows else 0)
        | (_HAS_OPS if window.ops != OpsCounts() else 0)
        | (_HAS_SCORES if window.score_cells is not None else 0)
        | (_HAS_QUALITY if window.quality is not None else 0)
    )
    out.raw(bytes([flags]))
    out.unsigned(window.duplicates)
    out.unsigned(len(cells))
    out.raw(cells)


def write_rest(out: Writer, window: Counted) -> None:
    """Write what stands after the counts of features."""
    ops = window.ops
    if ops != OpsCounts():
        for number in (ops.requests, ops.rejected, ops.failed, ops.mistyped):
            out.unsigned(number)
        out.cells(ops.latency)
    if window.score_cells is not None:
        out.unsigned(len(window.score_cells))
        out.cells(window.score_cells)
    if window.quality is not None:
        _write_quality(out, window.quality)


def deflate(out: Writer, *, level: int) -> bytes:
    """Return the wire form of packed fields."""
    deflater = zlib.compressobj(level=level, strategy=zlib.Z_FILTERED)
    return MAGIC + deflater.compress(bytes(out.buffer)) + deflater.flush()


class Head(NamedTuple):
    """What stands before the counts of features; ``cells``: a byte per feature."""

    profile_id: str
    start_ms: int
    end_ms: int
    rows: int
    flags: int
    duplicates: int
    cells: bytes


class Rest(NamedTuple):
    """What stands after them."""

    ops: OpsCounts
    score_cells: tuple[int, ...] | None
    quality: QualityCounts | None


def read_head(source: Reader) -> Head:
    """Read the beginning of a window. Raises `ProfileError`, as `decode`."""
    profile_id = source.raw(32).hex()
    start_ms = source.signed()
    end_ms = start_ms + source.unsigned(_MAX_TIME_MS)
    if not -_MAX_TIME_MS <= start_ms <= end_ms <= _MAX_TIME_MS:
        raise ProfileError(f"a window from {start_ms} to {end_ms} ms is outside any calendar")
    rows = source.unsigned(MAX_COUNT)
    flags = source.byte()
    if flags > _HAS_FEATURES | _HAS_OPS | _HAS_SCORES | _HAS_QUALITY:
        raise ProfileError(f"a window has unknown parts (flags {flags:#x})", code="profile.version")
    if bool(rows) != bool(flags & _HAS_FEATURES):
        raise ProfileError(f"a window of {rows} rows must have feature counts, and no other may")
    duplicates = source.unsigned(rows)
    cells = source.raw(source.unsigned(MAX_FEATURES))
    if 0 in cells or max(cells, default=0) > MAX_CELLS:
        raise ProfileError(f"a feature has 1 to {MAX_CELLS} cells")
    return Head(profile_id, start_ms, end_ms, rows, flags, duplicates, cells)


def read_rest(source: Reader, head: Head) -> Rest:
    """Read what follows the features, to the end. Raises `ProfileError`, as `decode`."""
    flags, rows = head.flags, head.rows
    ops = _read_ops(source) if flags & _HAS_OPS else OpsCounts()
    score_cells = source.cells(source.unsigned(MAX_SCORE_BINS)) if flags & _HAS_SCORES else None
    if score_cells is not None and sum(score_cells) > rows:
        raise ProfileError(f"a window of {rows} rows has {sum(score_cells)} scores")
    quality = _read_quality(source) if flags & _HAS_QUALITY else None
    source.finish()
    return Rest(ops, score_cells, quality)


def inflate(data: bytes) -> bytes:
    """Return the packed fields of a window. Raises `ProfileError`, as `decode`."""
    if len(data) > MAX_ENCODED_BYTES:
        raise ProfileError(
            f"a profile window of {len(data)} bytes is above the limit of {MAX_ENCODED_BYTES}",
            code="profile.too_large",
        )
    if data[: len(MAGIC)] != MAGIC:
        raise ProfileError(
            f"these {len(data)} bytes are not a profile window of format 1 "
            f"(they start with {bytes(data[:4])!r}, not {MAGIC!r})",
            hint="update Whimbrel on the machine that reads, if the sender's is newer",
            code="profile.version",
        )
    inflater = zlib.decompressobj()
    try:
        plain = inflater.decompress(data[len(MAGIC) :], MAX_PLAIN_BYTES)
    except zlib.error as error:
        raise ProfileError(f"a profile window is damaged: {error}") from None
    if not inflater.eof or inflater.unused_data:
        raise ProfileError(
            "a profile window is truncated, is followed by other bytes, or inflates to more than "
            f"{MAX_PLAIN_BYTES} bytes",
            code="profile.truncated",
        )
    return plain


def _read_ops(source: Reader) -> OpsCounts:
    requests, rejected, failed = (source.unsigned(MAX_COUNT) for _ in range(3))
    mistyped = source.unsigned(rejected)
    latency = source.cells(LATENCY_CELLS)
    if sum(latency) != requests:
        raise ProfileError(f"a window has {requests} requests and {sum(latency)} latencies")
    return OpsCounts(requests, rejected, failed, latency, mistyped)


def _write_quality(out: Writer, quality: QualityCounts) -> None:
    out.unsigned(quality.rows)
    out.unsigned(quality.right)
    out.unsigned(len(quality.scores))
    out.cells(quality.scores)
    out.unsigned(len(quality.confusion))
    out.cells(quality.confusion)
    out.reals(require_finite([quality.error, quality.absolute, quality.squared]))


def _read_quality(source: Reader) -> QualityCounts:
    rows = source.unsigned(MAX_COUNT)
    right = source.unsigned(rows)
    scores = source.cells(source.unsigned(2 * MAX_SCORE_BINS))
    confusion = source.cells(source.unsigned(MAX_CONFUSION_CLASSES**2))
    if sum(scores) > rows or (confusion and sum(confusion) != rows):
        raise ProfileError(f"the quality counts of {rows} labels do not add up")
    error, absolute, squared = source.reals(3, MAX_SUM)
    if absolute < 0 or squared < 0:
        raise ProfileError("absolute and squared errors cannot be negative")
    return QualityCounts(rows, right, scores, confusion, error, absolute, squared)
