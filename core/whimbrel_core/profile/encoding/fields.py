"""What a window's bytes hold beside the counts of its features, and how they are wrapped.

Both readers (`whimbrel_core.profile.window`, `whimbrel_core.profile.flat`) take from here whatever
is not an array.
"""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING, NamedTuple, Protocol

from whimbrel_core.errors import ProfileError
from whimbrel_core.profile.counts import LATENCY_CELLS, OpsCounts, QualityCounts
from whimbrel_core.profile.encoding.packing import MAX_COUNT, Reader, Writer, require_finite
from whimbrel_core.profile.feature import MAX_CELLS, MAX_COARSE_EDGES
from whimbrel_core.profile.layout import (
    MAX_CONFUSION_CLASSES,
    MAX_FEATURES,
    MAX_SCORE_BINS,
    MAX_SCORE_CELLS,
)
from whimbrel_core.profile.slices import MAX_SLICE_COUNTS, MAX_SLICES

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = [
    "MAGIC",
    "MAX_ENCODED_BYTES",
    "MAX_SUM",
    "MAX_VALUE",
    "Head",
    "Rest",
    "Sliced",
    "read_head",
    "read_rest",
    "unwrap",
    "wrap",
    "write_head",
    "write_rest",
]

MAGIC = b"WPW1"
_DEFLATED_AT = len(MAGIC) + 32
_BEST = 9
# Sums of a large fleet over 256 features × 103 cells and 16,384 counts of slices hardly deflate:
# four bytes each. As they are read, they have eight.
MAX_ENCODED_BYTES = 192 * 1024
MAX_PLAIN_BYTES = 512 * 1024
_MAX_TIME_MS = 1 << 47  # the year 6429
MAX_SUM = 1e100  # 2^53 rows of (2 × the largest float32)² stay below it
MAX_VALUE = 3.5e38  # the largest float32 is 3.4028e38

_HAS_FEATURES = 1
_HAS_OPS = 2
_HAS_SCORES = 4
_HAS_QUALITY = 8
_HAS_SLICES = 16
_ALL = 31


class Sliced(NamedTuple):
    """The counts of all slices as they travel.

    Args:
        slices: how many.
        sizes: coarse cells of each feature, a byte each.
        counts: rows, coarse cells of all features and score cells, slice after slice.
        quality: per slice.
    """

    slices: int
    sizes: bytes
    counts: Sequence[int]
    quality: tuple[QualityCounts | None, ...]


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
    @property
    def sliced(self) -> Sliced | None: ...


def write_head(out: Writer, window: Counted, cells: bytes) -> None:
    """Write what stands before the counts of features; ``cells``: a byte per feature."""
    out.signed(window.start_ms)
    out.unsigned(window.end_ms - window.start_ms)
    out.unsigned(window.rows)
    flags = (
        (_HAS_FEATURES if window.rows else 0)
        | (_HAS_OPS if window.ops != OpsCounts() else 0)
        | (_HAS_SCORES if window.score_cells is not None else 0)
        | (_HAS_QUALITY if window.quality is not None else 0)
        | (_HAS_SLICES if window.sliced is not None else 0)
    )
    out.raw(bytes([flags]))
    out.unsigned(window.duplicates)
    out.unsigned(len(cells))
    out.raw(cells)


def write_rest(out: Writer, window: Counted) -> None:
    """Write what stands between the head and the counts of features."""
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
    if window.sliced is not None:
        _write_slices(out, window.sliced)


def wrap(profile_id: str, packed: bytes, cuts: Sequence[int] = (), *, level: int = 9) -> bytes:
    """Return the wire form of packed fields: magic, profile id, and the fields deflated.

    Args:
        profile_id: 64 hexadecimal digits.
        packed: the fields.
        cuts: ascending places where another block may begin, if that makes it smaller.
        level: of zlib; only the highest tries blocks.
    """
    best = _deflated([packed], level, zlib.Z_FILTERED)
    if level == _BEST and cuts:
        ends = zip([0, *cuts], [*cuts, len(packed)], strict=True)
        blocks = _deflated([packed[a:b] for a, b in ends], level, zlib.Z_RLE)
        best = min(best, blocks, key=len)
    return MAGIC + bytes.fromhex(profile_id) + best


def _deflated(blocks: list[bytes], level: int, strategy: int) -> bytes:
    deflater = zlib.compressobj(level=level, strategy=strategy)
    out = deflater.compress(blocks[0])
    for block in blocks[1:]:
        out += deflater.flush(zlib.Z_BLOCK) + deflater.compress(block)
    return out + deflater.flush()


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
    sliced: Sliced | None


def read_head(source: Reader, profile_id: str) -> Head:
    """Read the beginning of a window. Raises `ProfileError`, as `decode`."""
    start_ms = source.signed()
    end_ms = start_ms + source.unsigned(_MAX_TIME_MS)
    if not -_MAX_TIME_MS <= start_ms <= end_ms <= _MAX_TIME_MS:
        raise ProfileError(f"a window from {start_ms} to {end_ms} ms is outside any calendar")
    rows = source.unsigned(MAX_COUNT)
    flags = source.byte()
    if flags > _ALL:
        raise ProfileError(f"a window has unknown parts (flags {flags:#x})", code="profile.version")
    if bool(rows) != bool(flags & _HAS_FEATURES):
        raise ProfileError(f"a window of {rows} rows must have feature counts, and no other may")
    duplicates = source.unsigned(rows)
    cells = source.raw(source.unsigned(MAX_FEATURES))
    if 0 in cells or max(cells, default=0) > MAX_CELLS:
        raise ProfileError(f"a feature has 1 to {MAX_CELLS} cells")
    return Head(profile_id, start_ms, end_ms, rows, flags, duplicates, cells)


def read_rest(source: Reader, head: Head) -> Rest:
    """Read what stands between head and features. Raises `ProfileError`, as `decode`."""
    flags, rows = head.flags, head.rows
    ops = _read_ops(source) if flags & _HAS_OPS else OpsCounts()
    score_cells = source.cells(source.unsigned(MAX_SCORE_CELLS)) if flags & _HAS_SCORES else None
    if score_cells == ():
        raise ProfileError("a window has scores and not one count of them")
    if score_cells is not None and sum(score_cells) > rows:
        raise ProfileError(f"a window of {rows} rows has {sum(score_cells)} scores")
    quality = _read_quality(source) if flags & _HAS_QUALITY else None
    bins = 0 if score_cells is None else len(score_cells)
    sliced = _read_slices(source, head, bins) if flags & _HAS_SLICES else None
    if sliced is not None:
        labels = 0 if quality is None else quality.rows
        if any(one is not None and one.rows > labels for one in sliced.quality):
            raise ProfileError(f"a slice has more labels than the {labels} of its window")
    return Rest(ops, score_cells, quality, sliced)


def unwrap(data: bytes) -> tuple[str, bytes]:
    """Return profile id and packed fields of a window. Raises `ProfileError`, as `decode`."""
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
        plain = inflater.decompress(data[_DEFLATED_AT:], MAX_PLAIN_BYTES)
    except zlib.error as error:
        raise ProfileError(f"a profile window is damaged: {error}") from None
    if not inflater.eof or inflater.unused_data:
        raise ProfileError(
            "a profile window is truncated, is followed by other bytes, or inflates to more than "
            f"{MAX_PLAIN_BYTES} bytes",
            code="profile.truncated",
        )
    return data[len(MAGIC) : _DEFLATED_AT].hex(), plain


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


def _write_slices(out: Writer, sliced: Sliced) -> None:
    out.unsigned(sliced.slices)
    out.raw(sliced.sizes)
    out.cells(sliced.counts)
    for quality in sliced.quality:
        out.raw(bytes([quality is not None]))
        if quality is not None:
            _write_quality(out, quality)


def _read_slices(source: Reader, head: Head, bins: int) -> Sliced:
    """Read the slices of a window with ``bins`` score cells."""
    slices = source.unsigned(MAX_SLICES)
    sizes = source.raw(len(head.cells))
    length = 1 + sum(sizes) + bins
    if not slices or max(sizes, default=1) > MAX_COARSE_EDGES + 1 or 0 in sizes:
        raise ProfileError(f"a slice has 1 to {MAX_COARSE_EDGES + 1} coarse cells of a feature")
    if slices * length > MAX_SLICE_COUNTS:
        raise ProfileError(f"{slices} slices of {length} counts are beyond {MAX_SLICE_COUNTS}")
    counts = source.cells(slices * length)
    for start in range(0, slices * length, length):
        rows, at = counts[start], start + 1
        whole = rows <= head.rows and sum(counts[start + length - bins : start + length]) <= rows
        for size in sizes:
            whole = whole and sum(counts[at : at + size]) <= rows
            at += size
        if not whole:
            raise ProfileError(f"the counts of a slice of {rows} rows do not add up")
    quality = tuple(_read_quality(source) if _flag(source) else None for _ in range(slices))
    return Sliced(slices, sizes, counts, quality)


def _flag(source: Reader) -> bool:
    flag = source.byte()
    if flag > 1:
        raise ProfileError(f"a profile holds {flag} where 0 or 1 is expected")
    return bool(flag)
