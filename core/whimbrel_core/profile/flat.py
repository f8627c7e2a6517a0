"""A window as flat arrays, for whoever adds up or judges many: the server.

`decode` reads the same bytes as `whimbrel_core.profile.window.decode` and refuses the same ones
(tests hold the two against each other), without an object per feature. Counts stand in the order of the wire
form: the cells of all features, then their nulls, positive and negative infinities, and repeats.
"""

from __future__ import annotations

from functools import lru_cache
from itertools import chain
from typing import TYPE_CHECKING

import msgspec
import numpy as np
from numpy.typing import NDArray

from whimbrel_core.errors import ProfileError
from whimbrel_core.profile.counts import FeatureCounts, OpsCounts, QualityCounts, no_quality
from whimbrel_core.profile.encoding.fields import (
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
from whimbrel_core.profile.encoding.packing import MAX_COUNT, Reader, Writer, require_finite
from whimbrel_core.profile.encoding.planes import Body, own_order, read_body, wire_order, write_body
from whimbrel_core.profile.window import Window, fits_quality, fits_slices, slices_of

if TYPE_CHECKING:
    from whimbrel_core.profile.layout import Layout

Counts = NDArray[np.int64]
Floats = NDArray[np.float64]


class FlatWindow(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """The counts of one period, as `whimbrel_core.profile.window.Window` holds them.

    Args:
        sizes: number of cells of each feature, a byte each (F).
        counts: (C + 4F,) int64: cells, nulls, positive infinities, negative infinities, repeats.
        sums: (2F,) float64: totals, then squares.
        low: (F,) float64: smallest values; +inf where there is none.
        high: (F,) float64: largest values; −inf where there is none.
        sliced: counts of all slices, flat; None without any.
    """

    profile_id: str
    start_ms: int
    end_ms: int
    rows: int
    sizes: bytes
    counts: Counts
    sums: Floats
    low: Floats
    high: Floats
    ops: OpsCounts
    score_cells: tuple[int, ...] | None
    quality: QualityCounts | None
    duplicates: int = 0
    sliced: Sliced | None = None

    @property
    def cells(self) -> Counts:
        """(C,) counts of all cells."""
        return self.counts[: len(self.counts) - 4 * len(self.sizes)]

    @property
    def invalid(self) -> Counts:
        """(F,) nulls and infinities."""
        missing: Counts = self.counts[len(self.cells) :].reshape(4, -1)[:3].sum(axis=0)
        return missing

    @property
    def repeats(self) -> Counts:
        """(F,) rows whose value is the same as in the row before."""
        return self.counts[len(self.counts) - len(self.sizes) :]

    def window(self) -> Window:
        """Return the counts as objects."""
        counts: list[int] = self.counts.tolist()
        sums: list[float] = self.sums.tolist()
        low, high = self.low.tolist(), self.high.tolist()
        count, at, features = len(self.sizes), 0, []
        nulls = len(counts) - 4 * count
        for i, size in enumerate(self.sizes):
            some = low[i] <= high[i]
            features.append(
                FeatureCounts(
                    cells=tuple(counts[at : at + size]),
                    nulls=counts[nulls + i],
                    pos_inf=counts[nulls + count + i],
                    neg_inf=counts[nulls + 2 * count + i],
                    total=sums[i],
                    squares=sums[count + i],
                    min=low[i] if some else None,
                    max=high[i] if some else None,
                    repeats=counts[nulls + 3 * count + i],
                )
            )
            at += size
        return Window(
            profile_id=self.profile_id,
            start_ms=self.start_ms,
            end_ms=self.end_ms,
            rows=self.rows,
            features=tuple(features),
            ops=self.ops,
            quality=self.quality,
            score_cells=self.score_cells,
            duplicates=self.duplicates,
            slices=slices_of(self.sliced, scored=self.score_cells is not None),
        )


def flatten(window: Window) -> FlatWindow:
    """Return ``window`` as arrays."""
    features = window.features
    counts = chain(
        chain.from_iterable(one.cells for one in features),
        (one.nulls for one in features),
        (one.pos_inf for one in features),
        (one.neg_inf for one in features),
        (one.repeats for one in features),
    )
    sums = [*(one.total for one in features), *(one.squares for one in features)]
    return FlatWindow(
        profile_id=window.profile_id,
        start_ms=window.start_ms,
        end_ms=window.end_ms,
        rows=window.rows,
        sizes=bytes(len(one.cells) for one in features),
        counts=np.fromiter(counts, np.int64),
        sums=np.array(sums, np.float64),
        low=np.array([np.inf if one.min is None else one.min for one in features]),
        high=np.array([-np.inf if one.max is None else one.max for one in features]),
        ops=window.ops,
        score_cells=window.score_cells,
        quality=window.quality,
        duplicates=window.duplicates,
        sliced=window.sliced,
    )


def decode(data: bytes) -> FlatWindow:
    """Return the window that `whimbrel_core.profile.window.encode` wrote.

    Raises:
        ProfileError: these bytes are no window, are truncated or beyond a limit, or their counts
            do not add up. Nothing else is raised, whatever the bytes.
    """
    profile_id, packed = unwrap(data)
    source = Reader(packed)
    head = read_head(source, profile_id)
    rest = read_rest(source, head)
    sizes, count = head.cells, len(head.cells)
    if head.rows:
        body = read_body(source, sizes)
        counts = np.concatenate([_counts(*body.cells)[_own_order(sizes)], _counts(*body.others)])
        _require_rows(counts, sizes, head.rows)
        sums = np.frombuffer(b"".join(body.reals[:2]), ">f8").astype(np.float64)
        low, high = _checked(sums, np.frombuffer(b"".join(body.reals[2:]), ">f4"))
    else:
        counts, sums = np.zeros(sum(sizes) + 4 * count, np.int64), np.zeros(2 * count)
        low, high = np.full(count, np.inf), np.full(count, -np.inf)
    source.finish()
    return FlatWindow(
        profile_id=head.profile_id,
        start_ms=head.start_ms,
        end_ms=head.end_ms,
        rows=head.rows,
        sizes=head.cells,
        counts=counts,
        sums=sums,
        low=low,
        high=high,
        ops=rest.ops,
        score_cells=rest.score_cells,
        quality=rest.quality,
        duplicates=head.duplicates,
        sliced=rest.sliced,
    )


def encode(window: FlatWindow, *, level: int = 9) -> bytes:
    """Return ``window`` as bytes that both readers read.

    Raises:
        ProfileError: a count is negative or above 2^53, or a sum is not finite.
    """
    out = Writer()
    cuts: tuple[int, ...] = ()
    write_head(out, window, window.sizes)
    write_rest(out, window)
    if window.rows:
        cuts = write_body(out, _packed(window), window.sizes)
    return wrap(window.profile_id, bytes(out.buffer), cuts, level=level)


def require_fit(window: FlatWindow, layout: Layout) -> None:
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
    scores = 0 if window.score_cells is None else len(window.score_cells)
    fits = (
        window.sizes == layout.sizes
        and scores == layout.score_cells
        and (window.quality is None or fits_quality(window.quality, no_quality(layout)))
        and fits_slices(window.sliced, layout)
    )
    if not fits:
        raise ProfileError(
            f"a window claims profile {layout.profile_id[:12]}… and has other cells than it",
            code="profile.mismatch",
        )


@lru_cache(64)
def _starts(sizes: bytes) -> Counts:
    ends = np.cumsum(np.frombuffer(sizes, np.uint8), dtype=np.int64)
    starts: Counts = ends - np.frombuffer(sizes, np.uint8)
    return starts


# Not many: sizes are foreign, and an order of 256 features takes 200 KB.
@lru_cache(32)
def _wire_order(sizes: bytes) -> Counts:
    return np.array(wire_order(sizes), np.intp)


@lru_cache(32)
def _own_order(sizes: bytes) -> Counts:
    return np.array(own_order(sizes), np.intp)


def _counts(width: int, planes: bytes) -> Counts:
    """Return the counts of one row of byte planes. Raises `ProfileError` above 2^53."""
    if width == 1:
        return np.frombuffer(planes, np.uint8).astype(np.int64)
    woven = np.frombuffer(planes, np.uint8).reshape(width, -1).T.copy()
    counts: Counts = woven.view(f"<u{width}").ravel().astype(np.int64)
    # An unsigned count above 2^63 has become negative.
    if width == 8 and not ((counts >= 0) & (counts <= MAX_COUNT)).all():  # noqa: PLR2004 - narrower ones cannot be
        raise ProfileError("a count in a profile is above 2^53")
    return counts


def _require_rows(counts: Counts, sizes: bytes, rows: int) -> None:
    features = len(sizes)
    cells = len(counts) - 4 * features
    # A sum of 106 counts up to 2^53 stays below 2^60.
    others = counts[cells:].reshape(4, features)
    counted = others[:3].sum(axis=0)
    if features:
        counted += np.add.reduceat(counts[:cells], _starts(sizes))
    wrong = np.flatnonzero(counted != rows)
    if len(wrong):
        raise ProfileError(
            f"a feature counts {counted[wrong[0]]} values in a window of {rows} rows"
        )
    if features and others[3].max() > rows:
        raise ProfileError(f"{others[3].max()} of {rows} rows repeat the one before")


def _packed(window: FlatWindow) -> Body:
    counts, count = window.counts, len(window.sizes)
    if len(counts) and not 0 <= counts.min() <= counts.max() <= MAX_COUNT:
        raise ProfileError(f"counts must be in 0 … 2^53, got {counts.min()} … {counts.max()}")
    require_finite(window.sums.tolist())
    totals, squares = window.sums.astype(">f8").reshape(2, count)
    none = window.low > window.high
    lows, highs = (np.where(none, np.nan, row).astype(">f4") for row in (window.low, window.high))
    cells = window.cells
    return Body(
        _planes(counts[len(cells) :]),
        _planes(cells[_wire_order(window.sizes)]),
        (totals.tobytes(), squares.tobytes(), lows.tobytes(), highs.tobytes()),
    )


def _planes(counts: Counts) -> tuple[int, bytes]:
    """Return bytes a count, and the byte planes of one row of counts."""
    top = int(counts.max(initial=0))
    width = 1 if top < 1 << 8 else 2 if top < 1 << 16 else 4 if top < 1 << 32 else 8
    planes = counts.astype(f"<u{width}").view(np.uint8).reshape(len(counts), width).T
    return width, planes.tobytes()


def _checked(sums: Floats, extremes: Floats) -> tuple[Floats, Floats]:
    """Return smallest and largest values, infinite where there is none."""
    count = len(extremes) // 2
    # A maximum with a NaN among the numbers is NaN, and at most nothing.
    if count and not np.abs(sums).max() <= MAX_SUM:
        raise ProfileError(f"a sum in a profile is beyond the limit {MAX_SUM!r}, or no number")
    with np.errstate(invalid="ignore"):  # a signalling NaN is one, too
        extremes = extremes.astype(np.float64)
    low, high = extremes[:count], extremes[count:]
    none = np.isnan(low)
    if none.any():
        fits = (low <= high) | (none & np.isnan(high))
        low, high = np.where(none, np.inf, low), np.where(none, -np.inf, high)
        within = np.abs(np.concatenate([low[~none], high[~none]])) <= MAX_VALUE
    else:
        fits, within = low <= high, np.abs(extremes) <= MAX_VALUE
    if not (fits.all() and within.all()) or (sums[count:] < 0).any():
        raise ProfileError("the sums and extremes of a feature contradict each other")
    return low, high
