"""A profile window: the counts of one model version on one device over one period.

Windows of equal ``profile_id`` are merged by addition: associative, commutative, with `empty` as
identity, in any order and with the same bits. `encode` and `decode` are the wire form (format 1),
1.0 to 1.5 KB for 20 features and 300 to 3,600 rows; `decode` trusts nothing: it bounds what it
inflates, allocates and counts, and refuses a window whose counts do not add up.
"""

from __future__ import annotations

import math
import struct
from itertools import accumulate, chain
from typing import TYPE_CHECKING

import msgspec

from whimbrel_core.errors import ProfileError
from whimbrel_core.profile.counts import (
    FeatureCounts,
    OpsCounts,
    QualityCounts,
    SliceCounts,
    merge_features,
    merge_ops,
    merge_quality,
    merge_scores,
    merge_slices,
    no_quality,
    no_slice,
    slice_of,
)
from whimbrel_core.profile.encoding.fields import (
    MAGIC,
    MAX_ENCODED_BYTES,
    MAX_SUM,
    MAX_VALUE,
    Sliced,
    read_head,
    read_rest,
    unwrap,
    wrap,
    write_head,
    write_rest,
)
from whimbrel_core.profile.encoding.packing import (
    Reader,
    Writer,
    counts_of,
    planes_of,
    require_finite,
    require_within,
)
from whimbrel_core.profile.encoding.planes import (
    Body,
    from_wire,
    read_body,
    to_wire,
    write_body,
)

if TYPE_CHECKING:
    from whimbrel_core.profile.layout import Layout

__all__ = [
    "MAGIC",
    "MAX_ENCODED_BYTES",
    "FeatureCounts",
    "OpsCounts",
    "QualityCounts",
    "SliceCounts",
    "Window",
    "decode",
    "empty",
    "encode",
    "merge",
    "no_quality",
]


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
        score_cells: predicted rows per score bin, or per leaf of a regression's error tree; None
            when the layout has neither.
        duplicates: rows that are the same as the row before in every input feature.
        slices: the small profile of each of the layout's slices.
    """

    profile_id: str
    start_ms: int
    end_ms: int
    rows: int
    features: tuple[FeatureCounts, ...]
    ops: OpsCounts = OpsCounts()
    quality: QualityCounts | None = None
    score_cells: tuple[int, ...] | None = None
    duplicates: int = 0
    slices: tuple[SliceCounts, ...] = ()

    @property
    def sliced(self) -> Sliced | None:
        """The slices as they travel; None without any."""
        slices = self.slices
        if not slices:
            return None
        counts = chain.from_iterable(
            (one.rows, *chain.from_iterable(one.cells), *(one.scores or ())) for one in slices
        )
        sizes = bytes(map(len, slices[0].cells))
        return Sliced(len(slices), sizes, tuple(counts), tuple(one.quality for one in slices))


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
        score_cells=(0,) * layout.score_cells or None,
        slices=(no_slice(layout),) * len(layout.slices),
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
        score_cells=merge_scores(a.score_cells, b.score_cells),
        duplicates=a.duplicates + b.duplicates,
        slices=merge_slices(a.slices, b.slices),
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
    scores = 0 if window.score_cells is None else len(window.score_cells)
    fits = (
        cells == [feature.cells for feature in layout.features]
        and scores == layout.score_cells
        and fits_quality(window.quality, no_quality(layout))
        and fits_slices(window.sliced, layout)
    )
    if not fits:
        raise ProfileError(
            f"a window claims profile {layout.profile_id[:12]}… and has other cells than it",
            code="profile.mismatch",
        )


def fits_slices(sliced: Sliced | None, layout: Layout) -> bool:
    """Return whether the slices of a window are those of ``layout``."""
    if sliced is None or not layout.slices:
        return sliced is None and not layout.slices
    none = no_quality(layout, sliced=True)
    return (
        sliced.slices == len(layout.slices)
        and sliced.sizes == layout.coarse_sizes
        and len(sliced.counts) == len(layout.slices) * (1 + sum(sliced.sizes) + layout.score_cells)
        and all(fits_quality(one, none) for one in sliced.quality)
    )


def fits_quality(quality: QualityCounts | None, none: QualityCounts) -> bool:
    """Return whether ``quality`` has as many counts as ``none``, the all-zero one."""
    return quality is None or (
        len(quality.scores) == len(none.scores) and len(quality.confusion) == len(none.confusion)
    )


def encode(window: Window) -> bytes:
    """Return ``window`` as bytes: magic, then deflated fields (format 1).

    Raises:
        ProfileError: a count is negative or above 2^53, or a sum is not finite.
    """
    sizes = bytes(len(feature.cells) for feature in window.features)
    out = Writer()
    cuts: tuple[int, ...] = ()
    write_head(out, window, sizes)
    write_rest(out, window)
    if window.rows:
        cuts = write_body(out, _packed(window.features, sizes), sizes)
    return wrap(window.profile_id, bytes(out.buffer), cuts)


def decode(data: bytes) -> Window:
    """Return the window that `encode` wrote.

    Raises:
        ProfileError: these bytes are no window, are truncated or beyond a limit, or their counts
            do not add up. Nothing else is raised, whatever the bytes.
    """
    profile_id, packed = unwrap(data)
    source = Reader(packed)
    head = read_head(source, profile_id)
    rest = read_rest(source, head)
    features = (
        _features(read_body(source, head.cells), head.cells, head.rows)
        if head.rows
        else tuple(FeatureCounts(cells=(0,) * count) for count in head.cells)
    )
    source.finish()
    return Window(
        profile_id=head.profile_id,
        start_ms=head.start_ms,
        end_ms=head.end_ms,
        rows=head.rows,
        features=features,
        ops=rest.ops,
        quality=rest.quality,
        score_cells=rest.score_cells,
        duplicates=head.duplicates,
        slices=slices_of(rest.sliced, scored=rest.score_cells is not None),
    )


def slices_of(sliced: Sliced | None, *, scored: bool) -> tuple[SliceCounts, ...]:
    """Return slices that have travelled as objects; ``scored``: with score bins."""
    if sliced is None:
        return ()
    length = len(sliced.counts) // sliced.slices
    return tuple(
        slice_of(
            sliced.counts[index * length : (index + 1) * length],
            sliced.sizes,
            scored=scored,
            quality=quality,
        )
        for index, quality in enumerate(sliced.quality)
    )


def _packed(features: tuple[FeatureCounts, ...], sizes: bytes) -> Body:
    cells = tuple(chain.from_iterable(feature.cells for feature in features))
    others = [feature.nulls for feature in features]
    others += [feature.pos_inf for feature in features]
    others += [feature.neg_inf for feature in features]
    others += [feature.repeats for feature in features]
    count = len(features)
    totals = require_finite([feature.total for feature in features])
    squares = require_finite([feature.squares for feature in features])
    # Extremes come from float32 columns, so four bytes hold them exactly.
    lows = [math.nan if feature.min is None else feature.min for feature in features]
    highs = [math.nan if feature.max is None else feature.max for feature in features]
    return Body(
        planes_of(others),
        planes_of(to_wire(sizes)(cells)),
        (
            struct.pack(f">{count}d", *totals),
            struct.pack(f">{count}d", *squares),
            struct.pack(f">{count}f", *lows),
            struct.pack(f">{count}f", *highs),
        ),
    )


def _features(body: Body, sizes: bytes, rows: int) -> tuple[FeatureCounts, ...]:
    count = len(sizes)
    cells = from_wire(sizes)(counts_of(*body.cells))
    others = counts_of(*body.others)
    totals, squares = (struct.unpack(f">{count}d", packed) for packed in body.reals[:2])
    lows, highs = (struct.unpack(f">{count}f", packed) for packed in body.reals[2:])
    for sums in (totals, squares):
        require_within(sums, MAX_SUM)
    for extremes in (lows, highs):
        require_within(extremes, MAX_VALUE, missing=True)
    ends = tuple(accumulate(sizes, initial=0))
    features = tuple(
        FeatureCounts(
            cells=tuple(cells[ends[i] : ends[i + 1]]),
            nulls=others[i],
            pos_inf=others[count + i],
            neg_inf=others[2 * count + i],
            total=totals[i],
            squares=squares[i],
            min=None if math.isnan(lows[i]) else lows[i],
            max=None if math.isnan(highs[i]) else highs[i],
            repeats=others[3 * count + i],
        )
        for i in range(count)
    )
    for feature in features:
        if feature.rows != rows:
            raise ProfileError(f"a feature counts {feature.rows} values in a window of {rows} rows")
        if feature.repeats > rows:
            raise ProfileError(f"{feature.repeats} of {rows} rows repeat the one before")
        low, high = feature.min, feature.max
        fits = low <= high if low is not None and high is not None else low is high is None
        if not fits or feature.squares < 0:
            raise ProfileError("the sums and extremes of a feature contradict each other")
    return features
