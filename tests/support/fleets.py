"""Counts of whole fleets, drawn cell by cell: a thousand devices in a moment, no rows in between."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from whimbrel_core.profile.building.columns import ColumnSpec
from whimbrel_core.profile.building.reference import build
from whimbrel_core.profile.flat import FlatWindow
from whimbrel_core.profile.window import OpsCounts

if TYPE_CHECKING:
    from whimbrel_core.profile.baseline import Baseline

DEVICE_SD = 0.2
Floats = NDArray[np.float64]


def baseline(features: int, *, rows: int = 20_000, seed: int = 0) -> Baseline:
    """Return a baseline of independent standard normal features ``f0``, ``f1``, …"""
    drawn = np.random.default_rng(seed).normal(size=(rows, features)).astype(np.float32)
    specs = [ColumnSpec(f"f{i}", "input", "x", i, drawn[:, i]) for i in range(features)]
    return build(specs, task="regression")


class Crowd:
    """Devices that differ from each other by `DEVICE_SD`, and whose windows wander a little.

    Args:
        of: baseline of normal features.
        devices: how many.
        wander: sd of each window's mean about its device's.
    """

    def __init__(self, of: Baseline, devices: int, *, wander: float = 0.05, seed: int = 0) -> None:
        self.of, self.devices, self._wander = of, devices, wander
        self._rng = np.random.default_rng(seed)
        features = len(of.layout.features)
        self.offsets = self._rng.normal(0.0, DEVICE_SD, (devices, features))
        self.shifts: Floats = np.zeros((devices, features))

    def windows(self, start_ms: int, *, rows: int = 3600, seconds: int = 300) -> list[FlatWindow]:
        """Return one window of every device."""
        layout = self.of.layout
        wander = self._rng.normal(0.0, self._wander, self.offsets.shape)
        means = self.offsets + self.shifts + wander
        cells = [
            self._rng.multinomial(rows, _shares(np.array(feature.edges), means[:, i]))
            for i, feature in enumerate(layout.features)
        ]
        counts = np.concatenate(
            [*cells, np.zeros((self.devices, 4 * len(cells)), np.int64)], axis=1
        )
        none = np.zeros(2 * len(cells))
        return [
            FlatWindow(
                profile_id=layout.profile_id,
                start_ms=start_ms,
                end_ms=start_ms + seconds * 1000,
                rows=rows,
                sizes=layout.sizes,
                counts=counts[d],
                sums=none,
                low=none[: len(cells)] + np.inf,  # sums are not known
                high=none[: len(cells)] - np.inf,
                ops=OpsCounts(),
                score_cells=None,
                quality=None,
            )
            for d in range(self.devices)
        ]


def _shares(edges: Floats, means: Floats) -> Floats:
    """Return (D, C): how much of a normal variable about each mean falls into each cell."""
    below = _normal((edges[np.newaxis] - means[:, np.newaxis]) / math.sqrt(2.0))
    ones = np.ones((len(means), 1))
    shares: Floats = np.diff(np.concatenate([0 * ones, below, ones], axis=1), axis=1)
    shares /= shares.sum(axis=1, keepdims=True)
    return shares


def _normal(x: Floats) -> Floats:
    found: Floats = np.array([math.erfc(-one) / 2 for one in x.ravel().tolist()]).reshape(x.shape)
    return found
