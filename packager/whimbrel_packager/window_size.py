"""How large the windows of a profile get: one travels as one message, or not at all.

A window's bytes grow with its features and, more slowly, with its rows. What a baseline's own window
takes tells nothing: its cells are quantiles, so that its counts are all alike.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import numpy as np

from whimbrel_core.profile import window as windows
from whimbrel_core.wire.codec import MAX_MESSAGE_BYTES

if TYPE_CHECKING:
    from whimbrel_core.profile.baseline import Baseline
    from whimbrel_core.profile.counts import FeatureCounts
    from whimbrel_core.profile.window import Window

ROWS = (10_000, 100_000, 1_000_000, 10_000_000)
_ENVELOPE_BYTES = 1024  # of the message around a window
_SEED = 0


def rows_that_fit(profile: Baseline) -> int | None:
    """Return the largest of `ROWS` (0: none) with which a window fits a message; None: any does."""
    rng = np.random.default_rng(_SEED)
    fitting = 0
    for rows in ROWS:
        if len(windows.encode(expected(profile, rows, rng))) > MAX_MESSAGE_BYTES - _ENVELOPE_BYTES:
            return fitting
        fitting = rows
    return None


def expected(profile: Baseline, rows: int, rng: np.random.Generator) -> Window:
    """Return a window of ``rows`` rows as they may come when nothing has drifted."""
    features = tuple(_drawn(one, profile.window.rows, rows, rng) for one in profile.window.features)
    return msgspec.structs.replace(profile.window, rows=rows, features=features, duplicates=0)


def _drawn(one: FeatureCounts, before: int, rows: int, rng: np.random.Generator) -> FeatureCounts:
    seen = np.array([*one.cells, one.nulls, one.pos_inf, one.neg_inf], dtype=np.float64)
    *cells, nulls, above, below = rng.multinomial(rows, seen / seen.sum()).tolist()
    share = rows / before
    return msgspec.structs.replace(
        one,
        cells=tuple(cells),
        nulls=nulls,
        pos_inf=above,
        neg_inf=below,
        total=one.total * share + float(rng.normal()) * rows**0.5,
        squares=one.squares * share * float(rng.uniform(0.99, 1.01)),
        repeats=int(one.repeats * share),
    )
