"""How much better "something has changed" explains a window than "nothing has".

A window's deviation from its stream's own baseline is a place in a wandering (an autoregression,
see `warmup`) and a sampling error. A Kalman filter says where the wandering is, so what is judged
is the *innovation* e: what nobody could know from the windows before. A lasting change comes whole
in its first window; in later ones the filter has followed it, and the share h = (1 − r) / (1 −
r (1 − gain)) of it is left. So each Shiryaev–Roberts sum M has two likelihood ratios a window::

    M ← M · L_old + L_new

The variance of e is estimated from so many windows (`Numbers.worth`), so densities are Student's t
with as many degrees of freedom, not normal ones: what a short warm-up cannot know, it does not
claim. Twenty at most, because what happens to real devices has heavier tails than a normal. While
nothing speaks for a change, the variance and the correlation are learnt on, so that the product of
the densities in the denominator becomes that of a Bayesian who learns from the stream.

Three sums for each component, each against shifts of at most a margin, which is ignored:

- ``up``, ``down``: a shift of one tilt;
- ``jump``: a shift of any size: in its first window a wide t, in later ones one about the mean
  deviation since the change, as the windows before tell it.

One window adds at most six tenths of what an alarm takes: two may suffice, no single odd one does.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from whimbrel_core.profile.watching.streams import Floats, Numbers, Sight, Times
from whimbrel_core.profile.watching.warmup import LEAST_BETWEEN, MAX_CORRELATION

SUMS = 3
_CAP = 0.6
_AHEAD = 20.0  # how far past an alarm a sum goes on, in logarithms: further, it would never end
_LEAST = math.exp(-30.0)
_FOLLOWED = 3.5  # standard deviations of an innovation that the filter follows at once
_LEARNT = 3.0  # standard deviations of a deviation that is learnt from
_QUIET = math.exp(2.0)  # sums below this speak for nothing: the stream is learnt on
_TAILS = 20.0  # degrees of freedom at most: real shocks have heavier tails than normal ones
_MOST_WORTH = 200.0  # windows: older ones are forgotten
_LEAST_SHARE = 0.15  # of the newest window in the level: after a repair it must come down


class Sizes(NamedTuple):
    """Sizes of changes, (K,) each, in the components' units."""

    margin: Floats  # what is ignored
    tilt: Floats  # what `up` and `down` look for
    jump: Floats  # sd of jumps


class Limits(NamedTuple):
    """Bounds, from the threshold of an alarm."""

    ratio: float  # of the logarithm of a ratio
    most: float  # of a sum
    quiet: float  # of the sums of a component, below which nothing speaks for a change

    @classmethod
    def of(cls, threshold: float, terms: int) -> Limits:
        """Return the limits when ``terms`` sums are averaged for an alarm at ``threshold``."""
        enough = threshold + math.log(terms)
        return cls(_CAP * enough, math.exp(enough + _AHEAD), _QUIET * terms)


def step(
    numbers: Numbers,
    sizes: Sizes,
    limits: Limits,
    sight: Sight,
    times: Times,
) -> Numbers:
    """Return the states after one more window of each device.

    Args:
        numbers: the states.
        sizes: of changes.
        limits: of ratios and sums.
        sight: the window; a component that is not known is left as it was.
        times: when the windows are: after a pause the wandering is less known.
    """
    x, variance, known = sight
    between, worth = numbers.between, numbers.worth
    correlation = np.clip(numbers.lagged / between, 0.0, MAX_CORRELATION)
    paused = times.periods[:, np.newaxis] > 1
    if paused.any():
        apart = correlation ** times.periods[:, np.newaxis]
        correlation = np.where(paused, apart, correlation)
    deviation = x - numbers.mean
    expected = correlation * numbers.wander
    unknown = correlation**2 * numbers.drawn + between * (1 - correlation**2)
    spread = np.maximum(unknown + variance, LEAST_BETWEEN)
    gain = unknown / spread
    left = (1 - correlation) / (1 - correlation * (1 - gain))
    innovation = deviation - expected

    margin = left * (sizes.margin + numbers.doubt)
    fresh = sizes.margin + left * numbers.doubt
    freedom = np.minimum(worth, _TAILS)
    tail = freedom * spread
    power = (freedom + 1) / 2
    old, new = [], []
    for y in (innovation, -innovation):
        old.append(power * _log_ratio(y, margin, left * (sizes.tilt + numbers.doubt), tail))
        new.append(power * _log_ratio(y, fresh, sizes.tilt + left * numbers.doubt, tail))
    level = np.copysign(
        np.maximum(np.abs(numbers.level), sizes.margin + numbers.doubt), numbers.level
    )
    vague = spread * (1 + 1 / (numbers.age + 1))
    old.append(
        _wide_ratio(
            innovation,
            centre=left * level,
            margin=margin,
            spread=spread,
            wide=vague,
            freedom=freedom,
        )
    )
    new.append(
        _wide_ratio(
            innovation,
            centre=0.0,
            margin=fresh,
            spread=spread,
            wide=spread + sizes.jump**2,
            freedom=freedom,
        )
    )
    continued = np.stack([numbers.up, numbers.down, numbers.jump])
    continued *= np.exp(np.minimum(np.stack(old), limits.ratio))
    started = np.exp(np.minimum(np.stack(new), limits.ratio))
    sums = np.clip(continued + started, _LEAST, limits.most)
    total = sums[0] + sums[1] + sums[2]
    begun = started[0] + started[1] + started[2]
    share = begun / (begun + (continued[0] + continued[1] + continued[2]))

    age = (1 - share) * (numbers.age + 1) + share
    moved = numbers.level + (deviation - numbers.level) * np.maximum(1 / age, _LEAST_SHARE)
    followed = _FOLLOWED * np.sqrt(spread)
    limit = _LEARNT * np.sqrt(between + variance)
    seen, before = np.clip(deviation, -limit, limit), np.clip(numbers.last, -limit, limit)
    rate = np.where(total < limits.quiet, 1 / (worth + 1), 0.0)
    after = Numbers(
        worth=np.where(rate > 0, np.minimum(worth + 1, _MOST_WORTH), worth),
        mean=numbers.mean,
        between=np.maximum(between + rate * (seen**2 - variance - between), LEAST_BETWEEN),
        lagged=numbers.lagged + np.where(paused, 0.0, rate) * (seen * before - numbers.lagged),
        last=deviation,
        drawn=(1 - gain) * unknown,
        wander=expected + gain * np.clip(innovation, -followed, followed),
        doubt=numbers.doubt,
        level=moved + share * (deviation - moved),
        age=age,
        began=numbers.began + share * (times.hours[:, np.newaxis] - numbers.began),
        up=sums[0],
        down=sums[1],
        jump=sums[2],
    )
    if known.all():
        return after
    return Numbers(*(np.where(known, now, was) for now, was in zip(after, numbers, strict=True)))


def _log_ratio(y: Floats, nothing: Floats, changed: Floats, tail: Floats) -> Floats:
    """Return the logarithm of (t density about ``changed``) / (… about ``nothing``), over power."""
    ratio: Floats = np.log(((y - nothing) ** 2 + tail) / ((y - changed) ** 2 + tail))
    return ratio


def _wide_ratio(
    e: Floats,
    *,
    centre: Floats | float,
    margin: Floats,
    spread: Floats,
    wide: Floats,
    freedom: Floats,
) -> Floats:
    """Return log (t density of variance ``wide`` about ``centre``) / (… of the nearest null)."""
    scale = wide / spread
    past = np.maximum(np.abs(e) - margin, 0.0) ** 2 + freedom * spread
    ratio = past * scale / ((e - centre) ** 2 + freedom * wide)
    found: Floats = (freedom + 1) / 2 * np.log(ratio) - np.log(scale) / 2
    return found
