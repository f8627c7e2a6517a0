"""Judging one device over time: evidence and effect, and the same answer in any order."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import msgspec
import pytest

from tests.support.models import MadeBundle, build_bundle, logistic
from tests.support.windows import Counter
from whimbrel_core.bundle.manifest import DriftPolicy
from whimbrel_core.profile.watching import alarms, judging

if TYPE_CHECKING:
    from whimbrel_core.profile.window import Window

START_MS = 1_735_689_600_000
PERIOD_MS = 300_000
POLICY = alarms.policy_for(DriftPolicy(window_s=86_400, warmup_windows=12), streams=6)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> MadeBundle:
    return build_bundle(tmp_path_factory.mktemp("bundle"), logistic(4))


@pytest.fixture(scope="module")
def judge(made: MadeBundle) -> judging.DeviceJudge:
    return judging.DeviceJudge(made.baseline, POLICY)


def history(made: MadeBundle, judge: judging.DeviceJudge, *shifts: float) -> list[alarms.Judged]:
    counter = Counter(made, seed=5)
    found = []
    for i, shift in enumerate(shifts):
        window: Window = counter.window(START_MS + i * PERIOD_MS, rows=400, shift=shift)
        found.append(judge.judge(window, alarms.Position(window.start_ms, f"{i:04d}")))
    return found


def severities(state: alarms.SubjectState) -> list[alarms.Severity | None]:
    return [feature.alarm for feature in state.features]


def test_a_calm_device_raises_nothing(made: MadeBundle, judge: judging.DeviceJudge) -> None:
    state, _ = judge.replay(history(made, judge, *[0.0] * 60))
    assert set(severities(state)) == {None}


def test_a_lasting_shift_is_an_alarm_on_its_feature_with_its_beginning(
    made: MadeBundle, judge: judging.DeviceJudge
) -> None:
    state, shown = judge.replay(history(made, judge, *[0.0] * 30, *[1.2] * 10))
    names = [feature.name for feature in made.baseline.layout.features]
    by_name = dict(zip(names, state.features, strict=True))
    assert by_name["x0"].alarm == "severe"
    assert by_name["x1"].alarm is None
    since = by_name["x0"].since_ms
    assert since is not None
    assert abs(since - (START_MS + 30 * PERIOD_MS)) <= 3 * PERIOD_MS
    last = dict(zip(names, shown[-1][1], strict=True))["x0"]
    assert last.alarm
    assert last.log_e is not None
    assert last.threshold is not None
    assert last.log_e >= last.threshold


def test_one_wild_window_is_no_alarm(made: MadeBundle, judge: judging.DeviceJudge) -> None:
    state, shown = judge.replay(history(made, judge, *[0.0] * 30, 1.5))
    assert severities(state)[0] is None
    assert shown[-1][1][0].drift.state == "severe"  # the effect is large
    assert shown[-1][1][0].level == "notice"  # and nothing says that it lasts


def test_an_alarm_ends_when_the_effect_is_gone(
    made: MadeBundle, judge: judging.DeviceJudge
) -> None:
    windows = history(made, judge, *[0.0] * 30, *[1.2] * 6, *[0.0] * 8)
    before, _ = judge.replay(windows[:36])
    after, shown = judge.replay(windows)
    assert before.features[0].alarm is not None
    assert after.features[0].alarm is None
    ended = alarms.changes(before, after, shown[-1][1], 0)
    assert [(one.feature, one.severity) for one in ended] == [("x0", None)]


def test_the_same_windows_give_the_same_states_whenever_they_arrived(
    made: MadeBundle, judge: judging.DeviceJudge
) -> None:
    windows = history(made, judge, *[0.0] * 20, *[0.8] * 8)
    state = judge.start()
    for judged in windows:
        state, _ = judge.advance(state, judged)
    mixed = list(windows)
    random.Random(3).shuffle(mixed)
    assert judge.replay(mixed)[0] == state


def test_a_state_survives_storing(made: MadeBundle, judge: judging.DeviceJudge) -> None:
    windows = history(made, judge, *[0.0] * 20)
    state, _ = judge.replay(windows[:15])
    stored = msgspec.msgpack.decode(msgspec.msgpack.encode(state), type=alarms.SubjectState)
    for judged in windows[15:]:
        state, _ = judge.advance(state, judged)
        stored, _ = judge.advance(stored, judged)
    assert stored == state


def test_a_window_of_few_rows_changes_nothing(made: MadeBundle, judge: judging.DeviceJudge) -> None:
    state, _ = judge.replay(history(made, judge, *[0.0] * 15))
    small = Counter(made).window(START_MS + 90 * PERIOD_MS, rows=20, shift=5.0)
    judged = judge.judge(small, alarms.Position(small.start_ms, "z"))
    after, shown = judge.advance(state, judged)
    assert after.features == state.features
    assert after.detector == state.detector
    assert {one.drift.state for one in shown} == {"too_few"}
