"""A whole agent on a disk that is really full: a small tmpfs."""

from __future__ import annotations

import contextlib
import os
import subprocess
from typing import TYPE_CHECKING

import pytest

from tests.support.agent import RunningAgent
from tests.support.broker import Broker
from tests.support.fleet import FleetEnd
from tests.support.installed import install
from tests.support.models import build_bundle, logistic
from tests.support.repository import RepositorySimulator

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.needs("mosquitto", "mount")
T0 = 1_700_000_100_000
WINDOW_MS = 300_000


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """Yield the root of a file system of 4 MB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=4m", "whimbrel-test", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        pytest.skip(f"no small file system can be mounted here: {done.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


class Device:
    """An agent whose data directory is on the small disk; 1.0.0 serves."""

    def __init__(self, folder: Path, disk: Path, broker: Broker) -> None:
        self.made = build_bundle(folder / "bundles", min_rows=1)
        self.newer = build_bundle(
            folder / "bundles", logistic(seed=1), version="1.1.0", release=2, key=self.made.key
        )
        repository = RepositorySimulator(folder / "repository", self.made.key)
        for made in (self.made, self.newer):
            repository.publish(made)
        self.end = FleetEnd(broker)
        self.repository = repository
        (folder / "agent").mkdir()
        (folder / "agent" / "data").symlink_to(disk)
        self.agent = RunningAgent(folder / "agent", broker, repository)
        install(self.agent.home, self.made)
        self._ballast = disk / "ballast"

    def fill(self) -> None:
        """Leave not a byte."""
        with self._ballast.open("ab", buffering=0) as file:
            for size in (1 << 16, 1 << 12, 1):
                with contextlib.suppress(OSError):
                    while file.write(bytes(size)):
                        pass

    def free(self) -> None:
        self._ballast.unlink()


@pytest.fixture
def device(tmp_path: Path, disk: Path) -> Iterator[Device]:
    broker = Broker(tmp_path / "broker").start()
    try:
        found = Device(tmp_path, disk, broker)
        try:
            yield found
        finally:
            found.agent.stop()
            found.end.close()
    finally:
        broker.close()


def test_on_a_full_disk_the_agent_serves_reports_starts_again_and_recovers(device: Device) -> None:
    agent = device.agent
    agent.start()
    agent.wait_for(lambda: agent.answering() == "1.0.0")
    agent.wait_for(agent.home.fleet_json.exists)
    device.fill()
    assert os.statvfs(agent.home.root).f_bavail == 0
    rows = 0
    for k in range(8):
        status, _ = agent.infer(4, timestamp=T0 + k * WINDOW_MS)
        assert status == 200
        rows += 4
    # The windows that closed cannot be stored: said, and kept by the worker.
    agent.wait_for(lambda: "full" in agent.status()["last_error"])
    device.end.wait_for(lambda: "full" in device.end.states["device-1"].last_error)
    assert device.end.states["device-1"].disk_free_bytes == 0
    assert agent.status()["slots"][0]["phase"] == "serving"
    # What is assigned meanwhile waits for the disk; nothing that serves is touched.
    envelope = device.repository.assignment("device-1", 2, {"churn": device.newer})
    device.end.assign("device-1", envelope)
    agent.wait_for(lambda: "cannot be taken yet" in agent.status()["last_error"])
    assert agent.status()["revision"] == 1
    assert agent.infer(4, timestamp=T0 + 8 * WINDOW_MS)[0] == 200
    rows += 4
    device.free()
    device.end.wait_for(lambda: sum(window.rows for window in device.end.windows) >= rows - 4)
    agent.wait_serving(device.newer.digest)
    device.end.wait_for(lambda: sum(window.rows for window in device.end.windows) == rows)
    assert agent.status()["dropped_windows"] == 0


def test_killed_on_a_full_disk_the_agent_comes_back_and_serves(device: Device) -> None:
    agent = device.agent
    agent.start()
    agent.wait_for(lambda: agent.answering() == "1.0.0")
    device.fill()
    agent.kill_worker()
    agent.wait_for(lambda: agent.answering() == "1.0.0")
    agent.kill()
    agent.home.http_json.unlink()
    device.fill()
    # Its port is new, and cannot be written down: it is asked over the admin socket.
    agent.launch()
    agent.wait_for(agent.status)
    agent.wait_for(lambda: agent.status()["worker"]["pid"])
    http = agent.status()["http"]
    assert not agent.home.http_json.exists()
    device.free()
    agent.home.http_json.write_text(f'{{"host": "{http["host"]}", "port": {http["port"]}}}')
    agent.wait_for(lambda: agent.infer()[0] == 200)
    assert agent.stop() == 0
