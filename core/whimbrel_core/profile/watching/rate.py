"""Whether a device is asked far more, or far less, than it usually is.

A device's own past says what is usual: a level, and deviations from it for every hour of the day
and every day of the week (UTC), all of logarithms. For a period in which E requests are expected
and n came, with the variance E + s²E² (Poisson's noise, and what else varies from one period to
another), both are put on the scale on which that variance is 1 everywhere::

    z = g(n) − g(E),   g(x) = 2/s · asinh(s √(x + ⅜))

(Anscombe: "The transformation of Poisson, binomial and negative-binomial data", 1948.) A finding
needs evidence, |z| of ``sigmas`` at least, and an effect, a rate that is ``ratios`` times the
usual, or that part of it.

- Windows of one period are added up, whatever their version, so an update is no quiet period. A
  period is judged once a later one begins.
- A period beside a gap may be a part of one (a device that was switched on or off in it), and is
  neither judged nor learnt. Requests that do not come at all are silence, which is told elsewhere.
- Nothing is judged in the first ``warmup_days``: a week has to have been seen once, and its days
  are known by the second.
- An alarm begins with the second finding of "warn" running, and ends after three calmer periods
  (`whimbrel_core.profile.drift.levels.settle`).
- The usual follows slowly, over one to four weeks; what is odd teaches as if it was `_ODD` standard
  deviations away, so an incident is forgotten and a lasting change becomes usual.

Pure: a fold over (start, end, requests) with a frozen state. The judgement of one period stands on
that state alone: whoever is told it (`whimbrel_core.profile.watching.testimony`) can judge again.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import msgspec

from whimbrel_core.errors import ProfileError
from whimbrel_core.profile.drift.findings import Finding
from whimbrel_core.profile.drift.levels import LEVELS, Held, State, settle

VERSION = 1
"""Of the rule: it grows with every change that gives other figures for the same requests."""
ALARMING = frozenset({"warn", "severe"})
HOURS = 24
WEEKDAYS = 7
_HOUR_MS = 3_600_000
_DAY_MS = HOURS * _HOUR_MS
_LEVEL_MS = WEEKDAYS * _DAY_MS  # what the level remembers
_HOUR_TIMES = 14  # an hour's deviation remembers fourteen days of it
_WEEKDAY_TIMES = 4  # and a weekday's four weeks
_PRIOR = 0.5  # of an hour, or a day, that must be seen for its own mean to count half
_HOURLY_MS = 2 * _HOUR_MS  # longer periods say nothing of single hours
_SPREAD = 0.25  # sd of log rates beside counting noise, before it is known
_SPREAD_WORTH = 4.0  # periods that this prior counts for
_LEAST_WORTH = 14.0  # periods that are remembered at least, however long they are
_LEAST_SPREAD = 0.02
_ODD = 3.0
_SMALL = 1e-4  # below, asinh x is x
_NEVER = -(1 << 62)  # an end before every start


class RateSettings(msgspec.Struct, frozen=True, kw_only=True):
    """What counts as evidence and as an effect.

    Args:
        sigmas: evidence.
        ratios: effect for notice, warn, severe: that many times the usual rate, or that part.
        warmup_days: from which the usual is learnt.
        warmup_periods: the least number of them.
        confirm_periods: findings of "warn" running before there is an alarm.
    """

    sigmas: float = 4.0
    ratios: tuple[float, float, float] = (1.5, 2.0, 4.0)
    warmup_days: float = 7.0
    warmup_periods: int = 24
    confirm_periods: int = 2


class RateState(msgspec.Struct, frozen=True, kw_only=True):
    """What is remembered of the requests to one slot of a device; serialise it with msgspec.

    Args:
        start_ms: of the period that is being added up.
        end_ms: of it; equal to ``start_ms`` before the first.
        requests: in it so far.
        whole: whether it is known to be complete as far as it goes.
        reach_ms: end of the period before it.
        since_ms: start of the first period that was learnt.
        periods: learnt ones.
        level: mean log rate (requests per ms).
        worth: periods that the level stands for.
        variance: s², of log rates beside counting noise.
        hours: deviation of every hour's log rate from the level.
        hours_worth: periods that each stands for.
        weekdays: deviation of every weekday's log rate, from 1 January 1970's, a Thursday.
        weekdays_worth: periods that each stands for.
        strong: periods running with a finding of "warn" or above.
        alarm: level that is held.
    """

    start_ms: int = 0
    end_ms: int = 0
    requests: int = 0
    whole: bool = True
    reach_ms: int = 0
    since_ms: int = 0
    periods: int = 0
    level: float = 0.0
    worth: float = 0.0
    variance: float = _SPREAD**2
    hours: tuple[float, ...] = (0.0,) * HOURS
    hours_worth: tuple[float, ...] = (0.0,) * HOURS
    weekdays: tuple[float, ...] = (0.0,) * WEEKDAYS
    weekdays_worth: tuple[float, ...] = (0.0,) * WEEKDAYS
    strong: int = 0
    alarm: Held = Held(level="ok")


class Rate(NamedTuple):
    """How many requests came in one period, and how many were expected.

    Args:
        start_ms: of the period.
        end_ms: of it.
        requests: that came.
        expected: by the device's own past.
        z: how far that is, in standard deviations.
        finding: None while it is usual, or nobody knows yet what is.
        before: level of the alarm before this period, "ok" without one.
        now: the same after it.
    """

    start_ms: int
    end_ms: int
    requests: int
    expected: float
    z: float
    finding: Finding | None
    before: State = "ok"
    now: State = "ok"


_USUAL = RateSettings()


def observe(
    state: RateState,
    start_ms: int,
    end_ms: int,
    requests: int,
    *,
    whole: bool = True,
    settings: RateSettings = _USUAL,
) -> tuple[RateState, Rate | None]:
    """Return the state after one more window, and what is to be said of the period before it.

    Args:
        state: before.
        start_ms: start of the window. One that is older than the period being added up changes
            nothing: that period is judged.
        end_ms: its end.
        requests: answered in it (or rows, where those do not come as requests). A window without
            any (of labels, of refused requests) changes nothing.
        whole: False where the window may be a part: the first or last of a process.
        settings: evidence and effect.

    Raises:
        ProfileError: the window ends before it starts.
    """
    if end_ms <= start_ms:
        raise ProfileError(f"a window from {start_ms} to {end_ms} ms has no rate")
    begun = state.end_ms > state.start_ms
    if requests <= 0 or (begun and start_ms < state.start_ms):
        return state, None
    if begun and start_ms < state.end_ms:
        added = msgspec.structs.replace(
            state,
            end_ms=max(state.end_ms, end_ms),
            requests=state.requests + requests,
            whole=state.whole and whole,
        )
        return added, None
    said, reach_ms = None, state.end_ms
    if begun and state.whole and state.reach_ms == state.start_ms and start_ms == reach_ms:
        state, said = judged(state, settings)
    following = msgspec.structs.replace(
        state,
        start_ms=start_ms,
        end_ms=end_ms,
        requests=requests,
        whole=whole,
        reach_ms=reach_ms if begun else _NEVER,
    )
    return following, said


def judged(state: RateState, settings: RateSettings = _USUAL) -> tuple[RateState, Rate]:
    """Judge the period that ``state`` has added up, as `observe` does when a later one begins.

    Returns:
        The state that has learnt the period, and what is said of it.
    """
    said = _judged(state, settings)
    after = _held(_learnt(state, said), said, settings)
    return after, said._replace(now=after.alarm.level)


def expected(state: RateState, start_ms: int, end_ms: int) -> float:
    """Return how many requests the device's past lets expect between two times.

    >>> round(expected(RateState(periods=50, worth=50, level=math.log(0.001)), 0, 5_000), 6)
    5.0
    """
    total, at = 0.0, start_ms
    while at < end_ms:
        until = min(end_ms, at - at % _HOUR_MS + _HOUR_MS)
        usual = state.level + state.hours[_hour(at)] + state.weekdays[_weekday(at)]
        total += math.exp(usual) * (until - at)
        at = until
    return total


def _hour(at_ms: int) -> int:
    return at_ms // _HOUR_MS % HOURS


def _weekday(at_ms: int) -> int:
    return at_ms // _DAY_MS % WEEKDAYS


def _judged(state: RateState, settings: RateSettings) -> Rate:
    start_ms, end_ms, came = state.start_ms, state.end_ms, state.requests
    if not state.periods:
        return Rate(start_ms, end_ms, came, float(came), 0.0, None, state.alarm.level)
    due = expected(state, start_ms, end_ms)
    z = _stable(came, state.variance) - _stable(due, state.variance)
    ratio = abs(math.log((came + 0.5) / (due + 0.5)))
    level = sum(ratio >= math.log(limit) for limit in settings.ratios)
    known = (
        state.periods >= settings.warmup_periods
        and start_ms - state.since_ms >= settings.warmup_days * _DAY_MS
    )
    finding = None
    if known and abs(z) >= settings.sigmas and level:
        finding = _finding(came, due, end_ms - start_ms, level)
    return Rate(start_ms, end_ms, came, due, z, finding, state.alarm.level)


def _held(state: RateState, said: Rate, settings: RateSettings) -> RateState:
    """Return the state with the alarm after a judged period."""
    level: State = "ok" if said.finding is None else said.finding.level
    strong = state.strong + 1 if level in ALARMING else 0
    alarm = state.alarm
    if alarm.level in ALARMING or strong >= settings.confirm_periods:
        alarm = settle(alarm, level)
        if alarm.level not in ALARMING:
            alarm = Held(level="ok")
    return msgspec.structs.replace(state, strong=strong, alarm=alarm)


def _stable(count: float, variance: float) -> float:
    """Return g(count), on a scale where n of variance n + s²n² has variance 1."""
    root = math.sqrt(count + 0.375)
    s = math.sqrt(variance)
    return 2 * root if s * root < _SMALL else 2 / s * math.asinh(s * root)


def _finding(came: int, due: float, length_ms: int, level: int) -> Finding:
    ratio = (came + 0.5) / (due + 0.5)
    how = f"{ratio:.1f} times as many" if ratio > 1 else f"{ratio:.0%} of that"
    return Finding(
        feature="",
        kind="rate",
        share=came / length_ms * 1000,
        usual=due / length_ms * 1000,
        level=LEVELS[level],
        message=f"{came:,} requests came where {due:,.0f} are usual: {how}",
    )


def _learnt(state: RateState, said: Rate) -> RateState:
    """Return the state that knows the period which was added up."""
    length_ms = said.end_ms - said.start_ms
    if not state.periods:
        rate = math.log((said.requests + 0.5) / length_ms)
        return msgspec.structs.replace(
            state, since_ms=said.start_ms, periods=1, level=rate, worth=1.0
        )
    noise = 1 / (said.expected + 0.5)
    limit = _ODD * math.sqrt(state.variance + noise)
    off = min(max(math.log((said.requests + 0.5) / (said.expected + 0.5)), -limit), limit)
    worth = min(state.worth + 1, max(_LEAST_WORTH, _LEVEL_MS / length_ms))
    # What a period varies beyond counting: off² − noise is right on average, but may be below 0;
    # as a share of the expected count it weighs what says much of s more than what says little.
    weight = state.variance / (state.variance + noise)
    share = weight / (worth + _SPREAD_WORTH)
    variance = state.variance + (off * off - noise - state.variance) * share
    found = msgspec.structs.replace(
        state,
        periods=state.periods + 1,
        worth=worth,
        level=state.level + off / worth,
        variance=max(variance, _LEAST_SPREAD**2),
    )
    middle = said.start_ms + length_ms // 2
    if length_ms <= _HOURLY_MS:
        cells = _Cells(found.hours, found.hours_worth, _HOUR_MS / length_ms, _HOUR_TIMES)
        hours, worths = cells.moved(_hour(middle), off)
        found = msgspec.structs.replace(found, hours=hours, hours_worth=worths)
    if length_ms <= _DAY_MS:
        cells = _Cells(found.weekdays, found.weekdays_worth, _DAY_MS / length_ms, _WEEKDAY_TIMES)
        days, worths = cells.moved(_weekday(middle), off)
        found = msgspec.structs.replace(found, weekdays=days, weekdays_worth=worths)
    return found


class _Cells(NamedTuple):
    """Deviations of hours or weekdays, and the periods that each stands for.

    ``periods`` make one such hour or day; ``times`` of them are remembered.
    """

    means: tuple[float, ...]
    worths: tuple[float, ...]
    periods: float
    times: int

    def moved(self, cell: int, off: float) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Return means and worths after a period that was ``off`` in one cell."""
        worth = min(self.worths[cell] + 1, self.times * max(1.0, self.periods))
        mean = self.means[cell] + off / (worth + _PRIOR * self.periods)
        return (
            (*self.means[:cell], mean, *self.means[cell + 1 :]),
            (*self.worths[:cell], worth, *self.worths[cell + 1 :]),
        )
