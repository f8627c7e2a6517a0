"""A model that takes the worker down is left out; the other slots of the device go on."""

from __future__ import annotations

import http.client
import platform
from typing import TYPE_CHECKING, NamedTuple

import pytest

from tests.support.agent import RunningAgent
from tests.support.installed import assigned, install, save
from tests.support.models import (
    TRAP,
    MadeBundle,
    build_bundle,
    crash_at_load,
    logistic,
    replace_model,
    trapping,
)
from tests.support.repository import RepositorySimulator
from whimbrel_agent.control.slots import SlotStore
from whimbrel_agent.control.state import StateFile
from whimbrel_agent.update.blame import CRASHES, Blame, from_outside
from whimbrel_agent.update.machine import SlotState

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

traps = pytest.mark.skipif(
    platform.machine() not in {"x86_64", "AMD64"},
    reason="a model that crashes the runtime is known for x86 processors only",
)


class Bundles(NamedTuple):
    """``good`` and ``trap`` answer; ``trap`` ends the process on one input, ``fatal`` at load."""

    folder: Path
    good: MadeBundle
    trap: MadeBundle
    fatal: MadeBundle
    refused: MadeBundle


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> Bundles:
    folder = tmp_path_factory.mktemp("isolation")
    good = build_bundle(folder)
    later = build_bundle(folder, logistic(seed=1), version="1.1.0", release=2, key=good.key)
    return Bundles(
        folder,
        good,
        build_bundle(folder, trapping(), version="1.2.0", release=3, key=good.key),
        crash_at_load(later, folder / "fatal"),
        replace_model(later, folder / "refused", b"no model"),
    )


class Device:
    """An agent with two slots: ``steady`` serves 1.0.0, ``shaky`` what the test says."""

    def __init__(self, folder: Path, bundles: Bundles) -> None:
        self.bundles = bundles
        self.repository = RepositorySimulator(folder / "repository", bundles.good.key)
        self.agent = RunningAgent(folder / "agent", None, self.repository)

    def start(self, serves: MadeBundle, previous: MadeBundle | None) -> RunningAgent:
        self.repository.publish(serves)
        install(self.agent.home, self.bundles.good, slot="steady")
        install(self.agent.home, serves, slot="shaky", previous=previous)
        return self.agent.start()

    def spring(self) -> None:
        """Send the request that the model in ``shaky`` does not survive."""
        item = {"name": "x", "shape": [1, 20], "datatype": "FP32", "data": [float(TRAP)] * 20}
        with pytest.raises((OSError, http.client.HTTPException)):
            self.agent.call("POST", "/v2/models/shaky/infer", {"inputs": [item]})


@pytest.fixture
def device(tmp_path: Path, bundles: Bundles) -> Iterator[Device]:
    found = Device(tmp_path, bundles)
    yield found
    found.agent.stop()


@traps
def test_a_model_that_crashes_the_worker_with_requests_gives_way_to_the_one_before(
    device: Device, bundles: Bundles
) -> None:
    agent = device.start(bundles.trap, bundles.good)
    for crash in range(1, CRASHES + 1):
        agent.wait_for(lambda: agent.infer(slot="steady")[0] == 200)
        device.spring()
        agent.wait_for(lambda: agent.status()["worker"]["restarts"] == crash)  # noqa: B023
    agent.wait_for(lambda: agent.slot("shaky")["phase"] == "failed")
    slot = agent.slot("shaky")
    assert (slot["digest"], slot["error_code"]) == (bundles.good.digest, "worker.crash")
    assert "SIGFPE" in slot["error"]
    assert "the other slots go on" in slot["error"]
    agent.wait_for(lambda: agent.answering("shaky") == agent.answering("steady") == "1.0.0")
    assert agent.slot("steady")["phase"] == "serving"
    assert agent.slot("steady")["error"] == ""
    assert agent.status()["quarantined"] == []
    # Not again by itself, not even after a restart; only when somebody asks for it.
    agent.stop()
    agent.start()
    agent.wait_for(lambda: agent.answering("steady") == "1.0.0")
    assert agent.slot("shaky")["phase"] == "failed"
    agent.ask("sync")
    agent.wait_serving(bundles.trap.digest, "shaky")
    assert agent.slot("shaky")["error"] == ""


@traps
def test_a_model_that_crashes_the_worker_as_it_loads_is_left_out_with_nothing_to_go_back_to(
    device: Device, bundles: Bundles
) -> None:
    agent = device.start(bundles.fatal, None)
    agent.wait_for(lambda: agent.slot("shaky")["phase"] == "failed")
    slot = agent.slot("shaky")
    assert (slot["digest"], slot["error_code"]) == ("", "worker.crash")
    assert "SIGFPE" in slot["error"]
    agent.wait_for(lambda: agent.answering("steady") == "1.0.0")
    assert agent.infer(slot="shaky")[0] == 404
    assert agent.status()["worker"]["restarts"] == 0
    pid = agent.status()["worker"]["pid"]
    # Asked for, it is proven again before any worker meets it: it crashes the probe alone.
    agent.ask("sync")
    agent.wait_for(lambda: agent.slot("shaky")["error_code"] == "probe.crash")
    assert agent.status()["worker"]["pid"] == pid
    assert [entry["digest"] for entry in agent.status()["quarantined"]] == [bundles.fatal.digest]


def test_a_model_that_the_runtime_no_longer_loads_gives_way_at_once(
    device: Device, bundles: Bundles
) -> None:
    agent = device.start(bundles.refused, bundles.good)
    agent.wait_for(lambda: agent.slot("shaky")["phase"] == "failed")
    slot = agent.slot("shaky")
    assert (slot["digest"], slot["error_code"]) == (bundles.good.digest, "compatibility.runtime")
    agent.wait_for(lambda: agent.answering("shaky") == agent.answering("steady") == "1.0.0")


@traps
def test_a_newer_version_is_taken_while_the_present_one_crashes(
    device: Device, bundles: Bundles
) -> None:
    """What is wanted meanwhile did nothing wrong, and comes at once."""
    newer = build_bundle(
        bundles.folder, logistic(seed=4), version="1.3.0", release=4, key=bundles.good.key
    )
    device.repository.publish(newer)
    agent = device.start(bundles.fatal, None)
    agent.wait_for(lambda: agent.slot("shaky")["phase"] == "failed")
    agent.stop()
    states = StateFile(agent.home.database)
    state = SlotStore(states).load()["shaky"]
    states.close()
    assert state.left_out == bundles.fatal.digest
    save(
        agent.home,
        SlotState(
            "shaky",
            "failed",
            assigned(newer),
            2,
            given_up=state.given_up,
            left_out=state.left_out,
        ),
    )
    agent.start()
    agent.ask("sync")
    agent.wait_serving(newer.digest, "shaky")


def test_one_crash_is_chance_and_three_have_a_cause() -> None:
    blame = Blame()
    assert not blame.crashed({"a", "b"}, 0.0)
    assert not blame.crashed({"b"}, 1.0)
    assert not blame.crashed({"a", "c"}, 2.0)
    assert blame.crashed({"b", "c"}, 3.0) == {"b"}
    assert not blame.crashed({"a"}, 4.0)  # begun anew


def test_crashes_far_apart_and_of_nobody_blame_nobody_and_wait_longer_each_time() -> None:
    rare = Blame()
    assert not any(rare.crashed({"a"}, 61.0 * n) for n in range(20))
    nobody = Blame()
    pauses = []
    for n in range(12):
        assert not nobody.crashed((), float(n))
        pauses.append(nobody.pause_s(float(n)))
    assert pauses[:4] == [0.0, 0.4, 0.8, 1.6]
    assert pauses == sorted(pauses)
    assert pauses[-1] == 30.0
    assert nobody.pause_s(1000.0) == 0.0


def test_a_signal_from_outside_says_nothing_about_a_model() -> None:
    assert from_outside("SIGKILL")
    assert not from_outside("SIGSEGV")
    assert not from_outside("exit code 1")
