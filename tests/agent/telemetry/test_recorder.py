"""Windows in time: what opens, carries over, closes and survives."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import pytest

from tests.support import models
from whimbrel_agent.channel import ClosedWindow, ServingSettings
from whimbrel_agent.telemetry import windowfile
from whimbrel_agent.telemetry.recorder import Clocks, Recorder
from whimbrel_agent.telemetry.windowfile import ServedModel
from whimbrel_core.errors import ProfileError
from whimbrel_core.profile.window import decode

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.models import MadeBundle
    from whimbrel_core.profile.window import Window

NOON_MS = 19_800 * 86_400_000 + 43_200_000
PERIOD_MS = 300_000


class World:
    """A recorder, clocks that are set by hand, and what it closed."""

    def __init__(self, folder: Path, made: MadeBundle, **settings: Any) -> None:  # noqa: ANN401
        self.wall_ms = NOON_MS
        self.monotonic_s = 1000.0
        self.closed: list[tuple[Window, ClosedWindow, Path | None]] = []
        self.folder = folder
        self.made = made
        self.recorder = Recorder(
            ServedModel("churn", "churn", "1.0.0", made.digest),
            made.baseline,
            made.manifest.drift,
            ServingSettings(**settings),
            directory=folder,
            sink=lambda *closed: self.closed.append(closed),
            clocks=Clocks(lambda: self.wall_ms, lambda: self.monotonic_s),
            clock="synced",
        )

    def pass_time(self, seconds: float) -> None:
        self.wall_ms += int(seconds * 1000)
        self.monotonic_s += seconds
        self.recorder.tick()

    def predict(self, rows: int, at_ms: int | None = None) -> None:
        tensors = {
            "x": self.made.recipe.rows["x"][:rows],
            "label": np.zeros(rows, np.int64),
            "probabilities": np.full((rows, 2), 0.5, np.float32),
        }
        self.recorder.record(tensors, rows, at_ms, 20.0)

    @property
    def periods(self) -> list[tuple[int, int, int]]:
        """Start and end after noon, and rows, of each closed window."""
        return [
            (message.start_ms - NOON_MS, message.end_ms - NOON_MS, message.rows)
            for _, message, _ in self.closed
        ]


@pytest.fixture(scope="module")
def churn(tmp_path_factory: pytest.TempPathFactory) -> MadeBundle:
    return models.build_bundle(tmp_path_factory.mktemp("made"), models.logistic(4), min_rows=10)


@pytest.fixture
def world(tmp_path: Path, churn: MadeBundle) -> World:
    return World(tmp_path, churn)


def test_a_wall_clock_window_is_aligned_to_utc_and_closed_at_its_end(world: World) -> None:
    world.wall_ms += 100_000
    world.predict(12)
    world.pass_time(199)
    assert world.closed == []
    world.pass_time(2)
    assert world.periods == [(0, PERIOD_MS, 12)]


def test_few_rows_are_carried_over_to_the_next_period(world: World) -> None:
    world.predict(3)
    world.pass_time(301)
    world.predict(3)
    world.pass_time(300)
    world.predict(4)
    assert world.closed == []
    world.pass_time(300)
    assert world.periods == [(0, 3 * PERIOD_MS, 10)]


def test_a_quiet_device_is_heard_within_a_day(world: World) -> None:
    world.predict(1)
    for _ in range(300):
        world.pass_time(300)
    [(start, end, rows)] = world.periods
    assert (start, rows) == (0, 1)
    assert 86_400_000 <= end <= 86_400_000 + PERIOD_MS


def test_a_clock_that_is_set_does_not_tear_a_window(world: World) -> None:
    world.predict(12)
    world.wall_ms -= 40 * 365 * 86_400_000
    world.predict(12)
    world.pass_time(100)
    assert world.closed == []
    world.pass_time(201)
    assert world.periods == [(0, PERIOD_MS, 24)]


def test_two_event_windows_are_open_at_most(world: World) -> None:
    for index in (0, 5, 2, 1):
        world.predict(1, NOON_MS + index * PERIOD_MS)
        assert len(world.recorder.open_windows) <= 2
    world.recorder.close()
    assert sorted(world.periods) == [
        (index * PERIOD_MS, (index + 1) * PERIOD_MS, 1) for index in (0, 1, 2, 5)
    ]


def test_lateness_keeps_an_event_window_open(tmp_path: Path, churn: MadeBundle) -> None:
    world = World(tmp_path, churn, lateness_s=60.0)
    world.predict(1, NOON_MS)
    world.predict(1, NOON_MS + PERIOD_MS + 59_000)
    world.predict(1, NOON_MS + 1)
    assert world.closed == []
    world.recorder.close()
    assert sorted(world.periods) == [(0, PERIOD_MS, 2), (PERIOD_MS, 2 * PERIOD_MS, 1)]


def test_a_far_future_row_does_not_close_what_follows_it(world: World) -> None:
    world.predict(1, NOON_MS)
    world.predict(1, NOON_MS + 10_000 * PERIOD_MS)
    for index in range(50):
        world.predict(1, NOON_MS + PERIOD_MS + index)
    world.recorder.close()
    assert sorted(world.periods)[1] == (PERIOD_MS, 2 * PERIOD_MS, 50)


def test_refused_requests_alone_make_a_window_too(world: World) -> None:
    world.recorder.count_rejected()
    world.recorder.count_failed()
    world.recorder.close()
    [(counted, message, _)] = world.closed
    assert (counted.ops.rejected, counted.ops.failed, message.rows) == (1, 1, 0)


def test_ops_are_those_of_open_and_closed_windows(world: World) -> None:
    world.predict(12)
    world.pass_time(301)
    world.predict(1)
    assert world.recorder.ops().requests == 2


def test_a_full_disk_keeps_the_window_in_memory(
    world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "posix_fallocate", refuse)
    world.predict(12)
    assert not list(world.folder.iterdir()), "nothing half-made is left"
    world.recorder.close()
    [(_, message, path)] = world.closed
    assert (message.rows, path) == (12, None)
    assert "kept in memory" in caplog.text


def test_single_rows_are_counted_as_batches_are(tmp_path: Path, churn: MadeBundle) -> None:
    alone = World(tmp_path / "alone", churn)
    together = World(tmp_path / "together", churn)
    rows = churn.recipe.rows["x"][:200].copy()
    rows[3, 1] = np.nan
    rows[4, 2] = np.inf
    labels = np.arange(200) % 2
    scores = np.linspace(0, 1, 400, dtype=np.float32).reshape(200, 2)
    for i in range(200):
        tensors = {"x": rows[i : i + 1], "label": labels[i : i + 1]}
        alone.recorder.record({**tensors, "probabilities": scores[i : i + 1]}, 1, NOON_MS)
    batch = {"x": rows, "label": labels, "probabilities": scores}
    together.recorder.record(batch, 200, NOON_MS)
    one, many = (
        world.recorder.open_windows[0].accumulator.window(0, 1) for world in (alone, together)
    )
    assert one == many


def test_a_killed_recorders_window_is_recovered_whole(world: World) -> None:
    world.predict(7, NOON_MS)
    [window] = world.recorder.open_windows
    assert window.path is not None
    assert windowfile.recover(window.path, lambda _: world.made.baseline) is None, "it is alive"
    copy = world.folder / ("0" * 16 + ".open")
    copy.write_bytes(window.path.read_bytes())
    found = windowfile.recover(copy, lambda _: world.made.baseline)
    assert found is not None
    counted, message = found.close(world.made.baseline, world.made.manifest.drift)
    assert (counted.rows, message.window_id) == (7, window.window_id)
    assert (message.start_ms, message.clock) == (NOON_MS, "event")
    found.release()


def test_what_leaves_has_the_noise_that_the_bundle_asks_for_and_what_stays_has_none(
    world: World,
) -> None:
    noisy = msgspec.structs.replace(world.made.manifest.drift, noise_epsilon=0.5)
    world.recorder._policy = noisy
    world.predict(50, NOON_MS)
    [window] = world.recorder.open_windows
    exact = window.window()
    copy = world.folder / ("1" * 16 + ".open")
    assert window.path is not None
    copy.write_bytes(window.path.read_bytes())
    world.recorder.close()
    found = windowfile.recover(copy, lambda _: world.made.baseline)
    assert found is not None
    [(counted, message, _)] = world.closed
    recovered, told = found.close(world.made.baseline, noisy)
    found.release()
    assert counted == exact == recovered
    for payload in (message.payload, told.payload):
        sent = decode(payload)
        assert sent.rows == exact.rows
        assert [one.cells for one in sent.features] != [one.cells for one in exact.features]
        assert all(one.min is None for one in sent.features)


@pytest.mark.parametrize("length", [0, 100, 4096, 5000])
def test_a_torn_file_is_an_error_and_stays(world: World, length: int) -> None:
    world.predict(7, NOON_MS)
    [window] = world.recorder.open_windows
    assert window.path is not None
    torn = world.folder / ("f" * 16 + ".open")
    torn.write_bytes(window.path.read_bytes()[:length])
    with pytest.raises(ProfileError):
        windowfile.recover(torn, lambda _: world.made.baseline)
    assert torn.stat().st_size == length
