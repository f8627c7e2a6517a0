"""Distances along the axis of a feature: Kolmogorov–Smirnov and Wasserstein-1, of many windows.

From counts alone both are sums over the cells: D_k, the difference of the two distribution
functions at edge k, and W1 = Σ |D_k| (μ_{k+1} − μ_k) with every row at its cell's reference mean.
What else a window knows of its rows (`Extent`) makes them better where rows lie elsewhere in their
cells than the reference's:

- The means of both sides are known. ∫ D is their difference, so that W1 = |∫ D| + 2 min(A₊, A₋), where
  A are the areas of either sign. Cells give the smaller one. A shift of all rows is exact, however
  far it goes.
- Rows beyond the reference are in wide cells. On one side, the means tell how far they are; on both
  sides, their places are found such that mean and second moment are the window's.
- A window ends at its own extremes, which may lie within a cell: D is taken there, too.

Words have no axis. Never-seen values of a discrete feature are placed where the window's sums, less
the known values, say.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from whimbrel_core.profile.drift.placing import leaning_to, never_seen

if TYPE_CHECKING:
    from whimbrel_core.profile.baseline import Baseline
    from whimbrel_core.profile.drift.stacking import Extent

Floats = NDArray[np.float64]
Counts = NDArray[np.int64]
Flags = NDArray[np.bool_]

_REACH = 0.002  # sd of W1 that rows beyond the reference can make; from here they are placed well
_END = 0.01  # of the reference, beyond which an end of a window is looked for


class Axis:
    """Measures distances from one reference.

    Args:
        baseline: gives the cells and their means.
        cells: (C,) counts of the reference.
        own: the reference's extent, (1, F).
    """

    def __init__(self, baseline: Baseline, cells: Counts, own: Extent) -> None:
        features = baseline.layout.features
        sizes = np.array([feature.cells for feature in features])
        self._starts = np.cumsum(sizes) - sizes
        self._bounds = np.append(self._starts, len(cells))
        self._feature = np.repeat(np.arange(len(features)), sizes)
        placed = np.ones(len(cells), np.int64)
        gaps, places = np.zeros(len(cells)), np.zeros(len(cells))
        self._scales = scales = np.ones(len(features))
        self._centres = np.array([feature.centre for feature in features])
        self._rare: list[tuple[int, int, int]] = []  # discrete: feature, first cell, cell of others
        for index, (feature, stats) in enumerate(zip(features, baseline.stats, strict=True)):
            start = int(self._starts[index])
            stop = start + feature.cells
            if feature.kind == "categorical":
                placed[start:stop] = 0
                continue
            last = stop - 1 if feature.kind == "discrete" else stop
            placed[last:stop] = 0
            if last < stop and last > start:
                self._rare.append((index, start, last))
            means = np.array(stats.cell_means[: last - start])
            places[start:last] = means - feature.centre
            gaps[start : last - 1] = np.diff(means)
            scales[index] = stats.sd or 1.0
        self._placed = None if placed.all() else placed
        self._gaps = gaps / scales[self._feature]
        self._places = places
        on_axis = cells * placed
        n = np.add.reduceat(on_axis, self._starts)
        self._on_axis = n > 0
        # Cumulative within each feature: of the whole row of cells, less what came before it.
        below = np.cumsum(on_axis) - np.repeat(np.cumsum(n) - n, np.diff(self._bounds))
        self._share = below / np.maximum(n, 1)[self._feature]
        self._share_all = self._share + self._feature
        self._cells = cells
        self._known = own.low[0] <= own.high[0]
        self._mean = np.where(self._known, own.total[0], 0.0) / np.maximum(
            np.add.reduceat(cells, self._starts), 1
        )
        #: beyond these the reference has no rows
        self._low = np.where(self._known, own.low[0], -np.inf)
        self._high = np.where(self._known, own.high[0], np.inf)
        self._set_ends(baseline, on_axis)

    def _set_ends(self, baseline: Baseline, on_axis: Counts) -> None:
        """Find the cells beyond the reference, and where its ends are; lay out cells side by side."""
        features = baseline.layout.features
        most = int(np.diff(self._bounds).max())
        shape = (len(features), most)
        #: first cell with reference rows, and the one after the last
        self._first, self._last = self._starts.copy(), self._bounds[1:].copy()
        #: where the outer hundredths of the reference begin
        self._lower = np.full(len(features), np.inf)
        self._upper = np.full(len(features), -np.inf)
        #: (F, most) which cells of all: the one after the last where there is none
        self._at = np.full(shape, int(self._bounds[-1]))
        #: (F, most) upper ends of the cells about the centre; inf from the last one on
        self._ends = np.full(shape, np.inf)
        self._side = np.zeros(shape, np.int8)  # −1 and 1: below and above the reference
        self._means = np.zeros(shape)
        self._shares = np.ones(shape)
        tails = [(range(1), range(0)) for _ in features]
        for index, feature in enumerate(features):
            start, stop = int(self._bounds[index]), int(self._bounds[index + 1])
            occupied = np.flatnonzero(on_axis[start:stop])
            if feature.kind != "numeric" or not len(occupied) or not feature.edges:
                continue
            self._first[index] = start + occupied[0]
            self._last[index] = start + occupied[-1] + 1
            count, edges = stop - start, np.array(feature.edges)
            share = self._share[start : stop - 1]
            self._lower[index] = edges[min(share.searchsorted(_END), len(edges) - 1)]
            self._upper[index] = edges[min(share.searchsorted(1 - _END), len(edges) - 1)]
            self._at[index, :count] = np.arange(start, stop)
            self._ends[index, : count - 1] = edges - feature.centre
            self._side[index, : occupied[0]] = -1
            self._side[index, occupied[-1] + 1 : count] = 1
            self._means[index, :count] = self._places[start:stop]
            self._shares[index, : count - 1] = share
            tails[index] = (range(occupied[0] + 1), range(occupied[-1], count))
        # Cells beyond the reference, with a neighbour inside; that of the lower ones fills rows up.
        width = max(len(lower) + len(upper) for lower, upper in tails)
        self._tail = np.array(
            [
                [*lower, *[lower[-1]] * (width - len(lower) - len(upper)), *upper]
                for lower, upper in tails
            ]
        )

    def distances(
        self, cells: Counts, below: Counts, known: Extent | None
    ) -> tuple[Floats, Floats]:
        """Return KS and W1 / sd (N, F); NaN where a feature has no axis, or no values.

        Args:
            cells: (N, C) counts of all cells.
            below: (N, C + 1) how many rows are in all cells before each one.
            known: extent of the windows; None: counts alone.
        """
        if self._placed is not None:
            on_axis = cells * self._placed
            below = np.zeros_like(below)
            np.cumsum(on_axis, axis=-1, out=below[:, 1:])
        ends = below.take(self._bounds, axis=-1)
        m = np.diff(ends)
        usable = (m > 0) & self._on_axis
        weight = usable / np.maximum(m, 1)
        if (m == m[:, :1]).all() and usable.all():
            # As many rows in every feature: what came before one of them is its number.
            difference: Floats = below[:, 1:] * weight[:, :1]
            difference -= self._share_all
        else:
            own = below[:, 1:] - ends[:, :-1].take(self._feature, axis=-1)
            difference = own * weight.take(self._feature, axis=-1)
            difference -= self._share
        areas = difference * self._gaps
        signed = np.add.reduceat(areas, self._starts, axis=-1)
        w1 = np.add.reduceat(np.abs(areas, out=areas), self._starts, axis=-1)
        ks = np.maximum.reduceat(np.abs(difference, out=difference), self._starts, axis=-1)
        if known is not None:
            self._correct(cells, below, m, known, signed, w1)
            self._at_ends(known, usable, ks)
            usable = usable | self._with_rare(cells, known, ks, w1)
        ks[~usable] = np.nan
        w1[~usable] = np.nan
        return ks, w1

    def _correct(  # noqa: PLR0917 — what `distances` has at hand
        self, cells: Counts, below: Counts, m: Counts, known: Extent, signed: Floats, w1: Floats
    ) -> None:
        """Put the known difference of means in the place of that of cells, in ``w1``.

        ``signed`` is ∫ D, the reference's mean less the window's.
        """
        sure = (known.low <= known.high) & self._known
        rows = np.maximum(m, 1)
        means = np.where(sure, self._mean - known.total / rows, 0.0) / self._scales
        with np.errstate(invalid="ignore"):
            down = np.where(sure, np.maximum(self._low - known.low, 0.0), 0.0) / self._scales
            up = np.where(sure, np.maximum(known.high - self._high, 0.0), 0.0) / self._scales
        down *= below.take(self._first, axis=-1) - below.take(self._bounds[:-1], axis=-1)
        up *= below.take(self._bounds[1:], axis=-1) - below.take(self._last, axis=-1)
        down /= rows
        up /= rows
        far = np.maximum(down, up) > _REACH
        if far.any():
            both = np.minimum(down, up) > _REACH
            if both.any():
                n, f = np.nonzero(both)
                above, under = self._beyond(n, f, cells, known)
                per = m[both] * self._scales[f]
                w1[both] += (above - under) / per
                signed[both] -= (above + under) / per
            # What is missing is how far the rows on the one side lie.
            one = far & ~both
            reach = np.maximum(down, up)
            missing = np.where(one, np.clip(means - signed, -reach, reach), 0.0)
            w1 += np.where(down > up, missing, -missing)
            signed += missing
        w1 += np.where(sure, np.abs(means) - np.abs(signed), 0.0)
        np.maximum(w1, np.abs(means), out=w1)

    def _beyond(self, n: Counts, f: Counts, cells: Counts, known: Extent) -> tuple[Floats, Floats]:
        """Return by how much rows above and below the reference lie beyond their cells' places.

        Within a cell (a, b] the density is taken to grow or fall exponentially, as from the cell
        before to the one behind. That says where in the cell the mean is; one correction for the
        cells of each side makes the window's mean and second moment come out.

        Args:
            n: (P,) windows.
            f: (P,) a feature of each, with rows on both sides.
            cells: (N, C) counts.
            known: extent of the windows.
        """
        padded = np.column_stack([cells, np.zeros(len(cells), np.int64)])
        rows = padded[n[:, np.newaxis], self._at[f]].astype(float)
        centre = self._centres[f]
        low = (known.low[n, f] - centre)[:, np.newaxis]
        high = (known.high[n, f] - centre)[:, np.newaxis]
        b = np.clip(self._ends[f], low, high)
        a = np.column_stack([low, b[:, :-1]])
        h = b - a
        places, side, tail = self._means[f], self._side[f], self._tail[f]
        within = np.where(side == 0, rows, 0.0)
        total = known.total[n, f] - (within * places).sum(axis=-1)
        squares = known.squares[n, f] - (within * (places**2 + h**2 / 12)).sum(axis=-1)
        rows, a, h, places, side = (
            np.take_along_axis(array, tail, axis=-1) for array in (rows, a, h, places, side)
        )
        below, above = np.where(side < 0, rows, 0.0), np.where(side > 0, rows, 0.0)
        leaning = leaning_to(total, squares, rows, a, h, side)
        moved = a + leaning * h - places
        return (above * moved).sum(axis=-1), (below * moved).sum(axis=-1)

    def _at_ends(self, known: Extent, usable: Flags, ks: Floats) -> None:
        """Look at D where windows end, where that is well inside of the reference."""
        short = usable & (known.low <= known.high)
        for within, ends, one in (
            (short & (known.low > self._lower), known.low, 0.0),
            (short & (known.high < self._upper), known.high, 1.0),
        ):
            if within.any():
                share = self._share_at(np.nonzero(within)[1], ends[within])
                ks[within] = np.maximum(ks[within], np.abs(one - share))

    def _share_at(self, f: Counts, at: Floats) -> Floats:
        """Return the reference's distribution function at (P,) points, from its cells' means."""
        at = (at - self._centres[f])[:, np.newaxis]
        ends, shares = self._ends[f], self._shares[f]
        cell = (ends < at).sum(axis=-1, keepdims=True)
        before = np.maximum(cell - 1, 0)
        lower, a = (np.take_along_axis(array, before, axis=-1) for array in (shares, ends))
        upper, b = (np.take_along_axis(array, cell, axis=-1) for array in (shares, ends))
        mean = np.take_along_axis(self._means[f], cell, axis=-1)
        closed = (cell > 0) & (b < np.inf)
        h = np.where(closed, b - a, 1.0)
        place = np.where(closed, np.clip((mean - a) / h, 0.0, 1.0), 1.0)
        # The distribution u^k on (0, 1] has mean k / (k + 1): even for a half, a step for one.
        power = place / np.maximum(1 - place, 1e-9)
        within = np.where(closed, np.clip((at - a) / h, 0.0, 1.0), 1.0) ** power
        lower = np.where(cell > 0, lower, 0.0)
        found: Floats = (lower + (upper - lower) * within)[:, 0]
        return found

    def _with_rare(self, cells: Counts, known: Extent, ks: Floats, w1: Floats) -> Flags:
        """Measure anew where values were never seen, and return where: they are placed by the sums."""
        anew = np.zeros(ks.shape, bool)
        for f, start, last in self._rare:
            others = cells[:, last]
            some = np.flatnonzero((others > 0) & (known.low[:, f] <= known.high[:, f]))
            if not len(some) or self._cells[last] or not self._on_axis[f]:
                continue
            counts = cells[some, start:last].astype(float)
            values = self._places[start:last]
            at, rows = never_seen(
                values,
                others[some].astype(float),
                known.total[some, f] - counts @ values,
                known.squares[some, f] - counts @ values**2,
                known.low[some, f] - self._centres[f],
                known.high[some, f] - self._centres[f],
            )
            points = np.column_stack([np.broadcast_to(values, counts.shape), at])
            rows = np.column_stack([counts, rows])
            own = np.append(self._cells[start:last], [0.0, 0.0])
            order = points.argsort(axis=-1, kind="stable")
            points = np.take_along_axis(points, order, axis=-1)
            shares = np.take_along_axis(rows / rows.sum(axis=-1, keepdims=True), order, axis=-1)
            gap = np.abs(np.cumsum(shares - (own / own.sum())[order], axis=-1))
            ks[some, f] = gap.max(axis=-1)
            w1[some, f] = (gap[:, :-1] * np.diff(points, axis=-1)).sum(axis=-1) / self._scales[f]
            anew[some, f] = True
        return anew
