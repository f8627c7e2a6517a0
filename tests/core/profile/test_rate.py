"""How many requests come, against how many usually do."""

from __future__ import annotations

import math

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from whimbrel_core.errors import ProfileError
from whimbrel_core.profile.watching.rate import (
    Rate,
    RateSettings,
    RateState,
    expected,
    judged,
    observe,
)
from whimbrel_core.profile.watching.testimony import opened, sealed

HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS
Counts = list[int]


def week_of(seed: int, days: int) -> Counts:
    """Hourly counts with a daily cycle, quiet weekends and days of their own kind."""
    random = np.random.default_rng(seed)
    hours = np.arange(days * 24)
    usual = 600 * np.exp(1.2 * np.sin(2 * np.pi * hours / 24))
    usual *= np.where(hours // 24 % 7 >= 5, 0.5, 1.0)
    usual *= np.exp(0.1 * np.repeat(random.normal(size=days), 24))
    return [int(count) for count in random.poisson(usual)]


def watch(counts: Counts, state: RateState | None = None) -> tuple[RateState, list[Rate]]:
    state, said = state or RateState(), []
    for hour, count in enumerate(counts):
        state, rate = observe(state, hour * HOUR_MS, (hour + 1) * HOUR_MS, count)
        said += [] if rate is None else [rate]
    return state, said


def test_four_weeks_of_days_and_nights_are_usual() -> None:
    state, said = watch(week_of(1, 28))
    assert not any(rate.finding for rate in said)
    noon, night = 6 * HOUR_MS, 18 * HOUR_MS
    assert expected(state, noon, noon + HOUR_MS) > 5 * expected(state, night, night + HOUR_MS)
    assert math.sqrt(state.variance) < 0.25


@pytest.mark.parametrize(("times", "level"), [(3.0, "warn"), (6.0, "severe"), (0.2, "severe")])
def test_far_more_or_fewer_than_usual_is_a_finding_at_once_and_an_alarm_by_the_second(
    times: float, level: str
) -> None:
    counts = week_of(2, 22)
    began = 21 * 24
    counts[began:] = [round(count * times) for count in counts[began:]]
    _, said = watch(counts)
    first, second = (
        rate for rate in said if rate.start_ms in {began * HOUR_MS, (began + 1) * HOUR_MS}
    )
    assert first.finding is not None
    assert first.finding.kind == "rate"
    assert first.finding.level == level
    assert first.finding.share == pytest.approx(counts[began] / 3600)
    assert first.finding.share / first.finding.usual == pytest.approx(times, rel=0.4)
    assert (first.now, second.before) == ("ok", "ok")
    assert second.now in {"warn", "severe"}


def test_an_alarm_ends_after_three_calm_periods_and_one_odd_period_is_none() -> None:
    counts = week_of(3, 22)
    counts[21 * 24] *= 5
    assert not [rate for rate in watch(counts)[1] if rate.before != rate.now]
    counts[21 * 24 + 1] *= 5
    turns = [(rate.start_ms, rate.now) for rate in watch(counts)[1] if rate.before != rate.now]
    assert [now for _, now in turns] == ["severe", "ok"]
    assert turns[1][0] == (21 * 24 + 4) * HOUR_MS


def test_a_lasting_change_becomes_usual() -> None:
    counts = week_of(4, 70)
    counts[28 * 24 :] = [count * 4 for count in counts[28 * 24 :]]
    _, said = watch(counts)
    assert sum(rate.finding is not None for rate in said[28 * 24 : 29 * 24]) > 12
    assert not any(rate.finding for rate in said[-7 * 24 :])


def test_nothing_is_judged_before_a_week_was_seen() -> None:
    counts = week_of(5, 7)
    counts[100] *= 50
    assert not any(rate.finding for rate in watch(counts)[1])


def test_periods_beside_a_gap_are_neither_judged_nor_learnt() -> None:
    state, _ = watch(week_of(6, 14))
    at = 14 * DAY_MS + 5 * HOUR_MS  # off for five hours
    state, said = observe(state, at, at + HOUR_MS, 7)
    assert said is None  # the last before the gap may be a part
    learnt = state.periods
    state, said = observe(state, at + HOUR_MS, at + 2 * HOUR_MS, 500)
    assert said is None  # and so may be the first after it
    assert state.periods == learnt
    _, said = observe(state, at + 2 * HOUR_MS, at + 3 * HOUR_MS, 500)
    assert said is not None


def test_windows_of_one_period_are_added_up_in_any_order_and_late_ones_left_out() -> None:
    state, _ = watch(week_of(7, 14))
    at = 14 * DAY_MS
    for requests in (100, 0, 250):
        state, _ = observe(state, at, at + HOUR_MS, requests)
    assert observe(state, at - HOUR_MS, at, 10_000) == (state, None)
    _, said = observe(state, at + HOUR_MS, at + 2 * HOUR_MS, 1)
    assert said is not None
    assert said.requests == 350


def test_a_window_that_may_be_a_part_is_not_judged() -> None:
    state, _ = watch(week_of(8, 14))
    at = 14 * DAY_MS
    state, _ = observe(state, at, at + HOUR_MS, 1, whole=False)
    state, said = observe(state, at + HOUR_MS, at + 2 * HOUR_MS, 500)
    assert said is None


def test_few_requests_an_hour_are_judged_by_poissons_noise() -> None:
    random = np.random.default_rng(9)
    _, said = watch([int(count) for count in random.poisson(3, size=28 * 24)])
    assert not any(rate.finding for rate in said)


def test_a_carried_over_window_of_many_hours_is_measured_by_all_of_them() -> None:
    state, _ = watch(week_of(10, 21))
    at = 21 * DAY_MS
    due = expected(state, at, at + 30 * HOUR_MS)
    parts = sum(expected(state, at + h * HOUR_MS, at + (h + 1) * HOUR_MS) for h in range(30))
    assert due == pytest.approx(parts)
    state, _ = observe(state, at, at + 30 * HOUR_MS, 20)
    _, said = observe(state, at + 30 * HOUR_MS, at + 31 * HOUR_MS, 500)
    assert said is not None
    assert said.finding is not None
    assert said.finding.level == "severe"


@given(
    counts=st.lists(st.integers(0, 10**9), max_size=60),
    cut=st.integers(0, 60),
)
def test_a_state_that_was_stored_goes_on_with_the_same_bits(counts: Counts, cut: int) -> None:
    settings = RateSettings(warmup_days=0, warmup_periods=2)

    def fold(state: RateState, first: int, some: Counts) -> tuple[RateState, list[Rate | None]]:
        said = []
        for at, count in enumerate(some, first):
            state, rate = observe(state, at * 1000, at * 1000 + 1000, count, settings=settings)
            said.append(rate)
        return state, said

    whole, everything = fold(RateState(), 0, counts)
    half, early = fold(RateState(), 0, counts[:cut])
    again = msgspec.msgpack.decode(msgspec.msgpack.encode(half), type=RateState)
    resumed, late = fold(again, min(cut, len(counts)), counts[cut:])
    assert (resumed, early + late) == (whole, everything)


def test_a_window_that_ends_before_it_starts_is_refused() -> None:
    with pytest.raises(ProfileError, match="has no rate"):
        observe(RateState(), 10, 10, 5)


def test_whoever_is_given_what_is_usual_judges_the_period_to_the_same_bits() -> None:
    state, _ = watch(week_of(6, 20))
    after, said = observe(state, state.end_ms, state.end_ms + HOUR_MS, 4)
    assert said is not None
    sent, settings = opened(sealed(state))
    assert (sent, settings) == (state, RateSettings())
    learnt, again = judged(sent, settings)
    assert again == said
    assert (learnt.level, learnt.alarm) == (after.level, after.alarm)


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"hours": (0.0,) * 23}, "every hour"),
        ({"level": math.nan}, "out of range"),
        ({"variance": 0.0}, "out of range"),
        ({"weekdays_worth": (-1.0,) * 7}, "out of range"),
        ({"end_ms": 0}, "no period"),
        ({"end_ms": 1 << 60}, "no period"),
    ],
)
def test_what_cannot_be_usual_is_refused(changes: dict[str, object], what: str) -> None:
    state, _ = watch(week_of(6, 2))
    with pytest.raises(ProfileError, match=what):
        opened(sealed(msgspec.structs.replace(state, **changes)))


@given(st.text(max_size=400))
def test_any_text_is_what_is_usual_or_refused(text: str) -> None:
    with pytest.raises(ProfileError):
        opened(text)
