"""What detectors remember of devices, side by side: numbers (D, 14 K) of K components each.

While a stream's own baseline is learnt, some of the numbers are sums; `warmup.settle` puts what
they say in their place. They are kept as float32 and worked with as float64.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Counts = NDArray[np.int64]
Flags = NDArray[np.bool_]


class Streams(NamedTuple):
    """The states of D devices side by side, for `Detector.advance_all`."""

    windows: Counts  # (D,)
    start_ms: Counts  # (D,)
    at_ms: Counts  # (D,)
    numbers: NDArray[np.float32]  # (D, S) everything of `Numbers`, one after the other

    def take(self, rows: NDArray[np.intp]) -> Streams:
        """Return a copy of some devices' states."""
        return Streams(
            self.windows[rows], self.start_ms[rows], self.at_ms[rows], self.numbers[rows]
        )

    def put(self, rows: NDArray[np.intp], streams: Streams) -> None:
        """Replace some devices' states, in place."""
        self.windows[rows] = streams.windows
        self.start_ms[rows] = streams.start_ms
        self.at_ms[rows] = streams.at_ms
        self.numbers[rows] = streams.numbers


class Sight(NamedTuple):
    """One window of each of D devices, as a detector sees it: (D, K) each."""

    x: Floats  # components; 0 where unknown
    variance: Floats  # their sampling variances; 0 where unknown
    known: Flags  # whether enough rows tell


class Times(NamedTuple):
    """When the windows of D devices are, (D,) each."""

    hours: Floats  # since the device's first window
    periods: Floats  # since its newest one, in usual periods; 1 at least


class Numbers(NamedTuple):
    """The numbers of D states, each (D, K) float64. Before the colon: during the warm-up."""

    worth: Floats  # windows in which the component was known: windows that `between` is worth
    mean: Floats  # Σ y, y = x − origin: the stream's own baseline
    between: Floats  # Σ y²: variance of windows beyond their sampling error
    lagged: Floats  # Σ of products of neighbours: their covariance
    last: Floats  # newest y: newest deviation from the baseline
    drawn: Floats  # Σ of sampling variances: variance of what `wander` leaves unknown
    wander: Floats  # origin: where the stream is thought to be wandering to
    doubt: Floats  # nothing: uncertainty of the baseline
    level: Floats  # mean deviation since the change that the sums speak for
    age: Floats  # windows since that change
    began: Floats  # its time, hours since start_ms
    up: Floats  # Shiryaev–Roberts sum of "moved up by the tilt"
    down: Floats  # … "moved down by the tilt"
    jump: Floats  # … "jumped, and stayed where it landed"

    @classmethod
    def of(cls, numbers: NDArray[np.float32]) -> Numbers:
        """Return a copy of ``numbers`` (D, S) by name."""
        d, fields = len(numbers), len(cls._fields)
        parts = numbers.reshape(d, fields, -1).swapaxes(0, 1).astype(np.float64, order="C")
        return cls(*parts)

    def packed(self) -> NDArray[np.float32]:
        """Return the numbers as (D, S) float32."""
        together = np.stack(self, axis=1).astype(np.float32)
        return together.reshape(len(together), -1)
