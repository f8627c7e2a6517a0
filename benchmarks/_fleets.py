"""A fleet of devices whose features wander, as counts: what a year of sensors sends, in seconds.

Device d's feature f has mean offset + shock in window t, in standard deviations of rows: offsets
differ by a sd of .2 between devices and features and stay; shocks are an autoregression of first
order. Rows are normal about that mean with a sd of 1.

Rows are not drawn for every window: some hundred windows of rows are, and counted beforehand as
they would be about means on a grid of .01 sd. A feature's window takes one of them at random, at the
nearest mean. So sampling errors are real ones, of a choice; `tests.workspace.test_false_alarms`
holds this against windows counted row by row.
"""

from __future__ import annotations

from math import sqrt
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from whimbrel_core.profile.building.columns import ColumnSpec
from whimbrel_core.profile.building.reference import build
from whimbrel_core.profile.flat import FlatWindow, flatten
from whimbrel_core.profile.window import empty

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from whimbrel_core.profile.baseline import Baseline

    Floats = NDArray[np.float64]
    Counts = NDArray[np.int64]

FEATURES = 20
HOUR_MS = 3_600_000
DEVICE_SD = 0.2
_REFERENCES = 4  # columns that features take turns in
_STEP = 0.01
_AWAKE = 8
_WORKDAYS = 5
_REACH = 2.8


class Setting(NamedTuple):
    """How restless a fleet is: sd and correlation of its shocks, rows of its windows.

    ``habit``: "heavy": shocks are of Student's t with four degrees of freedom; "odd": one window in
    a hundred is off by 2 sd; "daily", "weekly": means go up and down by .2 sd over a day, or are .2
    sd higher at weekends; "asleep": devices are awake for eight hours a day.
    """

    shock_sd: float
    correlation: float
    rows: int = 3600
    habit: str = ""


class Change(NamedTuple):
    """From window ``at`` on, ``features`` of every device are shifted by ``shift`` sd."""

    shift: float
    at: int
    features: tuple[int, ...]


def reference(seed: int, rows: int = 20_000) -> Baseline:
    """Return a baseline of normal features from ``rows`` reference rows."""
    rng = np.random.default_rng(seed)
    columns = rng.normal(size=(_REFERENCES, rows)).astype(np.float32)
    return build(
        [ColumnSpec(f"f{i}", "input", "x", i, columns[i % _REFERENCES]) for i in range(FEATURES)],
        task="regression",
    )


class Draws:
    """Windows of normal rows, counted beforehand over a grid of means.

    Args:
        baseline: of normal features, `reference`.
        rows: of each window.
        seed: of the draws.
        windows: how many different ones.
    """

    def __init__(self, baseline: Baseline, rows: int, seed: int, windows: int = 400) -> None:
        self.baseline, self.rows, self.windows = baseline, rows, windows
        rng = np.random.default_rng(seed)
        self.drawn = drawn = np.sort(rng.normal(size=(windows, rows)), axis=-1)
        self.means = np.arange(-_REACH, _REACH + _STEP / 2, _STEP)
        self._counts = [
            _counted(drawn, np.array(baseline.layout.features[f].edges), self.means)
            for f in range(_REFERENCES)
        ]
        self._sum, self._squares = drawn.sum(axis=-1), (drawn**2).sum(axis=-1)
        self._low, self._high = drawn[:, 0], drawn[:, -1]
        self._centre = np.array([feature.centre for feature in baseline.layout.features])
        self._empty = flatten(empty(baseline.layout, 0, HOUR_MS))

    def hour(self, means: Floats, hour: int, rng: np.random.Generator) -> list[FlatWindow]:
        """Return a window of every device, whose features have ``means`` (D, F)."""
        places = np.rint((means + _REACH) / _STEP).astype(np.int64)
        places = np.clip(places, 0, len(self.means) - 1)
        which = rng.integers(self.windows, size=means.shape)
        counts = np.zeros((len(means), len(self._empty.counts)), np.int64)
        at = 0
        for f in range(FEATURES):
            cells = self._counts[f % _REFERENCES][places[:, f], which[:, f]]
            counts[:, at : at + cells.shape[1]] = cells
            at += cells.shape[1]
        mean, off = self.means[places], self.means[places] - self._centre
        sums = np.concatenate(
            [
                self._sum[which] + self.rows * off,
                self._squares[which] + 2 * off * self._sum[which] + self.rows * off**2,
            ],
            axis=-1,
        )
        return [
            FlatWindow(
                profile_id=self._empty.profile_id,
                start_ms=hour * HOUR_MS,
                end_ms=(hour + 1) * HOUR_MS,
                rows=self.rows,
                sizes=self._empty.sizes,
                counts=one,
                sums=totals,
                low=low,
                high=high,
                ops=self._empty.ops,
                score_cells=self._empty.score_cells,
                quality=self._empty.quality,
            )
            for one, totals, low, high in zip(
                counts, sums, self._low[which] + mean, self._high[which] + mean, strict=True
            )
        ]


def _counted(drawn: Floats, edges: Floats, means: Floats) -> NDArray[np.int16]:
    """Return (G, N, cells): counts of each of N ordered windows (N, m), shifted by each mean."""
    moved = (edges - means[:, np.newaxis]).ravel()
    below = np.stack([row.searchsorted(moved) for row in drawn]).astype(np.int16)
    below = below.reshape(len(drawn), len(means), len(edges)).swapaxes(0, 1)
    return np.diff(below, axis=-1, prepend=np.int16(0), append=np.int16(drawn.shape[1]))


def wander(
    setting: Setting,
    devices: int,
    windows: int,
    rng: np.random.Generator,
    change: Change | None = None,
) -> Iterator[tuple[int, Floats]]:
    """Yield the hour of every window, and its means (devices, F)."""
    sd, r, _, habit = setting
    shape = (devices, FEATURES)
    offset = DEVICE_SD * rng.normal(size=shape)
    phase = rng.uniform(0, 24, shape)
    shock = sd * rng.normal(size=shape)
    at = 0
    for window in range(windows):
        hour = window // _AWAKE * 24 + window % _AWAKE if habit == "asleep" else window
        for _ in range(at, hour):
            fresh = (
                rng.standard_t(4, size=shape) / sqrt(2)
                if habit == "heavy"
                else rng.normal(size=shape)
            )
            shock = r * shock + sd * sqrt(1 - r * r) * fresh
        at = hour
        means = offset + shock
        if habit == "odd":
            means += 2.0 * (rng.random(shape) < 0.01)
        elif habit == "daily":
            means += 0.2 * np.sin(2 * np.pi * (hour + phase) / 24)
        elif habit == "weekly":
            means += 0.2 * (hour // 24 % 7 >= _WORKDAYS)
        if change is not None and window >= change.at:
            means[:, change.features] += change.shift
        yield hour, means
