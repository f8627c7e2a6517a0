"""The devices of a version side by side: their evidence together, and which of them drift.

Evidence of a group (the fleet, a cohort) is the *sum* of its devices' e-detectors, and it is due
where a device's is: at streams × ARL. Each of them compares one device with that device's own
beginning, so a group that grows, shrinks or is heard of late shifts nothing. And the sum over any
group is at most the sum over the fleet: however many cohorts are asked, and however they overlap
and depend on each other, the fleet's sum passes the threshold whenever any of them, or any single
device, does. One false-alarm budget covers all of them (see docs/adr).

*Which* devices drift is a list of its own, controlled for false discoveries: e-BH over all device ×
feature streams of the version (Wang & Ramdas 2022).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from whimbrel_core.profile.drift.discoveries import e_benjamini_hochberg

if TYPE_CHECKING:
    from collections.abc import Sequence

Floats = NDArray[np.float64]
Counts = NDArray[np.int64]
Flags = NDArray[np.bool_]

# Of the devices that are called drifting at most this share are not, on average.
Q = 0.05


class Standing(NamedTuple):
    """The devices of one version as they stand after their newest windows, arrays (D, F).

    ``cohorts``: stored subjects of each device, ``c:key=value``. ``log_e``: the e-detectors'
    logarithms; −inf while they learn. ``threshold`` (D,): where each device's alarm is due.
    ``watched`` (D,): windows after the warm-up. ``level``: held, an index into LEVELS, −1: too few
    rows. ``alarm``: the severity of the device's own alarm, likewise; −1: none. ``psi``: of the newest
    window; NaN where it is not known.
    """

    devices: Sequence[str]
    cohorts: Sequence[tuple[str, ...]]
    log_e: Floats
    threshold: Floats
    watched: Counts
    level: Counts
    alarm: Counts
    since_ms: Counts
    component: Counts
    psi: Floats


def discovered(standing: Standing, q: float = Q) -> Flags:
    """Return (D, F) which streams are drifting now, at false discovery rate ``q`` over all of them.

    At any time t a Shiryaev–Roberts sum has expectation t at most without a change, so that
    e^log_e / t is an e-value, and e-BH holds however streams depend on each other.
    """
    found = np.zeros(standing.log_e.shape, bool)
    warmed = np.flatnonzero(standing.watched > 0)
    if len(warmed):
        log_e = standing.log_e[warmed] - np.log(standing.watched[warmed])[:, np.newaxis]
        found[warmed] = e_benjamini_hochberg(log_e.ravel(), q).reshape(log_e.shape)
    return found


def evidence(logs: Floats) -> float:
    """Return a group's evidence from its devices': the logarithm of the sum; −inf of nothing."""
    top = float(logs.max(initial=-math.inf))
    return top + math.log(float(np.exp(logs - top).sum())) if math.isfinite(top) else -math.inf
