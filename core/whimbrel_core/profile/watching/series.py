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
from typing import TYPE_CHECKING, Literal

import msgspec
import numpy as np

from whimbrel_core.errors import ProfileError
from whimbrel_core.profile.watching import marginals
from whimbrel_core.profile.watching.series_state import (
    CARRIED,
    COARSE,
    MEMORY,
    NOTHING,
    RESOLUTION,
    SeriesSettings,
    SeriesState,
    allowed,
    drawn_in,
    hold,
    log_ratios,
    without_change,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = [
    "MEMORY",
    "Change",
    "SeriesSettings",
    "SeriesState",
    "advance",
    "locate",
    "restart",
    "start",
    "update",
    "update_together",
]

Kind = Literal["level", "spread"]


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
        series: which of several series that change together has the most evidence, from 0; all
            figures but ``log_e`` are of it.
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
    series: int = 0


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
    strongest = max(range(len(advanced)), key=lambda number: advanced[number].log_e)
    change = locate(advanced[strongest], settings)
    change = msgspec.structs.replace(change, log_e=evidence[-1], series=strongest)
    return tuple(restart(state, change.began_at, settings) for state in advanced), change


def advance(state: SeriesState, at: int, value: float, settings: SeriesSettings) -> SeriesState:
    """Return the state after one more observation, whatever its evidence says."""
    held, value = hold(state), float(value)
    if not math.isfinite(value) or (len(held.at) and at <= held.at[-1]):
        return state
    begun = state.n > marginals.INITIAL
    clean = drawn_in(held, value, settings) if begun else np.append(held.clean, value)
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
        held = held._replace(given=without_change(held, settings, COARSE))
    ratios = log_ratios(held, settings)[1] if n > marginals.INITIAL + 1 else np.empty(0)
    return SeriesState(
        n=n,
        log_e=float(np.logaddexp.reduce(ratios)) if len(ratios) else NOTHING,
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
    held = hold(state)
    if state.n <= marginals.INITIAL + 1:
        raise ProfileError(f"{state.n} observations say nothing of a change")
    places, ratios = log_ratios(held, settings)
    split = int(places[int(np.argmax(ratios))])
    before, after = held.raw[:split], held.raw[split:]
    low, high = float(before.mean()), float(after.mean())
    floor = max(settings.noise_floor, RESOLUTION * float(np.ptp(held.raw))) ** 2 or 1.0
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
    held = hold(state)
    kept = held.at >= began_at
    learnt = held.learnt
    past = held._replace(at=held.at[~kept], raw=held.raw[~kept], clean=held.clean[~kept])
    if state.n - int(kept.sum()) > marginals.INITIAL + 1:
        learnt = learnt + without_change(past, settings) - held.given
        best = (learnt + allowed(settings)).max()
        learnt = np.clip(learnt - best, -CARRIED, 0.0)
    fresh = SeriesState(learnt=learnt.astype("<f8").tobytes())
    for at, value in zip(held.at[kept].tolist(), held.raw[kept].tolist(), strict=True):
        fresh = advance(fresh, at, value, settings)
    return fresh
