"""What a detector says of a feature: how sure it is of a lasting change, since when, and of what."""

from __future__ import annotations

from typing import NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Counts = NDArray[np.int64]
Flags = NDArray[np.bool_]

NEVER = -(1 << 62)  # a time that is none


class Evidence(msgspec.Struct, frozen=True, kw_only=True):
    """What a detector says of one feature.

    Args:
        feature: name.
        log_e: natural logarithm of the e-detector.
        threshold: where an alarm is.
        alarm: whether it is reached.
        since_ms: about when the change began; None while nothing speaks for one.
        warming: whether the stream's own baseline is still being learnt.
        component: what speaks most: "location", "scale", "missing" or "share of <word>".
        shift: by how much that component differs from the stream's own baseline since then, in
            standard deviations of rows (scale: in logarithms of the sd).
    """

    feature: str
    log_e: float
    threshold: float
    alarm: bool
    since_ms: int | None
    warming: bool
    component: str
    shift: float


class Proofs(NamedTuple):
    """What a detector says of D devices, as arrays (D, F): see `Evidence`."""

    log_e: Floats
    alarm: Flags
    since_ms: Counts  # NEVER while nothing speaks for a change
    component: Counts  # index into `Components.all`
    shift: Floats
