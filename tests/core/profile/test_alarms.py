"""An alarm needs evidence and an effect, from the reference or from the device's own beginning."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from tests.core.profile.samples import flight_baseline, flight_window
from whimbrel_core.profile.drift.levels import LEVELS, Thresholds
from whimbrel_core.profile.watching.alarms import Policy, Position, Shown
from whimbrel_core.profile.watching.components import Components
from whimbrel_core.profile.watching.judging import DeviceJudge
from whimbrel_core.profile.watching.sequential import DetectorSettings

if TYPE_CHECKING:
    from collections.abc import Sequence

WARMUP = 12


def judged(shifts: Sequence[float], **policy: int) -> list[Shown]:
    """Return what is shown of the temperature, window by window, after the warm-up."""
    detector = DetectorSettings(streams=20, warmup=WARMUP)
    judge = DeviceJudge(flight_baseline(), Policy(detector=detector, **policy))  # type: ignore[arg-type]
    state, found = judge.start(), []
    for hour, shift in enumerate(shifts):
        window = flight_window(hour, 900, shift=shift)
        said = judge.judge(window, Position(window.start_ms))
        state, shown = judge.advance(state, said)
        found.append(shown[0])
    assert found[0].drift.feature == "temp"
    return found[WARMUP:]


def alarms(shown: list[Shown]) -> list[bool]:
    return [one.alarm for one in shown]


def test_a_device_that_moves_across_the_reference_is_told_of() -> None:
    shown = judged([-0.3] * WARMUP + [-0.3] * 4 + [0.2] * 6)
    # Before, it is as far from the reference as after, or farther; what moved is the device.
    assert shown[-1].drift.state in {"ok", "notice"}
    assert not any(alarms(shown)[:5])
    assert alarms(shown)[-1]
    assert shown[-1].level in {"warn", "severe"}
    assert shown[-1].shift == pytest.approx(0.5, abs=0.15)


def test_a_device_that_was_always_far_off_is_no_news() -> None:
    shown = judged([1.0] * (WARMUP + 20))
    assert not any(alarms(shown))
    assert {one.level for one in shown} == {"notice"}  # what it is without evidence


def test_a_change_is_told_in_its_second_window_or_later_if_so_declared() -> None:
    shifts = [0.0] * (WARMUP + 3) + [1.0] * 6
    assert alarms(judged(shifts)).index(True) == 4
    assert alarms(judged(shifts, confirm_windows=4)).index(True) == 6


def test_an_alarm_that_stands_outlives_a_window_that_speaks_against_it() -> None:
    shown = judged([0.0] * (WARMUP + 2) + [1.0] * 6 + [0.5] + [1.0] * 4 + [0.0] * 14)
    told = alarms(shown)
    began = told.index(True)
    ended = told.index(False, began)
    assert all(told[began:13])
    assert ended >= 13
    assert not any(told[ended:])


@pytest.mark.parametrize(
    ("name", "shift", "level"),
    [
        ("location", 0.05, "ok"),
        ("location", -0.15, "notice"),
        ("location", 0.35, "warn"),
        ("location", -2.0, "severe"),
        ("scale", 0.3, "notice"),
        ("scale", 0.35, "warn"),
        # Of a share that was 0, in units of √(.01 · .99): .02, .1 and .25 are the limits.
        ("missing", 0.15, "ok"),
        ("missing", 0.3, "notice"),
        ("missing", 1.1, "warn"),
        ("missing", 3.0, "severe"),
    ],
)
def test_changes_are_as_grave_as_the_same_distances(name: str, shift: float, level: str) -> None:
    components = Components(flight_baseline())
    places = [
        i
        for i, one in enumerate(components.all)
        if one.name == name and one.feature == (0 if name != "missing" else 2)
    ]
    found = components.levels(np.array([places[:1]]), np.array([[shift]]), Thresholds())
    assert LEVELS[found[0, 0]] == level
