"""Whatever lies damaged on the disk at start, and whatever crashes, the agent serves what it can."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

import pytest

from tests.support.agent import RunningAgent
from tests.support.installed import assigned, install
from tests.support.models import build_bundle, logistic
from tests.support.repository import RepositorySimulator

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

# Ends the probe process as a model that crashes the runtime would: by a real SIGSEGV.
CRASH_IN_PROBE = """
import sys
if "whimbrel_agent.update.probe" in sys.orig_argv:
    import ctypes
    ctypes.string_at(0)
"""


class Device:
    """An agent without a fleet, on which 1.1.0 serves and 1.0.0 did before."""

    def __init__(self, folder: Path) -> None:
        self.old = build_bundle(folder / "bundles", version="1.0.0", release=1)
        self.new = build_bundle(
            folder / "bundles", logistic(seed=1), version="1.1.0", release=2, key=self.old.key
        )
        self.repository = RepositorySimulator(folder / "repository", self.old.key)
        self.repository.publish(self.old)
        self.repository.publish(self.new)
        self.agent = RunningAgent(
            folder / "agent",
            None,
            self.repository,
            url=str(folder / "unplugged"),
            more="",
        )
        self.home = self.agent.home
        install(self.home, self.new, previous=self.old)

    def plug_in(self) -> None:
        text = self.agent.config.read_text()
        self.agent.config.write_text(text.replace("unplugged", "repository"))


@pytest.fixture
def device(tmp_path: Path) -> Iterator[Device]:
    found = Device(tmp_path)
    yield found
    found.agent.stop()


def test_without_any_network_what_was_installed_serves_at_once(device: Device) -> None:
    began = time.monotonic()
    device.agent.start()
    device.agent.wait_for(lambda: device.agent.answering() == "1.1.0")
    assert time.monotonic() - began < 10


def test_a_tampered_file_is_left_for_the_version_before_and_fetched_again(
    device: Device,
) -> None:
    file = device.home.bundle(device.new.digest)
    file.write_bytes(file.read_bytes()[:-100] + bytes(100))
    device.agent.start()
    device.agent.wait_for(lambda: device.agent.answering() == "1.0.0")
    slot = device.agent.slot()
    assert slot["digest"] == device.old.digest
    events = device.agent.ask("outbox")
    assert events["events"] >= 1
    device.agent.stop()
    device.plug_in()
    device.agent.start()
    device.agent.wait_serving(device.new.digest)
    assert device.agent.slot()["error"] == ""


def test_with_every_file_gone_the_agent_still_answers_and_says_why(device: Device) -> None:
    for file in device.home.store.iterdir():
        file.unlink()
    device.agent.start()
    device.agent.wait_for(lambda: not device.agent.slot()["digest"])
    status, _ = device.agent.call("GET", "/v2/health/live")
    assert status == 200
    assert device.agent.infer()[0] == 404
    device.agent.wait_for(lambda: "unplugged is not there" in device.agent.slot()["error"])
    device.agent.stop()
    device.plug_in()
    device.agent.start()
    device.agent.wait_serving(device.new.digest)


def test_a_damaged_database_does_not_keep_the_agent_from_running(device: Device) -> None:
    device.home.database.write_bytes(b"\0" * 50_000)
    device.agent.start()
    assert "damaged and set aside" in device.agent.status()["last_error"]


def test_a_worker_that_is_killed_is_back_at_once(device: Device) -> None:
    device.agent.start()
    device.agent.kill_worker()
    device.agent.wait_for(
        lambda: (
            device.agent.status()["worker"]["restarts"] == 1 and device.agent.answering() == "1.1.0"
        )
    )


def test_a_model_that_crashes_the_runtime_does_it_in_the_probe_alone(
    device: Device, tmp_path: Path
) -> None:
    crash = tmp_path / "crash"
    crash.mkdir()
    (crash / "sitecustomize.py").write_text(CRASH_IN_PROBE)
    bad = build_bundle(
        tmp_path / "bundles", logistic(seed=2), version="1.2.0", release=3, key=device.old.key
    )
    device.repository.publish(bad)
    device.plug_in()
    install(device.home, device.new, previous=device.old, wanted=assigned(bad), revision=2)
    path = os.pathsep.join([str(crash), os.environ.get("PYTHONPATH", "")])
    device.agent.start({"PYTHONPATH": path})
    device.agent.wait_for(lambda: device.agent.slot()["phase"] == "failed")
    slot = device.agent.slot()
    assert (slot["error_code"], slot["digest"]) == ("probe.crash", device.new.digest)
    assert "SIGSEGV" in slot["error"]
    assert device.agent.answering() == "1.1.0"
    assert [entry["digest"] for entry in device.agent.status()["quarantined"]] == [bad.digest]
    assert device.agent.status()["worker"]["restarts"] == 0
    assert not device.home.fetched(bad.digest).exists()


@pytest.mark.parametrize("wait_s", [0.0, 0.3, 0.6])
def test_told_to_stop_at_any_moment_of_its_start_the_agent_stops(
    device: Device, wait_s: float
) -> None:
    device.agent.start()
    time.sleep(wait_s)  # a moment is what is tried here
    assert device.agent.stop() == 0


def test_two_agents_on_one_data_directory_are_refused(device: Device) -> None:
    device.agent.start()
    second = RunningAgent(device.agent.folder)
    second.config = device.agent.config
    second.launch()
    assert second.process is not None
    assert second.process.wait(20) == 6
    assert "another agent runs on" in second.log.read_text()
    assert device.agent.status()["slots"][0]["phase"] == "serving"
