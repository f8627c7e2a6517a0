"""A wrong clock, 1970 or 2106, neither bricks a device nor admits older metadata."""

from __future__ import annotations

import asyncio
import datetime as dt
import shutil
import time
from typing import TYPE_CHECKING

import pytest

from tests.support import clock
from tests.support.agent import RunningAgent
from tests.support.models import MadeBundle, build_bundle
from tests.support.repository import RepositorySimulator
from whimbrel_agent.control.slots import SlotStore
from whimbrel_agent.control.state import StateFile
from whimbrel_agent.paths import DataDirectory
from whimbrel_agent.update import child
from whimbrel_agent.update.machine import SlotState
from whimbrel_agent.update.messages import Answer, UpdateRequest, Wanted
from whimbrel_core.wire.assignment import Probation, SlotAssignment

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.needs("cc")
WEEK_MS = 7 * 86_400_000


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return clock.build(tmp_path_factory.mktemp("clock"))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> MadeBundle:
    return build_bundle(tmp_path_factory.mktemp("bundles"))


class Device:
    """A data directory, and updater processes whose clock the test sets."""

    def __init__(
        self, folder: Path, made: MadeBundle, library: Path, environ: pytest.MonkeyPatch
    ) -> None:
        self.made = made
        self.repository = RepositorySimulator(folder / "repository", made.key)
        self.path = self.repository.publish(made)
        self.home = DataDirectory(folder / "data")
        self.home.create()
        self.home.root_json.write_bytes(self.repository.root_json)
        self.floor_ms = 0
        self._library = library
        self._environ = environ

    def update(self, at_s: float) -> Answer:
        """Run the real updater at another time, and keep the floor as control does."""
        for name, value in clock.environment(self._library, at_s).items():
            self._environ.setenv(name, value)
        request = UpdateRequest(
            str(self.repository.folder),
            str(self.home.root),
            Wanted(self.path, self.made.digest, self.made.path.stat().st_size),
            clock_floor_ms=self.floor_ms,
        )
        answer = asyncio.run(
            child.run("whimbrel_agent.update.updater", request, timeout_s=60, what="updater")
        )
        self._environ.delenv("LD_PRELOAD")
        if answer.updated is not None:
            self.floor_ms = max(self.floor_ms, answer.updated.clock_floor_ms)
        return answer


@pytest.fixture
def device(
    tmp_path: Path, made: MadeBundle, library: Path, monkeypatch: pytest.MonkeyPatch
) -> Device:
    return Device(tmp_path, made, library, monkeypatch)


def test_in_1970_a_device_is_not_bricked_and_keeps_a_floor_from_signed_metadata_alone(
    device: Device,
) -> None:
    answer = device.update(clock.YEAR_1970)
    assert answer.updated is not None, answer
    assert answer.updated.source == "full"
    now_ms = time.time() * 1000
    assert now_ms - WEEK_MS - 86_400_000 < device.floor_ms < now_ms


def test_in_1970_metadata_that_had_expired_before_what_was_seen_is_not_admitted(
    device: Device,
) -> None:
    """Even to a device that lost its copy of newer metadata, which would tell it by version."""
    repository = device.repository
    repository.expire(by=dt.timedelta(days=30))
    stale = repository.folder.with_name("stale")
    shutil.copytree(repository.folder / "metadata", stale)
    repository.renew()
    assert device.update(time.time()).updated is not None
    shutil.rmtree(repository.folder / "metadata")
    stale.rename(repository.folder / "metadata")
    refused = device.update(clock.YEAR_1970)
    assert refused.failure is not None
    # By version first; a device that has lost its metadata by the floor.
    assert refused.failure.code == "trust.metadata"
    shutil.rmtree(device.home.tuf)
    device.home.create()
    refused = device.update(clock.YEAR_1970)
    assert refused.failure is not None
    assert refused.failure.code == "trust.expired"
    assert "had expired before" in refused.failure.message


def test_in_2106_updates_wait_with_a_hint_and_go_on_once_the_clock_is_right(
    device: Device,
) -> None:
    answer = device.update(clock.YEAR_2106)
    assert answer.failure is not None
    assert (answer.failure.code, answer.failure.retryable) == ("trust.expired", True)
    assert "clock" in answer.failure.hint
    assert device.floor_ms == 0
    answer = device.update(time.time())
    assert answer.updated is not None
    # It had no trace in what is trusted from now on.
    assert device.floor_ms < time.time() * 1000


class Installed:
    """A whole agent that wants one bundle and has none yet."""

    def __init__(self, folder: Path, made: MadeBundle) -> None:
        self.repository = RepositorySimulator(folder / "repository", made.key)
        path = self.repository.publish(made)
        self.agent = RunningAgent(folder / "agent", None, self.repository)
        self.agent.home.create()
        state = StateFile(self.agent.home.database)
        wanted = SlotAssignment(
            path, made.digest, made.path.stat().st_size, probation=Probation(rows=0)
        )
        SlotStore(state).save_assignment([SlotState("churn", wanted=wanted, revision=1)], 1)
        state.close()


@pytest.fixture
def installed(tmp_path: Path, made: MadeBundle) -> Iterator[Installed]:
    found = Installed(tmp_path, made)
    yield found
    found.agent.stop()


def test_a_whole_agent_installs_in_1970_serves_in_2106_and_updates_when_put_right(
    installed: Installed, library: Path, made: MadeBundle
) -> None:
    agent = installed.agent
    agent.start(clock.environment(library, clock.YEAR_1970))
    agent.wait_serving(made.digest)
    assert agent.status()["clock"] == "unsynced"
    assert agent.stop() == 0
    agent.start(clock.environment(library, clock.YEAR_2106))
    agent.wait_for(lambda: agent.answering() == "1.0.0")
    assert agent.infer()[0] == 200
    with pytest.raises(Exception, match="expired"):
        agent.ask("sync")
    assert "expired" in agent.status()["last_error"]
    assert agent.slot()["phase"] == "serving"
    assert agent.stop() == 0
    agent.start()
    assert agent.ask("sync") == {"synced": True}
    assert agent.answering() == "1.0.0"
