"""Counts as they are stored: thirty days of one feature, far from the reference."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

import numpy as np

from tests.support.fake_fleet.story import AUTUMN, DAY
from whimbrel_core.profile.building.columns import ColumnSpec
from whimbrel_core.profile.building.reference import build as build_baseline
from whimbrel_core.profile.counting.accumulator import Accumulator
from whimbrel_core.profile.window import encode as encode_window

if TYPE_CHECKING:
    from whimbrel_core.profile.baseline import Baseline


@functools.lru_cache(maxsize=1)
def days() -> tuple[Baseline, tuple[bytes, ...]]:
    """Return a baseline of one feature, and encoded windows of thirty days that lie above it."""
    dice = np.random.default_rng(4)
    column = ColumnSpec("temp", "input", "temp", 0, dice.normal(55, 18, 2000), unit="°F")
    reference = build_baseline([column], task="regression")
    windows = []
    for day in range(30):
        accumulator = Accumulator(reference)
        accumulator.update({"temp": dice.normal(75, 18, 300).astype(np.float32)})
        start = AUTUMN + day * DAY
        windows.append(encode_window(accumulator.window(start, start + DAY)))
    return reference, tuple(windows)
