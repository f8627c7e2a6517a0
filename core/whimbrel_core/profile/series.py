"""Find changes in one series of numbers whose level and noise nobody knows beforehand.

For a rate of requests, a latency, an expected accuracy: one number per window. The detector keeps
the family of `sequential`, a Shiryaev–Roberts sum of likelihood ratios over the moments at which a
change may have begun, and needs no warm-up:

- *Unknown level, slope and noise* are integrated out (`marginals`), so that the evidence depends
  on none of them: that of c + k·y is that of y. A change is a step, a kink or wider noise, a
  mixture of sizes each. (Pollak, Siegmund: "Sequential detection of a change in a normal mean when
  the initial value is unknown", 1991; Pérez-Ortiz, Lardy, de Heide, Grünwald: "E-statistics, group
  invariance and anytime-valid testing", 2024.)
- *Correlation and trend.* The numerator is the mean over explanations with a change, the
  denominator the best of all explanations without one: white noise, correlated noise, a random
  walk, with and without a trend. So evidence must beat each of them. (Wasserman, Ramdas,
  Balakrishnan: "Universal inference", 2020.) What is learnt of the correlation outlives a change.
- *Odd ones.* An observation counts as at most three standard deviations from what was expected,
  and an alarm needs the evidence at two observations running.

*The promise.* For normal observations with any mean, trend and variance, and a correlation of the
grid, every term of the sum has expectation at most 1. So the sum is bounded by a submartingale of
expectation n after n observations, and without change a series alarms within n observations with
probability at most n / ``arl`` (Doob). Leaving out terms keeps that: old candidates are thinned,
and none is older than `MEMORY` observations. (Shin, Ramdas, Rinaldo: "E-detectors", 2023.) Drawing
odd ones in, the search for where a change began, and noise that is not normal are outside of it:
docs/explanation/monitoring.md has what was measured.

On an alarm the detector says where the change began (the likeliest candidate) and starts anew
with the observations since then.

    >>> import random
    >>> noise = random.Random(7)
    >>> state, found = start(), []
    >>> for at in range(90):
    ...     state, change = update(state, at, noise.gauss(20.0 if at < 60 else 23.0, 1.0))
    ...     found += [] if change is None else [change]
    >>> [(change.began_at, change.at, change.kind) for change in found]
    [(60, 66, 'level')]
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from whimbrel_core.errors import ProfileError
from whimbrel_core.profile import marginals

if TYPE_CHECKING:
    from collections.abc import Sequence

Floats = NDArray[np.float64]
Places = NDArray[np.int64]
Kind = Literal["level", "spread"]

MEMORY = 256  # newest observations among which a change may have begun
_PLENTY = 32  # newest candidates that are all kept; of older ones every 2nd, 4th, 8th
_CLIP = 3.0  # standard deviations that one observation may count
_CARRIED = 20.0  # log likelihood that an explanation can have lost before a change, at most
_RESOLUTION = 1e-6  # of the segment's range: what rounding leaves of a perfect line
_COARSE = 0.03  # the same of the first few observations, which may be on a line by chance
_NOTHING = -math.inf


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
    log_e: float = _NOTHING
    origin: float = 0.0
    at: bytes = b""
    raw: bytes = b""
    clean: bytes = b""
    older: bytes = np.zeros(marginals.SUMS).tobytes()
    learnt: bytes = np.zeros(marginals.EXPLANATIONS).tobytes()
    given: bytes = np.zeros(marginals.EXPLANATIONS).tobytes()


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """What an alarm says.

    Args:
        began_at: when the change began: the first observation after it.
        at: observation at which it was told.
        kind: "level", or "spread" when only the noise changed.
        direction: +1 up (or wider), −1 down (or narrower).
        before: mean of the observations before it (the newest `MEMORY` of them at most).
        after: mean of those since.
        sd_before: their standard deviation about the mean, likewise.
        sd_after: of those since.
        log_e: evidence.
        threshold: at which evidence an alarm is.
    """

    began_at: int
    at: int
    kind: Kind
    direction: int
    before: float
    after: float
    sd_before: float
    sd_after: float
    log_e: float
    threshold: float


def start() -> SeriesState:
    """Return the state of a series of which nothing was seen."""
    return SeriesState()


def update(
    state: SeriesState, at: int, value: float, settings: SeriesSettings | None = None
) -> tuple[SeriesState, Change | None]:
    """Return the state after one more observation, and the change that it reveals.

    Args:
        state: before.
        at: when it was made (ms, a window's number: any integer that grows).
        value: a number; NaN and infinities, like an ``at`` not after the newest, change nothing.
        settings: false-alarm budget, the same for the whole life of a state.
    """
    settings = SeriesSettings() if settings is None else settings
    advanced = advance(state, at, value, settings)
    if advanced is state or min(state.log_e, advanced.log_e) < math.log(settings.arl):
        return advanced, None
    change = locate(advanced, settings)
    return restart(advanced, change.began_at, settings), change


def update_together(
    states: Sequence[SeriesState], at: int, values: Sequence[float], settings: SeriesSettings
) -> tuple[tuple[SeriesState, ...], Change | None]:
    """Return the states of series that change together, and the change that they reveal.

    The mean of their sums is tested, which keeps the promise however they depend on each other.
    The series with the most evidence says where the change began, and all of them start anew there.

    Args:
        states: of the series, one at least.
        at: as for `update`, the same for all.
        values: their observations.
        settings: the same for all.
    """
    pairs = zip(states, values, strict=True)
    advanced = tuple(advance(state, at, value, settings) for state, value in pairs)
    if all(new is old for new, old in zip(advanced, states, strict=True)):
        return advanced, None
    evidence = [
        float(np.logaddexp.reduce([state.log_e for state in some])) - math.log(len(some))
        for some in (states, advanced)
    ]
    if min(evidence) < math.log(settings.arl):
        return advanced, None
    change = locate(max(advanced, key=lambda state: state.log_e), settings)
    change = msgspec.structs.replace(change, log_e=evidence[-1])
    return tuple(restart(state, change.began_at, settings) for state in advanced), change


def advance(state: SeriesState, at: int, value: float, settings: SeriesSettings) -> SeriesState:
    """Return the state after one more observation, whatever its evidence says."""
    held, value = _hold(state), float(value)
    if not math.isfinite(value) or (len(held.at) and at <= held.at[-1]):
        return state
    begun = state.n > marginals.INITIAL
    clean = _drawn_in(held, value, settings) if begun else np.append(held.clean, value)
    held = held._replace(
        origin=held.origin if state.n else value,
        at=np.append(held.at, at),
        raw=np.append(held.raw, value),
        clean=clean,
    )
    if len(held.at) > MEMORY:
        held = held._replace(
            at=held.at[1:],
            raw=held.raw[1:],
            clean=held.clean[1:],
            older=held.older + marginals.pairs(held.clean[:2] - held.origin, held.older[0])[:, 0],
        )
    n = state.n + 1
    if n == marginals.INITIAL + 1:
        held = held._replace(given=_without_change(held, settings, _COARSE))
    ratios = _log_ratios(held, settings)[1] if n > marginals.INITIAL + 1 else np.empty(0)
    return SeriesState(
        n=n,
        log_e=float(np.logaddexp.reduce(ratios)) if len(ratios) else _NOTHING,
        origin=held.origin,
        at=held.at.astype("<i8").tobytes(),
        raw=held.raw.astype("<f8").tobytes(),
        clean=held.clean.astype("<f8").tobytes(),
        older=held.older.astype("<f8").tobytes(),
        learnt=state.learnt,
        given=held.given.astype("<f8").tobytes(),
    )


def locate(state: SeriesState, settings: SeriesSettings) -> Change:
    """Return the change that explains the observations best, whatever its evidence.

    Raises:
        ProfileError: there are too few observations for any.
    """
    held = _hold(state)
    if state.n <= marginals.INITIAL + 1:
        raise ProfileError(f"{state.n} observations say nothing of a change")
    places, ratios = _log_ratios(held, settings)
    split = int(places[int(np.argmax(ratios))])
    before, after = held.raw[:split], held.raw[split:]
    low, high = float(before.mean()), float(after.mean())
    floor = max(settings.noise_floor, _RESOLUTION * float(np.ptp(held.raw))) ** 2 or 1.0
    whole, first, second = (float(part.var()) + floor for part in (held.raw, before, after))
    n, within = len(held.raw), (first * len(before) + second * len(after)) / len(held.raw)
    # What the two means explain of the variance, against what two variances explain of the rest.
    by_level = n * math.log(whole / within)
    by_spread = n * math.log(within) - len(before) * math.log(first) - len(after) * math.log(second)
    kind: Kind = "level" if by_level >= by_spread else "spread"
    rises = high > low if kind == "level" else second > first
    return Change(
        began_at=int(held.at[split]),
        at=int(held.at[-1]),
        kind=kind,
        direction=1 if rises else -1,
        before=low,
        after=high,
        sd_before=float(before.std()),
        sd_after=float(after.std()),
        log_e=state.log_e,
        threshold=math.log(settings.arl),
    )


def restart(state: SeriesState, began_at: int, settings: SeriesSettings) -> SeriesState:
    """Return the state of a series that began at ``began_at``, with what is known of its correlation."""
    held = _hold(state)
    kept = held.at >= began_at
    learnt = held.learnt
    past = held._replace(at=held.at[~kept], raw=held.raw[~kept], clean=held.clean[~kept])
    if state.n - int(kept.sum()) > marginals.INITIAL + 1:
        learnt = learnt + _without_change(past, settings) - held.given
        best = (learnt + _allowed(settings)).max()
        learnt = np.clip(learnt - best, -_CARRIED, 0.0)
    fresh = SeriesState(learnt=learnt.astype("<f8").tobytes())
    for at, value in zip(held.at[kept].tolist(), held.raw[kept].tolist(), strict=True):
        fresh = advance(fresh, at, value, settings)
    return fresh


class _Held(NamedTuple):
    """A state as arrays."""

    origin: float
    at: Places  # (m,)
    raw: Floats  # (m,)
    clean: Floats  # (m,)
    older: Floats  # (8,)
    learnt: Floats  # (E,)
    given: Floats  # (E,)


def _hold(state: SeriesState) -> _Held:
    return _Held(
        state.origin,
        np.frombuffer(state.at, "<i8"),
        *(
            np.frombuffer(data, "<f8")
            for data in (state.raw, state.clean, state.older, state.learnt, state.given)
        ),
    )


def _floor(held: _Held, settings: SeriesSettings, resolution: float = _RESOLUTION) -> float:
    """Return the least variance of an observation; 0 while all were the same."""
    size = float(np.abs(held.clean - held.origin).max(initial=0.0))
    return max(settings.noise_floor, resolution * size) ** 2


def _without_change(
    held: _Held, settings: SeriesSettings, resolution: float = _RESOLUTION
) -> Floats:
    """Return (E,): log likelihood of the observations held."""
    floor = _floor(held, settings, resolution)
    if not floor:
        return np.zeros(marginals.EXPLANATIONS)
    return marginals.unchanged(marginals.whiten(_totals(held)), floor)


def _allowed(settings: SeriesSettings) -> Floats:
    """Return (E,): 0 for every explanation that is ordinary, −∞ for others."""
    return np.where(settings.trends | ~marginals.IS_TREND, 0.0, _NOTHING)


def _totals(held: _Held) -> Floats:
    """Return (8,): sums of pairs over the whole segment."""
    a, b = held.clean[1:] - held.origin, held.clean[:-1] - held.origin
    i = np.arange(held.older[0] + 1, held.older[0] + 1 + len(a))
    sums: Floats = held.older + np.array(
        [len(a), a.sum(), b.sum(), a @ a, a @ b, b @ b, i @ a, i @ b]
    )
    return sums


def _log_ratios(held: _Held, settings: SeriesSettings) -> tuple[Places, Floats]:
    """Return the candidates (places of first observations after a change), and their log Λ."""
    sums = np.cumsum(marginals.pairs(held.clean - held.origin, held.older[0]), axis=1)
    sums += held.older[:, np.newaxis]
    pairs = sums[0].astype(np.int64)  # up to each place, the older ones included
    age = pairs[-1] - pairs  # observations after a change that follows the pair
    stride = np.minimum(1 << (age // _PLENTY), _PLENTY)
    places = np.flatnonzero((pairs >= marginals.INITIAL) & (age >= 1) & (pairs % stride == 0))
    floor = _floor(held, settings)
    if not floor or not len(places):
        return places + 2, np.full(len(places), _NOTHING)
    total = marginals.whiten(sums[:, -1])
    prior = held.learnt - held.given + _allowed(settings)
    best = float((marginals.unchanged(total, floor) + prior).max())
    upto = marginals.whiten(sums[:, places])
    return places + 2, marginals.changed(total, upto, floor, prior) - best


def _drawn_in(held: _Held, value: float, settings: SeriesSettings) -> Floats:
    """Return (m + 1,): `_Held.clean` with ``value``, at most `_CLIP` sd from what was expected.

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
        best = int(np.argmax(likely + held.learnt - held.given + _allowed(settings)))
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
