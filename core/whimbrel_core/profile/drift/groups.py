"""Coarse bins: unions of neighbouring cells, on which evidence and effect are computed.

Fine cells hold too few rows for a chi-square, and an index like PSI depends on the number of its
bins, so both are taken on about ten (PSI, JS) or ten or twenty (Pearson's X²) coarse bins that
hold equal shares of the reference. For numeric features these are its deciles and vigintiles,
exactly, because the layout's edges contain them. Words are in order of frequency, so the rare
ones are neighbours and share the last bin.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from whimbrel_core.profile.layout import Layout

Counts = NDArray[np.int64]


class Grouping:
    """Coarse bins of all features of a layout, as runs of the flat array of cells.

    Args:
        layout: of the counts.
        reference: (C,) reference counts of all cells.
        bins: bins of a numeric feature.
        share: least share of the reference in a bin of a discrete or categorical feature; smaller
            values or words, and never-seen ones, are joined with their neighbours.
    """

    __slots__ = ("_bounds", "bins", "feature", "first", "starts")

    def __init__(self, layout: Layout, reference: Counts, *, bins: int, share: float) -> None:
        starts: list[int] = []
        sizes: list[int] = []
        at = 0
        for feature in layout.features:
            cells = reference[at : at + feature.cells]
            runs = (
                _quantile_runs(cells, bins)
                if feature.kind == "numeric"
                else _value_runs(cells, share)
            )
            starts += [at + run for run in runs]
            sizes.append(len(runs))
            at += feature.cells
        #: (G,) first cell of each bin
        self.starts = np.array(starts)
        self._bounds = np.array([*starts, at])
        #: (F,) number of bins of each feature
        self.bins = np.array(sizes)
        #: (G,) feature of each bin
        self.feature = np.repeat(np.arange(len(sizes)), self.bins)
        #: (F,) first bin of each feature
        self.first = np.cumsum(self.bins) - self.bins

    @property
    def sizes(self) -> Counts:
        """(G,) number of cells in each bin."""
        cells: Counts = np.diff(self._bounds)
        return cells

    def sum(self, cells: Counts) -> Counts:
        """Return (…, G): ``cells`` (…, C) summed per bin."""
        summed: Counts = np.add.reduceat(cells, self.starts, axis=-1)
        return summed

    def between(self, below: Counts) -> Counts:
        """Return (…, G): the same from running sums ``below`` (…, C + 1), 0 first."""
        summed: Counts = np.diff(below.take(self._bounds, axis=-1))
        return summed


def _quantile_runs(cells: Counts, bins: int) -> list[int]:
    """Return where bins of equal shares begin: bin k ends where the cumulative count reaches k/bins.

    In integers: the order statistics of the reference are edges, so the shares are exact.
    """
    total = int(cells.sum())
    below = np.cumsum(cells)
    targets = [-(-k * total // bins) for k in range(1, bins)] if total else []
    ends = np.unique(below.searchsorted(targets, "left") + 1).tolist()
    return [0, *(end for end in ends if below[end - 1] < total)]


def _value_runs(cells: Counts, share: float) -> list[int]:
    """Return where bins of at least ``share`` begin; never-seen ones are in the last."""
    least = max(share * int(cells.sum()), 1)
    runs, held = [0], 0
    for cell, count in enumerate(cells.tolist()):
        if held >= least:
            runs.append(cell)
            held = 0
        held += count
    if len(runs) > 1 and held < least:
        runs.pop()  # the rest is too small for a bin of its own
    return runs
