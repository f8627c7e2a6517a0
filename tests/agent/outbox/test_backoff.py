"""Pauses before connecting and sending again."""

from __future__ import annotations

import random

from whimbrel_agent.telemetry.backoff import Reconnect, Resend


def test_pauses_are_drawn_from_zero_to_a_bound_that_doubles_up_to_the_limit() -> None:
    bounds: list[float] = []

    def top(low: float, high: float) -> float:
        assert low == 0.0
        bounds.append(high)
        return high

    reconnect = Reconnect(300.0, 60.0, top)
    pauses = [reconnect.after_failure() for _ in range(50)]
    assert pauses[:4] == [1.0, 2.0, 4.0, 8.0]
    assert max(pauses) == 300.0 == pauses[-1]


def test_a_fleet_does_not_come_back_at_once() -> None:
    rng = random.Random(7)
    devices = [Reconnect(300.0, 60.0, rng.uniform) for _ in range(1000)]
    pauses = sorted(device.after_session(3600.0, 133.0) for device in devices)
    assert pauses[0] >= 0.0
    assert pauses[-1] <= 133.0
    assert 55 < pauses[500] < 78  # evenly over the spread that the server asked for


def test_only_a_stable_session_starts_the_pauses_small_again() -> None:
    reconnect = Reconnect(300.0, 60.0, lambda _low, high: high)
    for _ in range(6):
        reconnect.after_failure()
    assert reconnect.after_session(59.0, 0.0) == 64.0
    assert reconnect.after_session(61.0, 0.0) == 1.0
    assert reconnect.after_failure() == 1.0


def test_silence_is_waited_out_longer_each_time_until_somebody_answers() -> None:
    resend = Resend(5.0, 512)
    waits = []
    for _ in range(6):
        waits.append(resend.wait_s)
        resend.sent_again()
    assert waits == [5.0, 10.0, 20.0, 40.0, 60.0, 60.0]
    resend.heard(1)
    assert resend.wait_s == 5.0


def test_silence_lets_less_go_and_every_acknowledged_row_one_more() -> None:
    resend = Resend(5.0, 512)
    windows = []
    for _ in range(7):
        windows.append(resend.window)
        resend.sent_again()
    assert windows == [512, 256, 128, 64, 32, 16, 16]
    resend.somebody_else()
    assert (resend.wait_s, resend.window) == (5.0, 16)
    resend.heard(16)
    assert resend.window == 32
    resend.heard(10_000)
    assert resend.window == 512


def test_a_narrow_window_is_never_widened_by_silence() -> None:
    resend = Resend(5.0, 4)
    resend.sent_again()
    assert resend.window == 4
