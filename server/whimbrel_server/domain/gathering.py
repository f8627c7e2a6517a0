"""Cohorts in which drifting devices gather, beyond chance."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

import msgspec
import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from whimbrel_server.domain.standing import Floats

# How sure it must be that drifting devices gather in a cohort, over all cohorts that are asked.
_SURE = 0.01
_NAMED = 2
_SEVERAL = 2


class Gathered(msgspec.Struct, frozen=True, kw_only=True):
    """A cohort in which drifting devices gather, beyond chance."""

    cohort: str
    drifting: int
    devices: int


def gathered(
    who: NDArray[np.intp], members: Mapping[str, NDArray[np.intp]], devices: int
) -> tuple[Gathered, ...]:
    """Return the cohorts in which at least half of ``who`` are, more than chance would have it."""
    found = []
    for cohort, some in members.items():
        inside = len(np.intersect1d(who, some, assume_unique=True))
        if inside < _SEVERAL or 2 * inside < len(who):
            continue
        chance = _tail(inside, len(some), len(who), devices)
        if chance * len(members) <= _SURE:
            found.append((chance, Gathered(cohort=cohort[2:], drifting=inside, devices=len(some))))
    found.sort(key=lambda one: (one[0], one[1].cohort))
    return tuple(one for _, one in found[:_NAMED])


def _tail(inside: int, cohort: int, drifting: int, devices: int) -> float:
    """Return the chance that ``inside`` or more of ``drifting`` devices fall into a cohort.

    Hypergeometric: as if the drifting ones were drawn blindly among all devices.
    """
    logs = _log_factorials(devices)
    k = np.arange(inside, min(cohort, drifting) + 1)
    k = k[drifting - k <= devices - cohort]
    ways = (
        logs[cohort] - logs[k] - logs[cohort - k]
        + logs[devices - cohort] - logs[drifting - k] - logs[devices - cohort - drifting + k]
        - (logs[devices] - logs[drifting] - logs[devices - drifting])
    )  # fmt: skip
    return float(np.exp(ways).sum())


@lru_cache(8)
def _log_factorials(n: int) -> Floats:
    found: Floats = np.concatenate([[0.0], np.cumsum(np.log(np.arange(1, n + 1)))])
    return found
