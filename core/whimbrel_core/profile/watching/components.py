"""What a detector watches of each feature: a few numbers per window, each robust and standardised.

- ``location``: mean of z = (x − reference mean) / reference sd, every row at its cell's mean and
  clipped to ±5, so that one broken reading cannot move it far;
- ``scale``: logarithm of the standard deviation of the same z;
- ``share of <word>``: how often each frequent word comes (categories), and ``share of other``:
  never-seen words or values;
- ``missing``: nulls and infinities.

Shares are standardised by √(p (1 − p)) of the reference, p at least .01. So every component but
``scale`` has a variance of about 1/m in a window of m rows without drift, and a shift of .1 means
a tenth of a standard deviation of single rows. All are functions of sums over cells, so any merge
of windows has them, too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from whimbrel_core.profile.flat import flatten

if TYPE_CHECKING:
    from whimbrel_core.profile.baseline import Baseline
    from whimbrel_core.profile.drift.levels import Thresholds

Floats = NDArray[np.float64]
Counts = NDArray[np.int64]

MIN_ROWS = 30  # fewer say too little about a scale for its variance to be (kurtosis − 1) / 4m
_CLIP = 5.0
_MAX_WORDS = 8
_WORD_SHARE = 0.02
_LEAST_SHARE = 0.01
_MAX_LOG_SCALE = 3.0
_W1_OF_SCALE = (2 / np.pi) ** 0.5


class Component(NamedTuple):
    """One watched number.

    Args:
        feature: index of the feature.
        name: "location", "scale", "missing" or "share of <word>".
        row_variance: its variance without drift, times the rows of the window.
    """

    feature: int
    name: str
    row_variance: float = 1.0


class Components:
    """The components of a baseline's features; `values` turns windows into numbers (N, K).

    They stand in four blocks: locations, scales (of the same features), shares, missing.
    """

    def __init__(self, baseline: Baseline) -> None:
        self.layout = layout = baseline.layout
        reference = flatten(baseline.window)
        cells, invalid = reference.cells, reference.invalid
        sizes = np.array([feature.cells for feature in layout.features])
        self._starts = np.cumsum(sizes) - sizes
        n = np.add.reduceat(cells, self._starts)
        ordered = [i for i, feature in enumerate(layout.features) if feature.ordered and n[i]]
        standards = {i: _standard(baseline, i, cells, self._starts) for i in ordered}
        axes = {i: standard for i, standard in standards.items() if standard is not None}
        self.locations = [Component(i, "location") for i in axes]
        scales = [
            Component(i, "scale", max((fourth - 1) / 4, 0.05)) for i, (_, fourth) in axes.items()
        ]
        shares, share_cells = _shares(baseline, cells, self._starts)
        missing = [Component(i, "missing") for i in range(len(layout.features))]
        self.all = (*self.locations, *scales, *shares, *missing)
        self.feature = np.array([component.feature for component in self.all])
        self.row_variance = np.array([component.row_variance for component in self.all])
        self.is_scale = np.array([component.name == "scale" for component in self.all])
        blocks = (self.locations, scales, shares, missing)
        ends = np.cumsum([len(block) for block in blocks])
        # Where each block begins that is not empty: components of one sort vary alike.
        self.sorts = np.unique(np.concatenate([[0], ends[:-1]]))
        self._axes = np.array(list(axes), np.int64)
        self._z = sum(
            (_placed(axes[i][0], int(self._starts[i]), len(cells)) for i in axes),
            np.zeros(len(cells)),
        )
        self._squares = self._z**2
        self._share_cells = np.array(share_cells, np.int64)
        self._share_feature = np.array([share.feature for share in shares], np.int64)
        self._weight_feature = self.feature[: len(self.feature) - len(missing)]
        self._share_rate = cells[self._share_cells] / np.maximum(n[self._share_feature], 1)
        self._share_sd = _share_sd(self._share_rate)
        self._missing_rate = invalid / baseline.window.rows
        self._missing_sd = _share_sd(self._missing_rate)
        axis = np.ones(len(self.locations) + len(scales))
        self._unit = np.concatenate([axis, self._share_sd, self._missing_sd])
        self._is_share = np.arange(len(self.all)) >= len(axis)

    def levels(
        self, component: NDArray[np.intp] | Counts, shift: Floats, thresholds: Thresholds
    ) -> Counts:
        """Return how much changes of components matter, as indices into `levels.LEVELS`.

        Args:
            component: indices into ``all``.
            shift: by how much each of them changed, in its own unit.
            thresholds: gives the levels: of Wasserstein-1 for changes along the axis (for a normal
                feature whose sd grows by a factor s it is √(2/π) (s − 1)), of shares for the rest.
        """
        size = np.abs(shift)
        size = np.where(self.is_scale[component], _W1_OF_SCALE * np.expm1(size), size)
        size = size * self._unit[component]
        found: Counts = np.where(
            self._is_share[component],
            np.searchsorted(np.array(thresholds.rate), size, "right"),
            np.searchsorted(np.array(thresholds.w1_sd), size, "right"),
        )
        return found

    def values(self, cells: Counts, invalid: Counts, rows: Counts) -> tuple[Floats, Floats]:
        """Return the components (N, K) of N windows, and their variances (N, K) for their rows.

        NaN where fewer than `MIN_ROWS` rows tell of the feature. Each window gives the same bits
        whatever windows are beside it.

        Args:
            cells: (N, C) counts of all cells.
            invalid: (N, F) nulls and infinities.
            rows: (N,) rows of the windows.
        """
        n = np.add.reduceat(cells, self._starts, axis=-1).astype(np.float64)
        n[n < MIN_ROWS] = np.nan
        of = np.where(rows < MIN_ROWS, np.nan, rows)[:, np.newaxis]
        axes = self._axes
        location = np.add.reduceat(cells * self._z, self._starts, axis=-1)[:, axes] / n[:, axes]
        square = np.add.reduceat(cells * self._squares, self._starts, axis=-1)[:, axes] / n[:, axes]
        share = cells[:, self._share_cells] / n[:, self._share_feature]
        with np.errstate(divide="ignore", invalid="ignore"):
            scale = np.log(np.maximum(square - location**2, 0.0)) / 2
        counted = np.concatenate(
            [n[:, self._weight_feature], np.broadcast_to(of, invalid.shape)], axis=-1
        )
        values = np.concatenate(
            [
                location,
                np.clip(scale, -_MAX_LOG_SCALE, _MAX_LOG_SCALE),
                (share - self._share_rate) / self._share_sd,
                (invalid / of - self._missing_rate) / self._missing_sd,
            ],
            axis=-1,
        )
        return values, self.row_variance / counted


def _standard(
    baseline: Baseline, index: int, cells: Counts, starts: Counts
) -> tuple[Floats, float] | None:
    """Return z of one feature's cells and its fourth moment; None when the reference is constant."""
    feature, stats = baseline.layout.features[index], baseline.stats[index]
    start = int(starts[index])
    share = cells[start : start + feature.cells] / cells[start : start + feature.cells].sum()
    z = np.clip((np.array(stats.cell_means) - feature.centre) / feature.scale, -_CLIP, _CLIP)
    if feature.kind == "discrete":
        z[-1] = 0.0  # never-seen values have no place on the axis; their share is watched
    mean = float(share @ z)
    variance = float(share @ (z - mean) ** 2)
    if not variance > 0:
        return None
    z = (z - mean) / variance**0.5
    return z, float(share @ z**4)


def _shares(baseline: Baseline, cells: Counts, starts: Counts) -> tuple[list[Component], list[int]]:
    """Return the watched shares of categories and of never-seen values, and their cells."""
    found, places = [], []
    for index, feature in enumerate(baseline.layout.features):
        if feature.kind == "numeric":
            continue
        start = int(starts[index])
        counts = cells[start : start + feature.cells]
        least = max(_WORD_SHARE * int(counts.sum()), 1)
        frequent = [
            cell for cell in range(len(feature.vocabulary[:_MAX_WORDS])) if counts[cell] >= least
        ]
        names = feature.cell_names()
        for cell in (*frequent, feature.cells - 1):
            found.append(Component(index, f"share of {names[cell]}"))
            places.append(start + cell)
    return found, places


def _placed(values: Floats, start: int, length: int) -> Floats:
    row = np.zeros(length)
    row[start : start + len(values)] = values
    return row


def _share_sd(rate: Floats) -> Floats:
    floored = np.clip(rate, _LEAST_SHARE, 1 - _LEAST_SHARE)
    sd: Floats = np.sqrt(floored * (1 - floored))
    return sd
