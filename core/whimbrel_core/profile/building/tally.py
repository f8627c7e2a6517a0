"""Count the columns of a table in the cells of a layout, piece by piece.

The counts are the accumulator's, so a data set and a device's window agree to the last row. Beside
them the mean of each cell is kept, which is what a later comparison measures distances between.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from whimbrel_core.errors import ProfileError
from whimbrel_core.profile.baseline import Baseline, Calibration
from whimbrel_core.profile.building.dataset import described, middles
from whimbrel_core.profile.counting.accumulator import Accumulator
from whimbrel_core.profile.counting.cells import cells_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from whimbrel_core.profile.feature import Feature
    from whimbrel_core.profile.layout import Layout

    Floats = NDArray[np.float64]


class Tally:
    """Counts of a table in progress.

    Args:
        layout: of the cells.
    """

    def __init__(self, layout: Layout) -> None:
        self.layout = layout
        self._cells = cells_of(layout)
        self._accumulator = Accumulator(layout)
        self._sums = [np.zeros(feature.cells) for feature in layout.features]
        self._edges = [np.array(feature.edges, np.float32) for feature in layout.features]

    @property
    def rows(self) -> int:
        """Rows counted so far."""
        return self._accumulator.rows

    def add(self, columns: Mapping[str, NDArray[Any]], rows: int) -> None:
        """Count a piece of the table.

        Args:
            columns: (n,) float32 numbers, or objects of str and None, by name of the feature; a
                feature without a column counts as missing.
            rows: n.

        Raises:
            ProfileError: a column is of another type than its feature. Nothing of it is counted.
        """
        block = np.full((rows, self._cells.width), np.nan, np.float32)
        for index, feature in enumerate(self.layout.features):
            values = columns.get(feature.name)
            if values is None:
                continue
            if feature.kind == "categorical":
                block[:, index] = self._cells.encode(index, values)
            elif values.dtype.kind == "f":
                block[:, index] = values
                self._sum(index, feature, block[:, index])
            else:
                raise ProfileError(f"feature {feature.name!r} is numbers and got {values.dtype}")
        self._accumulator.update_rows(block)

    def _sum(self, index: int, feature: Feature, values: NDArray[np.float32]) -> None:
        if feature.kind != "numeric":
            return
        # A sort and a look-up of each edge take a third of the time of one look-up per value.
        finite = np.sort(values[np.isfinite(values)])
        below = np.concatenate([[0.0], np.cumsum(finite, dtype=np.float64)])
        at = finite.searchsorted(self._edges[index], "right")
        self._sums[index] += np.diff(below[np.concatenate([[0], at, [len(finite)]])])

    def baseline(self, calibration: Calibration | None = None) -> Baseline:
        """Return everything counted so far as a reference.

        Raises:
            ProfileError: no row was counted.
        """
        window = self._accumulator.window(0, 0)
        if not window.rows:
            raise ProfileError("there are no rows to make a profile of")
        stats = []
        for feature, counts, sums in zip(
            self.layout.features, window.features, self._sums, strict=True
        ):
            points: tuple[float, ...] = ()
            if feature.kind == "numeric":
                points = tuple(
                    total / count if count else middle
                    for total, count, middle in zip(
                        sums.tolist(), counts.cells, middles(feature), strict=True
                    )
                )
            elif feature.kind == "discrete":
                points = middles(feature)
            stats.append(described(feature, counts, points))
        found = Baseline(
            layout=self.layout, window=window, stats=tuple(stats), calibration=calibration
        )
        found.check()
        return found
