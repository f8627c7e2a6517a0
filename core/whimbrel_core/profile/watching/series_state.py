"""What a series' detector remembers, and what that says: the inside of `series`.

`SeriesState` is stored; `Held` is the same as arrays, and has the evidence.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from whimbrel_core.errors import ProfileError
from whimbrel_core.profile.watching import marginals

Floats = NDArray[np.float64]
Places = NDArray[np.int64]

MEMORY = 256  # newest observations among which a change may have begun
_PLENTY = 32  # newest candidates that are all kept; of older ones every 2nd, 4th, 8th
_CLIP = 3.0  # standard deviations that one observation may count
CARRIED = 20.0  # log likelihood that an explanation can have lost before a change, at most
RESOLUTION = 1e-6  # of the segment's range: what rounding leaves of a perfect line
COARSE = 0.03  # the same of the first few observations, which may be on a line by chance
NOTHING = -math.inf


class SeriesSettings(msgspec.Struct, frozen=True, kw_only=True):
    """How often an alarm may be false.

    Args:
        arl: observations per false alarm: within n observations without change, an alarm comes
            with probability at most n / arl. 720 are the hours of a month.
        noise_floor: standard deviation, in the series' unit, below which nothing is looked for:
            the resolution of a reading, the sampling error of a share.
        trends: whether a steady trend is ordinary. If not, it is told as changes of level, and in
            return small shifts, which look like one at first, are found.
    """

    arl: float = 720.0
    noise_floor: float = 0.0
    trends: bool = True

    def __post_init__(self) -> None:
        """Refuse settings without meaning."""
        if not (self.arl >= 2 and 0 <= self.noise_floor < math.inf):  # noqa: PLR2004 — 1: always
            raise ProfileError(
                "a series needs an ARL of two observations at least and a noise floor from 0; got "
                f"{self.arl} and {self.noise_floor}"
            )


class SeriesState(msgspec.Struct, frozen=True, kw_only=True):
    """Everything remembered of one series, at most 6.7 KB: serialise it with msgspec.

    Args:
        n: observations since the last change (or the start).
        log_e: natural logarithm of the Shiryaev–Roberts sum; −∞ while there is none.
        origin: first observation of the segment, from which sums are taken.
        at: when the newest `MEMORY` observations were made, int64 little-endian.
        raw: these observations, float64 little-endian.
        clean: the same, with odd ones drawn in.
        older: sums over the pairs of neighbours before those, float64.
        learnt: log likelihood of every explanation from before the last change, float64.
        given: log likelihood of every explanation for the first observations, float64.
    """

    n: int = 0
    log_e: float = NOTHING
    origin: float = 0.0
    at: bytes = b""
    raw: bytes = b""
    clean: bytes = b""
    older: bytes = np.zeros(marginals.SUMS).tobytes()
    learnt: bytes = np.zeros(marginals.EXPLANATIONS).tobytes()
    given: bytes = np.zeros(marginals.EXPLANATIONS).tobytes()


class Held(NamedTuple):
    """A state as arrays."""

    origin: float
    at: Places  # (m,)
    raw: Floats  # (m,)
    clean: Floats  # (m,)
    older: Floats  # (8,)
    learnt: Floats  # (E,)
    given: Floats  # (E,)


def hold(state: SeriesState) -> Held:
    """Return ``state`` as arrays."""
    return Held(
        state.origin,
        np.frombuffer(state.at, "<i8"),
        *(
            np.frombuffer(data, "<f8")
            for data in (state.raw, state.clean, state.older, state.learnt, state.given)
        ),
    )


def _floor(held: Held, settings: SeriesSettings, resolution: float = RESOLUTION) -> float:
    """Return the least variance of an observation; 0 while all were the same."""
    size = float(np.abs(held.clean - held.origin).max(initial=0.0))
    return max(settings.noise_floor, resolution * size) ** 2


def without_change(held: Held, settings: SeriesSettings, resolution: float = RESOLUTION) -> Floats:
    """Return (E,): log likelihood of the observations held."""
    floor = _floor(held, settings, resolution)
    if not floor:
        return np.zeros(marginals.EXPLANATIONS)
    return marginals.unchanged(marginals.whiten(_totals(held)), floor)


def allowed(settings: SeriesSettings) -> Floats:
    """Return (E,): 0 for every explanation that is ordinary, −∞ for others."""
    return np.where(settings.trends | ~marginals.IS_TREND, 0.0, NOTHING)


def _totals(held: Held) -> Floats:
    """Return (8,): sums of pairs over the whole segment."""
    a, b = held.clean[1:] - held.origin, held.clean[:-1] - held.origin
    i = np.arange(held.older[0] + 1, held.older[0] + 1 + len(a))
    sums: Floats = held.older + np.array(
        [len(a), a.sum(), b.sum(), a @ a, a @ b, b @ b, i @ a, i @ b]
    )
    return sums


def log_ratios(held: Held, settings: SeriesSettings) -> tuple[Places, Floats]:
    """Return the candidates (places of first observations after a change), and their log Λ."""
    sums = np.cumsum(marginals.pairs(held.clean - held.origin, held.older[0]), axis=1)
    sums += held.older[:, np.newaxis]
    pairs = sums[0].astype(np.int64)  # up to each place, the older ones included
    age = pairs[-1] - pairs  # observations after a change that follows the pair
    stride = np.minimum(1 << (age // _PLENTY), _PLENTY)
    places = np.flatnonzero((pairs >= marginals.INITIAL) & (age >= 1) & (pairs % stride == 0))
    floor = _floor(held, settings)
    if not floor or not len(places):
        return places + 2, np.full(len(places), NOTHING)
    total = marginals.whiten(sums[:, -1])
    prior = held.learnt - held.given + allowed(settings)
    best = float((marginals.unchanged(total, floor) + prior).max())
    upto = marginals.whiten(sums[:, places])
    return places + 2, marginals.changed(total, upto, floor, prior) - best


def drawn_in(held: Held, value: float, settings: SeriesSettings) -> Floats:
    """Return (m + 1,): `Held.clean` with ``value``, at most `_CLIP` sd from what was expected.

    The likeliest explanation predicts; the distance is Student's, turned into a normal one by
    Wallace's approximation (1959), so that short histories clip little. Where nothing has varied so
    far there is no scale to judge by: the first that departs is held back, and let in, with the
    next, when that one departs, too.
    """
    floor = _floor(held, SeriesSettings())
    forecast, variance, free = 0.0, settings.noise_floor**2, 1.0
    if floor:
        total = marginals.whiten(_totals(held))
        likely = marginals.unchanged(total, max(floor, variance))
        best = int(np.argmax(likely + held.learnt - held.given + allowed(settings)))
        forecast, seen = marginals.forecast(total, best, float(held.clean[-1]) - held.origin)
        variance, free = max(seen, variance), float(total.n) - 1
    away = value - held.origin - forecast
    if variance > floor:
        z = _CLIP * (8 * free + 3) / (8 * free + 1)
        limit = math.sqrt(math.expm1(z * z / free) * free * variance)
        return np.append(held.clean, held.origin + forecast + min(max(away, -limit), limit))
    if away**2 <= floor:
        return np.append(held.clean, value)
    if held.raw[-1] != held.clean[-1]:
        return np.append(held.clean[:-1], [held.raw[-1], value])
    return np.append(held.clean, held.origin + forecast)
