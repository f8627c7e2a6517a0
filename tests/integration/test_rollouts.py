"""A version that is wrong, and devices and servers that were away: real processes throughout."""

from __future__ import annotations

import random
import shutil
import signal
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from tests.support.agent import AgentProcess
from tests.support.shelf import MODEL
from tests.support.traffic import START_MS
from tests.support.waiting import until

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.estate import Estate
    from tests.support.shelf import Shelf

pytestmark = pytest.mark.timeout(300)
MIN_AUC = 0.6


def test_a_wrong_version_is_taken_back_by_its_device_without_a_network(
    estate: Estate, shelf: Shelf
) -> None:
    canary, other = "ewr", "jfk"
    estate.start()
    estate.enrol(other).start()
    estate.enrol(canary, cut=True).start()
    estate.bring("1.0.0")
    estate.publish(shelf.wrong)
    rollout = estate.roll_out(
        "1.2.0", "--wave", canary, "--wave", "rest", "--min-rows", 50, "--labels", 50,
        "--min-auc", MIN_AUC, "--probation-rows", 200, "--probation-labels", 200,
        "--probation-min-auc", MIN_AUC,
    )  # fmt: skip
    agent = estate.agents[canary]
    agent.wait_for(lambda: agent.answering() == "1.2.0")
    estate.networks[canary].cut()
    agent.wait_for(lambda: not agent.status()["fleet"]["connected"])

    callers = {
        device: estate.caller(device, i << 20, labels=True)
        for i, device in enumerate((canary, other))
    }
    caller = callers[canary].start()
    callers[other].start()
    # Nobody told the device: it hears of its own mistakes from the labels alone.
    caller.wait_for(lambda: caller.versions == ["1.2.0", "1.0.0"])
    caller.wait_more(10)
    assert not agent.status()["fleet"]["connected"]
    assert agent.slot()["error_code"] == "probation.failed"
    assert [entry["digest"] for entry in agent.status()["quarantined"]] == [shelf.wrong.digest]

    estate.networks[canary].mend()
    until(lambda: estate.client.rollout(rollout.id).state == "rolled_back", "the way back")
    for told in callers.values():
        told.stop()
        assert (told.unreached, told.refused) == (0, [])
    assert callers[other].versions == ["1.0.0"]
    assert estate.client.rollout(rollout.id).waves[1].state == "pending"
    estate.settle({device: told.rows for device, told in callers.items()})
    books = estate.stop_and_read()
    assert books.rows == {device: told.rows for device, told in callers.items()}
    assert {device: told.joined for device, told in callers.items()} == books.rows


@pytest.mark.needs("mosquitto")
@pytest.mark.parametrize("estate", ["mosquitto"], indirect=True)
def test_an_agent_killed_at_drawn_steps_of_an_update_still_gets_there(
    estate: Estate, shelf: Shelf
) -> None:
    agent = estate.start("ewr").agents["ewr"]
    estate.publish(shelf.better)
    assert agent.stop() == 0
    estate.roll_out("1.1.0", "--probation-rows", 20)
    steps = estate.folder / "steps"
    steps.touch()
    config, data = agent.config, agent.home.root
    caller = estate.caller("ewr")
    deaths = 0
    # Each life goes on where the one before was killed, until none is left or all is done.
    for life in [*random.Random(3).sample(range(1, 6), 3), -1]:
        killing = ("-m", "tests.support.crashing_agent", str(config), str(life), str(steps))
        agent = estate.agents["ewr"] = AgentProcess(agent.folder, config, data, killing)
        caller.move_to(agent)
        agent.launch()

        def over(agent: AgentProcess = agent) -> bool:
            if agent.exited:
                return True
            if agent.home.http_json.exists():
                caller.ask()  # a probation needs rows
            return agent.home.admin_socket.exists() and _serves(agent, "1.1.0")

        until(over, "a death, or the update")
        assert agent.process is not None
        if not agent.exited:
            break
        assert agent.process.returncode == -signal.SIGKILL
        deaths += 1
    estate.wait_serving("1.1.0", ["ewr"])
    assert deaths >= 2, steps.read_text()
    assert set(caller.versions) <= {"1.0.0", "1.1.0"}
    assert agent.status()["quarantined"] == []
    estate.settle({"ewr": caller.rows})
    count = estate.counts("ewr")
    assert count is not None
    assert caller.rows <= count.rows <= caller.rows + caller.in_doubt
    assert count.lost == 0


def _serves(agent: AgentProcess, version: str) -> bool:
    slot = agent.slot()
    return bool(slot and slot["version"] == version and slot["committed"])


def test_a_server_restored_from_a_backup_catches_up_with_what_its_devices_have_seen(
    estate: Estate, shelf: Shelf
) -> None:
    agent = estate.start("ewr").agents["ewr"]
    caller = estate.caller("ewr")
    caller.ask_for(10)
    estate.settle({"ewr": caller.rows})
    before = estate.counts("ewr")
    assert before is not None
    backup = _backup(estate)
    early = agent.status()["revision"]

    estate.publish(shelf.better)
    estate.bring("1.1.0")
    caller.ask_for(5)
    estate.settle({"ewr": caller.rows})
    seen = agent.status()["revision"]
    assert seen > early
    after = estate.counts("ewr")
    assert after is not None

    assert estate.server.stop() == 0
    for file in estate.server.database.parent.glob("fleet.db*"):
        file.unlink()
    shutil.copy(backup, estate.server.database)
    estate.start_server()
    # The restored server believes in 1.0.0, and says so above what the device has seen.
    agent.wait_for(lambda: agent.status()["revision"] > seen)
    estate.wait_serving("1.0.0", ["ewr"])
    assert agent.status()["quarantined"] == []
    caller.ask_for(5)
    until(lambda: (c := estate.counts("ewr")) is not None and c.rows > before.rows, "new windows")
    agent.wait_for(lambda: agent.status()["outbox"]["rows"] == 0)
    # What was committed after the backup is gone with the old disk, and said to be.
    until(
        lambda: (
            (c := estate.counts("ewr")) is not None and c.lost == after.received - before.received
        ),
        "the gap that the backup left",
    )
    until(lambda: agent.status()["outbox"]["rows"] == 0, "an empty outbox")


def _backup(estate: Estate) -> Path:
    """Copy the database as an operator does, while it is used."""
    copy = estate.folder / "backup.db"
    with (
        closing(sqlite3.connect(estate.server.database)) as db,
        closing(sqlite3.connect(copy)) as to,
    ):
        db.backup(to)
    return copy


@pytest.mark.needs("mosquitto")
@pytest.mark.parametrize("estate", ["mosquitto"], indirect=True)
def test_a_device_that_was_made_anew_is_not_counted_twice(estate: Estate) -> None:
    agent = estate.start("ewr").agents["ewr"]
    caller = estate.caller("ewr")
    caller.ask_for(20)
    estate.settle({"ewr": caller.rows})
    old = agent.status()
    caller.hang_up()
    assert agent.stop() == 0
    shutil.rmtree(agent.home.root)
    agent.start()
    estate.wait_serving("1.0.0", ["ewr"])
    new = agent.status()
    assert new["epoch"] != old["epoch"]
    # The same periods once more, and the same sequence numbers in another epoch.
    caller._next_ms = START_MS
    caller.ask_for(20)
    estate.settle({"ewr": caller.rows})
    count = estate.counts("ewr")
    last = agent.status()["outbox"]["last"]
    assert count is not None
    assert (count.rows, count.lost, count.duplicate) == (caller.rows, 0, 0)
    assert count.received == old["outbox"]["last"] + last
    books = estate.stop_and_read()
    assert books.rows == {"ewr": caller.rows}
    assert len({epoch for _, epoch, _ in books.keys}) == 2


def test_a_bundle_comes_on_a_stick_when_server_and_broker_are_gone(
    embedded_estate: Estate,
) -> None:
    estate = embedded_estate
    estate.start()
    agent = estate.enrol("ewr")
    stick = estate.folder / "stick"
    address = f"{estate.url}/repository"
    # Trust and assignment came while the server was there; the bundle did not.
    agent.start()
    agent.wait_for(agent.home.fleet_json.exists)
    assert agent.stop() == 0
    agent.config.write_text(agent.config.read_text().replace(address, str(stick)))
    agent.start()
    estate.fleet("assign", "ewr", MODEL, MODEL, "1.0.0")
    agent.wait_for(lambda: agent.slot().get("error_code"))
    assert str(stick) in agent.slot()["error"]
    estate.server.kill()
    shutil.copytree(estate.publisher / "repository", stick)
    estate.run("agent", "sync", "--config", agent.config)
    agent.wait_for(lambda: agent.answering() == "1.0.0")
    caller = estate.caller("ewr")
    caller.ask_for(5)
    assert (caller.unreached, caller.refused) == (0, [])
    assert agent.slot()["parity_passed"]
    # And what was counted meanwhile waits for a server.
    estate.start_server()
    estate.settle({"ewr": caller.rows})
    assert estate.stop_and_read().rows == {"ewr": caller.rows}
    assert agent.slot(MODEL)["version"] == "1.0.0"
