"""Many windows at once give what one after the other gives, by the rules of single ones."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.models import MadeBundle, build_bundle, logistic
from tests.support.windows import Counter
from whimbrel_core.bundle.manifest import DriftPolicy
from whimbrel_core.profile.drift.levels import LEVELS, Held, settle
from whimbrel_core.profile.flat import flatten
from whimbrel_core.profile.watching import alarms, judging

if TYPE_CHECKING:
    from whimbrel_core.profile.window import Window

START_MS = 1_735_689_600_000
PERIOD_MS = 300_000
POLICY = alarms.policy_for(DriftPolicy(window_s=300, warmup_windows=6), streams=6)


@pytest.fixture(scope="module")
def judge(tmp_path_factory: pytest.TempPathFactory) -> judging.DeviceJudge:
    return judging.DeviceJudge(made(tmp_path_factory).baseline, POLICY)


def made(tmp_path_factory: pytest.TempPathFactory) -> MadeBundle:
    return build_bundle(tmp_path_factory.mktemp("bundle"), logistic(4))


def test_devices_together_get_the_bits_and_alarms_of_each_alone(
    tmp_path_factory: pytest.TempPathFactory, judge: judging.DeviceJudge
) -> None:
    counter = Counter(made(tmp_path_factory), seed=8)
    lengths, shifts = (14, 0, 9, 3), (1.2, 0.0, 0.0, 1.2)
    windows: list[Window] = []
    positions: list[alarms.Position] = []
    queues: list[list[int]] = []
    for length, shift in zip(lengths, shifts, strict=True):
        queues.append(list(range(len(windows), len(windows) + length)))
        for turn in range(length):
            rows = 20 if turn == 4 else 400
            moved = shift if turn > 7 else 0.0
            start_ms = START_MS + turn * PERIOD_MS
            windows.append(counter.window(start_ms, rows=rows, shift=moved))
            positions.append(alarms.Position(start_ms, f"{turn:04d}"))
    _, seen = judge.judge_all([flatten(window) for window in windows], positions)
    together, told, turns = judge.advance_all([judge.start()] * len(lengths), seen, queues)
    for state, queue in zip(together, queues, strict=True):
        alone = judge.start()
        for n in queue:
            judged = judge.judge(windows[n], positions[n])
            alone, shown = judge.advance(alone, judged)
            assert judge.shown(judged.drift, told, n) == shown
        assert state == alone
    assert {turn.device for turn in turns} == {0}
    assert turns[0].before.features != turns[0].after.features


@given(st.lists(st.sampled_from(["too_few", *LEVELS]), max_size=20))
def test_levels_settle_as_those_of_a_single_feature(
    judge: judging.DeviceJudge, levels: list[str]
) -> None:
    features, k = len(judge.baseline.layout.features), len(judge.components)
    count = len(levels)
    judged = np.array([alarms.STATES.index(level) - 1 for level in levels], np.int64)
    seen = judging.Seen(
        [alarms.Position(START_MS + n) for n in range(count)],
        np.repeat(judged[:, np.newaxis], features, axis=1),
        np.zeros(count, bool),
        np.full((count, k), np.nan),
        np.full((count, k), np.nan),
    )
    (state,), _, _ = judge.advance_all([judge.start()], seen, [list(range(count))])
    held = Held()
    for level in levels:
        held = settle(held, level, calm_windows=POLICY.calm_windows)  # type: ignore[arg-type]
    assert {feature.held for feature in state.features} == {held}


@pytest.mark.parametrize("evidence", [True, False])
def test_people_are_told_the_same_levels(evidence: bool) -> None:
    levels = np.arange(-1, len(LEVELS))
    told = judging.DeviceJudge.told(levels, np.full(len(levels), evidence))
    assert [alarms.STATES[level + 1] for level in told] == [
        alarms.told(alarms.STATES[level + 1], evidence=evidence) for level in levels
    ]
