"""Count rows on the device, cheaply, in a buffer that survives kill -9."""

from __future__ import annotations

from collections.abc import Mapping
from mmap import mmap
from typing import Any

import numpy as np
from numpy.typing import NDArray

from whimbrel_core.profile.baseline import Baseline
from whimbrel_core.profile.layout import Layout
from whimbrel_core.profile.window import Window

Buffer = memoryview | bytearray | mmap


class Accumulator:
    """Counts one window of one layout. Not thread-safe: one owner at a time.

    Args:
        layout: of the profile, or the baseline that holds it.
        buffer: writable memory of `Accumulator.size` bytes, e.g. a mapped file; it is initialised.
            None: private memory.
    """

    def __init__(self, layout: Layout | Baseline, buffer: Buffer | None = None) -> None:
        raise NotImplementedError

    @staticmethod
    def size(layout: Layout | Baseline) -> int:
        """Return the number of bytes that a buffer for ``layout`` must have."""
        raise NotImplementedError

    @classmethod
    def attach(cls, layout: Layout | Baseline, buffer: Buffer) -> Accumulator:
        """Re-open a buffer after its owner died: every row whose `update` returned is there.

        Raises:
            ProfileError: another layout, another size, never initialised, or torn (power cut).
        """
        raise NotImplementedError

    @property
    def rows(self) -> int:
        """Rows counted since the buffer was initialised."""
        raise NotImplementedError

    def update(self, tensors: Mapping[str, NDArray[Any]]) -> int:
        """Count a batch: inputs and outputs of the model by tensor name; return its rows.

        Args:
            tensors: arrays (n,), (n, 1) or (n, …) of numbers; object, str or bytes arrays for
                strings. A feature whose tensor is absent counts as null.

        Raises:
            ProfileError: no tensor of the layout, numbers of rows that differ, a column that the
                tensor does not have. Nothing of the batch is counted then.
        """
        raise NotImplementedError

    def update_row(self, row: NDArray[np.float32]) -> None:
        """Count one row, already in ring order: (width,) float32, as `encode_row` returns it."""
        raise NotImplementedError

    def count_request(self, latency_us: float) -> None:
        """Count one answered request."""
        raise NotImplementedError

    def count_rejected(self) -> None:
        """Count one request refused before the model ran."""
        raise NotImplementedError

    def count_failed(self) -> None:
        """Count one request in which the model or runtime failed."""
        raise NotImplementedError

    def record_label(self, score_bin: int | None, predicted: int, actual: int) -> None:
        """Count a classified row whose true class is known now (class indices)."""
        raise NotImplementedError

    def record_error(self, predicted: float, actual: float) -> None:
        """Count a regressed row whose true value is known now."""
        raise NotImplementedError

    def flush(self) -> None:
        """Move the ring's rows into the counts (when idle; `window` does it, too)."""
        raise NotImplementedError

    def window(self, start_ms: int, end_ms: int) -> Window:
        """Flush, and return everything counted so far as the window of this period."""
        raise NotImplementedError
