"""A real agent, enrolled with the first root, installs from a stick after keys were exchanged."""

from __future__ import annotations

import shutil
from datetime import UTC, datetime
from typing import TYPE_CHECKING, NamedTuple

import pytest

from tests.packager.command import whimbrel
from tests.support import shelf as shelves
from tests.support.agent import DEVICE, RunningAgent
from tests.support.broker import Broker
from tests.support.fleet import FleetEnd
from whimbrel_core.identity import sha256
from whimbrel_core.signing.keys import PrivateKey
from whimbrel_core.wire.assignment import Assignment, Probation, SlotAssignment, sign
from whimbrel_packager.repository.repository import Repository

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.shelf import Shelf
    from whimbrel_packager import PackResult

pytestmark = pytest.mark.needs("mosquitto")


class Enrolment(NamedTuple):
    """What an agent is told about a repository: where it is, and the first root."""

    folder: Path
    root_json: bytes


def assignment(revision: int, packed: PackResult, fleet: PrivateKey) -> bytes:
    title = f"{packed.manifest.name}-{packed.manifest.version}"
    data = packed.path.read_bytes()
    slot = SlotAssignment(
        path=f"bundles/{packed.manifest.name}/{title}.whim",
        digest=sha256(data),
        length=len(data),
        probation=Probation(rows=0, labels=0),
    )
    return sign(Assignment(DEVICE, revision, {"churn": slot}), fleet)


def run(*words: object) -> None:
    done = whimbrel(*words)
    assert done.code == 0, done.err


def test_an_agent_that_never_sees_the_repository_follows_sticks(
    shelf: Shelf, tmp_path: Path
) -> None:
    publisher = shelf.copy(tmp_path / "publisher")
    repository, keys, online = (publisher / name for name in ("repository", "keys", "online-keys"))
    repo = ("--dir", repository)
    export = ("repo", "export", *repo, "--out", tmp_path / "stick", "--online-keys", online)
    Repository(repository).refresh(now=datetime.now(UTC), online=online, keys=None)
    run(*export)
    first_root = (repository / "metadata" / "1.root.json").read_bytes()
    broker = Broker(tmp_path / "broker").start()
    end = FleetEnd(broker)
    enrolment: object = Enrolment(tmp_path / "stick", first_root)
    agent = RunningAgent(tmp_path / "agent", broker, enrolment)  # type: ignore[arg-type]
    try:
        agent.start()
        fleet = PrivateKey.from_pem((online / "fleet.pem").read_bytes())
        end.assign(DEVICE, assignment(1, shelf.good, fleet))
        agent.wait_serving(shelf.good.digest)
        # Meanwhile root, targets and the fleet's key are exchanged, and another version is out.
        for role, folder in (("root", keys), ("targets", keys), ("fleet", online)):
            run("keys", "new", f"{role}-2", "--dir", folder)
            run("repo", "rotate", role, *repo, "--new", folder / f"{role}-2.pub", "--keys", keys,
                "--online-keys", online)  # fmt: skip
        shelves.publish(publisher, shelf.better)
        run("repo", "refresh", *repo, "--online-keys", online)
        shutil.rmtree(tmp_path / "stick")
        run(*export)
        renewed = PrivateKey.from_pem((online / "fleet-2.pem").read_bytes())
        end.assign(DEVICE, assignment(2, shelf.better, renewed))
        agent.wait_serving(shelf.better.digest)
        agent.wait_answering("1.1.0")
    finally:
        agent.stop()
        end.close()
        broker.close()
