"""A profile window: the counts of one model version on one device over one period.

Windows of equal ``profile_id`` are merged by addition: associative, commutative, with `empty` as
identity, in any order and with the same bits. `encode` and `decode` are the wire form (format 1),
1.2 to 1.8 KB for 20 features and 300 to 3,600 rows; `decode` trusts nothing: it bounds what it inflates, allocates and
counts, and refuses a window whose counts do not add up.
"""

from __future__ import annotations

import math
import zlib
from typing import NamedTuple, Protocol

import msgspec

from whimbrel_core.errors import ProfileError
from whimbrel_core.profile.counts import (
    LATENCY_CELLS,
    FeatureCounts,
    OpsCounts,
    QualityCounts,
    add_cells,
    merge_features,
    merge_ops,
    merge_quality,
    no_quality,
)
from whimbrel_core.profile.layout import (
    MAX_CELLS,
    MAX_CONFUSION_CLASSES,
    MAX_FEATURES,
    MAX_SCORE_BINS,
    Layout,
)
from whimbrel_core.profile.packing import MAX_COUNT, Reader, Writer, require_finite

__all__ = [
    "FeatureCounts",
    "OpsCounts",
    "QualityCounts",
    "Window",
    "decode",
    "empty",
    "encode",
    "merge",
    "no_quality",
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


class Window(msgspec.Struct, frozen=True, kw_only=True):
    """Counts of one period.

    Args:
        profile_id: of the layout that the counts belong to.
        start_ms: start of the period, ms since 1970 UTC (inclusive).
        end_ms: end of the period (exclusive).
        rows: predicted rows; every feature was counted in each of them.
        features: counts in the layout's order.
        ops: requests and latency of the service.
        quality: predictions of this period whose labels are known; None when there are none.
        score_cells: predicted rows per score bin; None when the layout profiles no scores.
    """

    profile_id: str
    start_ms: int
    end_ms: int
    rows: int
    features: tuple[FeatureCounts, ...]
    ops: OpsCounts = OpsCounts()
    quality: QualityCounts | None = None
    score_cells: tuple[int, ...] | None = None


def empty(layout: Layout, start_ms: int, end_ms: int) -> Window:
    """Return the window of ``layout`` in which nothing happened.

    It is the identity of `merge` for every window whose period contains ``start_ms``–``end_ms``.
    """
    return Window(
        profile_id=layout.profile_id,
        start_ms=start_ms,
        end_ms=end_ms,
        rows=0,
        features=tuple(FeatureCounts(cells=(0,) * feature.cells) for feature in layout.features),
        score_cells=(0,) * layout.score_bins if layout.score_tensor is not None else None,
    )


def merge(a: Window, b: Window) -> Window:
    """Return the window of both periods together.

    Raises:
        ProfileError: the windows belong to different layouts. Both are unchanged; counts over
            different cells must not be added.
    """
    if a.profile_id != b.profile_id:
        raise ProfileError(
            f"windows of profiles {a.profile_id[:12]}… and {b.profile_id[:12]}… cannot be merged: "
            "their cells differ",
            hint="merge windows of one bundle version only",
            code="profile.mismatch",
        )
    if len(a.features) != len(b.features):
        raise ProfileError(
            f"windows of {len(a.features)} and {len(b.features)} features cannot be merged",
            code="profile.mismatch",
        )
    return Window(
        profile_id=a.profile_id,
        start_ms=min(a.start_ms, b.start_ms),
        end_ms=max(a.end_ms, b.end_ms),
        rows=a.rows + b.rows,
        features=tuple(map(merge_features, a.features, b.features)),
        ops=merge_ops(a.ops, b.ops),
        quality=merge_quality(a.quality, b.quality),
        score_cells=_merge_scores(a.score_cells, b.score_cells),
    )


def require_fit(window: Window, layout: Layout) -> None:
    """Require that ``window`` belongs to ``layout``, cell by cell.

    Raises:
        ProfileError: another profile, or counts that the layout has no cells for.
    """
    if window.profile_id != layout.profile_id:
        raise ProfileError(
            f"a window of profile {window.profile_id[:12]}… does not belong to "
            f"profile {layout.profile_id[:12]}…",
            code="profile.mismatch",
        )
    cells = [len(counts.cells) for counts in window.features]
    scores = None if window.score_cells is None else len(window.score_cells)
    quality = no_quality(layout)
    fits = (
        cells == [feature.cells for feature in layout.features]
        and scores == (layout.score_bins if layout.score_tensor is not None else None)
        and (
            window.quality is None
            or (
                len(window.quality.scores) == len(quality.scores)
                and len(window.quality.confusion) == len(quality.confusion)
            )
        )
    )
    if not fits:
        raise ProfileError(
            f"a window claims profile {layout.profile_id[:12]}… and has other cells than it",
            code="profile.mismatch",
        )


def encode(window: Window) -> bytes:
    """Return ``window`` as bytes: magic, then deflated fields (format 1).

    Raises:
        ProfileError: a count is negative or above 2^53, or a sum is not finite.
    """
    out = Writer()
    write_head(out, window, bytes(len(feature.cells) for feature in window.features))
    if window.rows:
        _write_features(out, window.features)
    write_rest(out, window)
    return deflate(out, level=9)


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
    out.unsigned(len(cells))
    out.raw(cells)


def write_rest(out: Writer, window: Counted) -> None:
    """Write what stands after the counts of features."""
    ops = window.ops
    if ops != OpsCounts():
        for number in (ops.requests, ops.rejected, ops.failed):
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


def decode(data: bytes) -> Window:
    """Return the window that `encode` wrote.

    Raises:
        ProfileError: these bytes are no window, are truncated or beyond a limit, or their counts
            do not add up. Nothing else is raised, whatever the bytes.
    """
    source = Reader(inflate(data))
    head = read_head(source)
    features = (
        _read_features(source, head.cells, head.rows)
        if head.rows
        else tuple(FeatureCounts(cells=(0,) * count) for count in head.cells)
    )
    rest = read_rest(source, head)
    return Window(
        profile_id=head.profile_id,
        start_ms=head.start_ms,
        end_ms=head.end_ms,
        rows=head.rows,
        features=features,
        ops=rest.ops,
        quality=rest.quality,
        score_cells=rest.score_cells,
    )


class Head(NamedTuple):
    """What stands before the counts of features; ``cells``: a byte per feature."""

    profile_id: str
    start_ms: int
    end_ms: int
    rows: int
    flags: int
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
    cells = source.raw(source.unsigned(MAX_FEATURES))
    if 0 in cells or max(cells, default=0) > MAX_CELLS:
        raise ProfileError(f"a feature has 1 to {MAX_CELLS} cells")
    return Head(profile_id, start_ms, end_ms, rows, flags, cells)


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


def _merge_scores(a: tuple[int, ...] | None, b: tuple[int, ...] | None) -> tuple[int, ...] | None:
    if a is None or b is None:
        return b if a is None else a
    return add_cells(a, b)


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


def _write_features(out: Writer, features: tuple[FeatureCounts, ...]) -> None:
    # Cells together and sums together: like numbers side by side deflate better.
    for feature in features:
        out.cells(feature.cells)
    out.cells([feature.nulls for feature in features])
    out.cells([feature.pos_inf for feature in features])
    out.cells([feature.neg_inf for feature in features])
    out.reals(require_finite([feature.total for feature in features]))
    out.reals(require_finite([feature.squares for feature in features]))
    # Extremes come from float32 columns, so four bytes hold them exactly.
    out.reals([math.nan if f.min is None else f.min for f in features], width="f")
    out.reals([math.nan if f.max is None else f.max for f in features], width="f")


def _read_features(source: Reader, cells: bytes, rows: int) -> tuple[FeatureCounts, ...]:
    count = len(cells)
    counts = [source.cells(length) for length in cells]
    nulls, pos_inf, neg_inf = (source.cells(count) for _ in range(3))
    totals, squares = (source.reals(count, MAX_SUM) for _ in range(2))
    lows, highs = (source.reals(count, MAX_VALUE, width="f", missing=True) for _ in range(2))
    features = tuple(
        FeatureCounts(
            cells=counts[i],
            nulls=nulls[i],
            pos_inf=pos_inf[i],
            neg_inf=neg_inf[i],
            total=totals[i],
            squares=squares[i],
            min=None if math.isnan(lows[i]) else lows[i],
            max=None if math.isnan(highs[i]) else highs[i],
        )
        for i in range(count)
    )
    for feature in features:
        if feature.rows != rows:
            raise ProfileError(f"a feature counts {feature.rows} values in a window of {rows} rows")
        low, high = feature.min, feature.max
        fits = low <= high if low is not None and high is not None else low is high is None
        if not fits or feature.squares < 0:
            raise ProfileError("the sums and extremes of a feature contradict each other")
    return features


def _read_ops(source: Reader) -> OpsCounts:
    requests, rejected, failed = (source.unsigned(MAX_COUNT) for _ in range(3))
    latency = source.cells(LATENCY_CELLS)
    if sum(latency) != requests:
        raise ProfileError(f"a window has {requests} requests and {sum(latency)} latencies")
    return OpsCounts(requests, rejected, failed, latency)


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
