"""Kill -9 at every effect boundary: old or new serves at once, and the update converges."""

from __future__ import annotations

import contextlib
import http.client
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support.agent import RunningAgent
from tests.support.installed import assigned, install
from tests.support.models import build_bundle, logistic
from tests.support.repository import RepositorySimulator
from whimbrel_agent.paths import DataDirectory
from whimbrel_core.errors import WhimbrelError
from whimbrel_core.wire.assignment import Probation

if TYPE_CHECKING:
    from tests.support.models import MadeBundle

GOOD = Probation(rows=1, labels=0, max_error_rate=None)
# No run is this fast: the worker's own judgement takes it back.
BAD = Probation(rows=1, labels=0, max_error_rate=None, max_latency_us=1e-6)
UPDATE = ["commit", "collect", "fetch", "probe", "stage", "switch", "watch", "commit", "collect"]
BACK = [*UPDATE[:7], "quarantine", "roll_back", "collect"]


class Prepared:
    """A repository, and a data directory on which 1.0.0 serves."""

    def __init__(self, folder: Path) -> None:
        self.old = build_bundle(folder / "bundles", version="1.0.0", release=1)
        self.new = build_bundle(
            folder / "bundles", logistic(seed=1), version="2.0.0", release=2, key=self.old.key
        )
        self.repository = RepositorySimulator(folder / "repository", self.old.key)
        self.repository.publish(self.old)
        self.repository.publish(self.new)

    def agent(self, folder: Path, crash_at: int | str, probation: Probation) -> RunningAgent:
        """Return an agent that serves 1.0.0, wants 2.0.0 and dies at a boundary."""
        folder.mkdir()
        install(
            DataDirectory(folder / "data"),
            self.old,
            wanted=assigned(self.new, probation),
            revision=2,
        )
        log = folder / "boundaries"
        log.touch()
        config = str(folder / "agent.toml")
        return RunningAgent(
            folder,
            None,
            self.repository,
            arguments=("-m", "tests.support.crashing_agent", config, str(crash_at), str(log)),
        )


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    return Prepared(tmp_path_factory.mktemp("crash"))


def _ask_until(agent: RunningAgent, done: object) -> None:
    """Send requests (a probation needs rows) until ``done()``."""

    def attempt() -> object:
        with contextlib.suppress(OSError, http.client.HTTPException):  # between two lives
            agent.infer()
        try:
            return done()  # type: ignore[operator]
        except WhimbrelError:
            return False  # not there yet

    assert agent.process is not None
    deadline = time.monotonic() + 30
    while not attempt():
        assert time.monotonic() < deadline, agent.log.read_text()[-2000:]
        time.sleep(0.01)


def _die(agent: RunningAgent, where: str) -> None:
    """Start the agent so that it kills itself at a boundary, and wait until it has."""
    module, name, config, _, log = agent._arguments
    agent._arguments = (module, name, config, where, log)
    agent.launch()
    _ask_until(agent, lambda: agent.exited)
    assert agent.process is not None
    assert agent.process.returncode == -9
    assert Path(log).read_text().splitlines()[-1] == where


def _converge(agent: RunningAgent, end: MadeBundle, phase: str) -> None:
    module, name, config, _, log = agent._arguments
    agent._arguments = (module, name, config, "-1", log)
    agent.launch()
    _ask_until(
        agent,
        lambda: (
            agent.home.admin_socket.exists()
            and agent.slot().get("phase") == phase
            and agent.slot()["digest"] == end.digest
            and agent.answering() == end.manifest.version
        ),
    )


def _boundaries(path: list[str]) -> list[str]:
    return [f"{effect} {when}" for effect in path for when in ("before", "after")]


# A newer Python is killed at each of them; on an older one a third shows that it gets there, too.
EVERY = 3 if sys.version_info < (3, 11) else 1


@pytest.mark.parametrize(
    ("probation", "boundaries"),
    [
        (GOOD, _boundaries(UPDATE)[::EVERY]),
        # The quarantine is stored with the state, so that no second life does that effect again.
        (BAD, ["quarantine before", *_boundaries(BACK[8:])]),
        (BAD, ["quarantine after"]),
    ],
    ids=["update", "back", "quarantine"],
)
def test_killed_at_every_effect_one_after_the_other_the_agent_still_gets_there(
    prepared: Prepared, tmp_path: Path, probation: Probation, boundaries: list[str]
) -> None:
    """Each life takes up where the one before was killed, and is killed one boundary later."""
    agent = prepared.agent(tmp_path / "a", -1, probation)
    try:
        for where in boundaries:
            _die(agent, where)
        good = probation is GOOD
        end = prepared.new if good else prepared.old
        _converge(agent, end, "serving" if good else "failed")
        quarantined = [entry["digest"] for entry in agent.status()["quarantined"]]
        assert quarantined == ([] if good else [prepared.new.digest])
        assert agent.stop() == 0
    finally:
        agent.stop()


@pytest.mark.campaign
@pytest.mark.parametrize(
    ("crash_at", "probation"),
    [
        *((n, GOOD) for n in range(2 * len(UPDATE))),
        *((n, BAD) for n in range(14, 2 * len(BACK))),
    ],
    ids=[
        *(f"{n // 2}-{UPDATE[n // 2]}-{'ab'[n % 2]}" for n in range(2 * len(UPDATE))),
        *(f"back-{n // 2}-{BACK[n // 2]}-{'ab'[n % 2]}" for n in range(14, 2 * len(BACK))),
    ],
)
def test_killed_at_any_effect_the_agent_serves_old_or_new_and_converges(
    prepared: Prepared, tmp_path: Path, crash_at: int, probation: Probation
) -> None:
    agent = prepared.agent(tmp_path / "a", crash_at, probation)
    path = UPDATE if probation is GOOD else BACK
    try:
        agent.launch()
        _ask_until(agent, lambda: agent.exited)
        assert agent.process is not None
        assert agent.process.returncode == -9
        lines = (tmp_path / "a" / "boundaries").read_text().splitlines()
        assert lines[-1] == f"{path[crash_at // 2]} {('before', 'after')[crash_at % 2]}"

        agent._arguments = (*agent._arguments[:3], "-1", agent._arguments[4])
        began = time.monotonic()
        agent.launch()
        agent.wait_for(agent.answering)
        answered_s = time.monotonic() - began
        assert agent.answering() in {"1.0.0", "2.0.0"}
        assert answered_s < 10
        end = prepared.new if probation is GOOD else prepared.old
        phase = "serving" if probation is GOOD else "failed"
        _ask_until(
            agent,
            lambda: (
                agent.home.admin_socket.exists()
                and agent.slot().get("phase") == phase
                and agent.slot()["digest"] == end.digest
            ),
        )
        agent.wait_answering(end.manifest.version)
        quarantined = [entry["digest"] for entry in agent.status()["quarantined"]]
        assert quarantined == ([] if probation is GOOD else [prepared.new.digest])
        assert agent.stop() == 0
    finally:
        agent.stop()


@pytest.mark.parametrize(
    ("probation", "path", "phase"),
    [(GOOD, UPDATE, "serving"), (BAD, BACK, "failed")],
    ids=["update", "back"],
)
def test_an_update_has_the_boundaries_that_are_tried(
    prepared: Prepared, tmp_path: Path, probation: Probation, path: list[str], phase: str
) -> None:
    agent = prepared.agent(tmp_path / "a", -1, probation)
    log = tmp_path / "a" / "boundaries"
    try:
        agent.start()
        # The wish is stored beforehand, so "serving" is seen before the update begins, too.
        _ask_until(agent, lambda: len(log.read_text().splitlines()) >= 2 * len(path))
        assert agent.slot()["phase"] == phase
    finally:
        agent.stop()
    expected = [f"{effect} {when}" for effect in path for when in ("before", "after")]
    assert log.read_text().splitlines() == expected
