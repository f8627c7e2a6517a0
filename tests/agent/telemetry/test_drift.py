"""A device tells by itself what lasts and matters, and remembers where it was."""

from __future__ import annotations

import logging
import zlib
from typing import TYPE_CHECKING

import msgspec
import pytest

from tests.core.profile.samples import flight_baseline, flight_window
from whimbrel_agent.telemetry.drift import DriftWatch, LevelChange, form
from whimbrel_agent.telemetry.watchfile import WatchFile
from whimbrel_core.bundle.manifest import DriftPolicy
from whimbrel_core.profile.watching.alarms import Position, changes, policy_for
from whimbrel_core.profile.watching.judging import DeviceJudge

if TYPE_CHECKING:
    from pathlib import Path

    from whimbrel_core.profile.baseline import Baseline
    from whimbrel_core.profile.window import Window

POLICY = DriftPolicy(window_s=3600, warmup_windows=10)
DIGEST = "d" * 64


@pytest.fixture(scope="module")
def baseline() -> Baseline:
    return flight_baseline()


def watch(baseline: Baseline, folder: Path | None = None, digest: str = DIGEST) -> DriftWatch:
    file = None if folder is None else WatchFile(folder / "drift", "delays", digest, form)
    return DriftWatch(baseline, POLICY, file)


def history(ordinary: int, shifted: int, again: int = 0) -> list[Window]:
    """Return windows of an hour each; in the middle ones the temperature is off by an sd."""
    shifts = [0.0] * ordinary + [1.0] * shifted + [0.0] * again
    return [flight_window(hour, 600, shift=shift) for hour, shift in enumerate(shifts)]


def told(device: DriftWatch, windows: list[Window]) -> list[tuple[int, LevelChange]]:
    return [
        (hour, change)
        for hour, window in enumerate(windows)
        for change in device.observe(window, f"{hour:04}")
    ]


def test_a_lasting_change_is_told_once_with_its_evidence_and_again_when_it_is_over(
    baseline: Baseline,
) -> None:
    device = watch(baseline)
    found = told(device, history(14, 8, 16))
    alarms = [(change.feature, change.before, change.now) for _, change in found]
    assert alarms == [("temp", "ok", "severe"), ("temp", "severe", "ok")]
    hour, began = found[0]
    assert hour in {15, 16}
    detail = began.detail()
    assert detail["what"] == "location"
    assert float(detail["log_e"]) >= float(detail["threshold"]) > 0
    assert float(detail["shift"]) == pytest.approx(1.0, abs=0.25)
    assert abs(int(detail["since_ms"]) - 14 * 3_600_000) <= 3_600_000
    assert all(isinstance(value, str) for value in detail.values())


def test_one_odd_window_and_a_warm_up_tell_nothing_but_show_a_notice(baseline: Baseline) -> None:
    device = watch(baseline)
    windows = history(14, 1, 4)
    assert not told(device, windows[:15])
    assert device.level == "notice"
    assert not told(device, windows[15:])


def test_the_rules_are_the_servers(baseline: Baseline) -> None:
    windows = history(13, 6, 9)
    judge = DeviceJudge(baseline, policy_for(POLICY, streams=len(baseline.layout.features)))
    state, expected = judge.start(), []
    for hour, window in enumerate(windows):
        judged = judge.judge(window, Position(window.start_ms, f"{hour:04}"))
        after, shown = judge.advance(state, judged)
        expected += [(hour, c.feature, c.severity) for c in changes(state, after, shown, 0)]
        state = after
    found = told(watch(baseline), windows)
    assert [(hour, c.feature, None if c.now == "ok" else c.now) for hour, c in found] == expected
    assert expected


def test_a_restart_after_any_window_changes_nothing(baseline: Baseline, tmp_path: Path) -> None:
    windows = history(13, 4)
    expected = told(watch(baseline), windows)
    found = []
    for hour, window in enumerate(windows):
        device = watch(baseline, tmp_path)  # as after kill -9: nothing but the file is left
        found += [(hour, change) for change in device.observe(window, f"{hour:04}")]
    assert found == expected
    assert found
    assert watch(baseline, tmp_path).level == "severe"
    assert [path.name for path in (tmp_path / "drift").iterdir()] == ["delays.state"]


def test_a_window_that_comes_again_or_late_is_left_out(baseline: Baseline, tmp_path: Path) -> None:
    windows = history(13, 4)
    first, second = watch(baseline, tmp_path), watch(baseline, tmp_path)
    expected = told(watch(baseline), windows)
    found = []
    # Two processes of a handover: one file, each window judged once, whoever closes it.
    for hour, window in enumerate(windows):
        for device in (first, second) if hour % 2 else (second, first):
            found += [(hour, change) for change in device.observe(window, f"{hour:04}")]
    assert found == expected
    assert not first.observe(windows[3], "late")


def test_another_bundles_state_is_not_taken_up(baseline: Baseline, tmp_path: Path) -> None:
    told(watch(baseline, tmp_path), history(13, 4))
    successor = watch(baseline, tmp_path, digest="e" * 64)
    assert successor.level == "too_few"
    assert not told(successor, history(0, 6))
    assert watch(baseline, tmp_path).level == "too_few"


@pytest.mark.parametrize("damage", ["cut", "bit", "foreign", "empty", "other form"])
def test_a_damaged_file_is_set_aside_and_the_device_is_learnt_anew(
    baseline: Baseline, tmp_path: Path, caplog: pytest.LogCaptureFixture, damage: str
) -> None:
    told(watch(baseline, tmp_path), history(13, 4))
    path = tmp_path / "drift/delays.state"
    raw = bytearray(path.read_bytes())
    if damage == "bit":
        raw[len(raw) // 2] ^= 1
    other = msgspec.msgpack.encode((DIGEST, {"newest": 3}))
    checked = bytes(raw[:8]) + zlib.crc32(other).to_bytes(4, "little") + other
    damaged = {
        "other form": checked,
        "cut": bytes(raw[:-7]),
        "bit": bytes(raw),
        "foreign": b"<html>",
        "empty": b"",
    }
    path.write_bytes(damaged[damage])
    device = watch(baseline, tmp_path)
    with caplog.at_level(logging.WARNING):
        assert not device.observe(flight_window(50, 600, shift=1.0), "x")
    assert caplog.text.count("is damaged") == 1
    assert path.with_name("delays.state.damaged").exists()
    assert watch(baseline, tmp_path).level == "notice"


def test_a_state_of_another_form_is_learnt_anew(baseline: Baseline, tmp_path: Path) -> None:
    device = watch(baseline, tmp_path)
    told(device, history(3, 0))
    file = WatchFile(tmp_path / "drift", "delays", DIGEST, form)
    state = file.load()
    assert state is not None
    shorter = msgspec.structs.replace(state.detector, arrays=state.detector.arrays[4:])
    file.save(msgspec.structs.replace(state, detector=shorter))
    again = watch(baseline, tmp_path)
    assert again.level == "too_few"
    assert not again.observe(flight_window(1, 600), "y")


def test_a_disk_that_refuses_is_logged_once_and_alarms_go_on(
    baseline: Baseline, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "drift").write_text("a file where the folder would be")
    with caplog.at_level(logging.WARNING):
        found = told(watch(baseline, tmp_path), history(13, 4))
    assert [change.now for _, change in found] == ["severe"]
    assert len(caplog.records) == 1
