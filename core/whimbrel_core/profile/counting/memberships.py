"""Tell which slices rows are in, for whoever will learn their labels later."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from whimbrel_core.profile.counting.cells import cells_of
from whimbrel_core.profile.counting.tensors import Tensors

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from whimbrel_core.profile.layout import Layout


class Memberships:
    """The slices of rows of one layout.

    Args:
        layout: with slices or without.
    """

    def __init__(self, layout: Layout) -> None:
        cells = cells_of(layout)
        self._slicing = cells.slicing
        self._tensors = Tensors(cells)

    def of(self, tensors: Mapping[str, NDArray[Any]], rows: int) -> list[int]:
        """Return the slices that each of ``rows`` rows is in, as bits (the first slice is bit 0).

        Args:
            tensors: inputs and outputs of the model by name, as for `Accumulator.update`.
            rows: how many.

        Raises:
            ProfileError: they do not fit the layout.
        """
        if self._slicing is None:
            return [0] * rows
        blocks, _ = self._tensors.blocks(tensors)
        columns = np.concatenate(blocks, axis=1, dtype=np.float32, casting="unsafe").T
        bits: list[int] = self._slicing.members(columns).tolist()
        return bits
