"""An agent, a real broker and a fleet's end: nothing lost, nothing doubled, whoever is killed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.agent import DEVICE, RunningAgent
from tests.support.broker import Broker
from tests.support.fleet import FleetEnd
from tests.support.installed import install
from tests.support.models import build_bundle, logistic
from tests.support.repository import RepositorySimulator
from whimbrel_core.profile import window as windows
from whimbrel_core.signing.keys import PrivateKey
from whimbrel_core.wire import topics
from whimbrel_core.wire.assignment import Probation
from whimbrel_core.wire.messages import Hint

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.models import MadeBundle

pytestmark = pytest.mark.needs("mosquitto")
T0 = 1_700_000_100_000  # a whole number of five-minute windows
WINDOW_MS = 300_000


class Fleet:
    """A broker, a fleet's end, a repository with one bundle, and an agent."""

    def __init__(self, folder: Path, broker: Broker) -> None:
        self.folder = folder
        self.made = build_bundle(folder / "bundles", window_s=300, min_rows=1)
        self.repository = RepositorySimulator(folder / "repository", self.made.key)
        self.repository.publish(self.made)
        self.broker = broker
        self.end = FleetEnd(self.broker)
        self.agent = RunningAgent(
            folder / "agent", self.broker, self.repository, more="[telemetry]\nresend_s = 0.5\n"
        )
        self.revision = 0

    def assign(self, made: MadeBundle, *, probation: Probation | None = None) -> None:
        self.revision += 1
        self.end.assign(
            DEVICE,
            self.repository.assignment(DEVICE, self.revision, {"churn": made}, probation=probation),
        )

    def serving(self, made: MadeBundle | None = None) -> Fleet:
        """Serve what was installed before."""
        made = made or self.made
        self.revision = 1
        install(self.agent.home, made, revision=self.revision)
        self.agent.start()
        self.agent.wait_serving(made.digest)
        self.agent.wait_for(lambda: self.agent.status()["fleet"]["consumer"])
        self.end.wait_for(lambda: self.end.lives)
        return self

    def close(self) -> None:
        self.agent.stop()
        self.end.close()


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    broker = Broker(tmp_path / "broker").start()
    try:
        found = Fleet(tmp_path, broker)
        try:
            yield found
        finally:
            found.close()
    finally:
        broker.close()


@pytest.fixture(scope="module")
def standing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """Yield a fleet that serves, for tests that leave it as it was."""
    folder = tmp_path_factory.mktemp("standing")
    broker = Broker(folder / "broker").start()
    try:
        found = Fleet(folder, broker)
        try:
            yield found.serving()
        finally:
            found.close()
    finally:
        broker.close()


def _rows(fleet: Fleet) -> int:
    return sum(window.rows for window in fleet.end.windows)


def test_a_device_enrolled_with_a_root_alone_serves_what_it_is_assigned(fleet: Fleet) -> None:
    fleet.agent.start()
    fleet.assign(fleet.made)
    fleet.agent.wait_serving(fleet.made.digest)
    status, body = fleet.agent.infer()
    assert (status, body["model_version"]) == (200, "1.0.0")
    fleet.end.wait_for(lambda: fleet.end.states[DEVICE].slots[0].phase == "serving")
    reported = fleet.end.states[DEVICE]
    assert reported.slots[0].digest == fleet.made.digest
    assert reported.slots[0].parity_passed
    assert reported.revision == 1
    assert reported.bytes_downloaded > fleet.made.path.stat().st_size
    kinds = ["update.assigned", "update.fetched", "update.probed", "update.switched_committed"]
    fleet.end.wait_for(lambda: [event.kind for event in fleet.end.events] == kinds)


def test_windows_survive_kills_of_the_broker_and_of_control_each_once(fleet: Fleet) -> None:
    fleet.serving()
    agent, end = fleet.agent, fleet.end
    sent = 0
    for k in range(60):
        status, _ = agent.infer(4, timestamp=T0 + k * WINDOW_MS)
        assert status == 200
        sent += 4
        if k in {12, 31}:
            fleet.broker.kill()
        if k in {17, 36}:
            fleet.broker.start()
        if k == 45:
            agent.kill()
            agent.launch()
            agent.wait_for(lambda: agent.answering() == "1.0.0")
    agent.wait_for(agent.status)
    assert agent.stop() == 0  # its last window is handed over while it drains
    agent.start()
    end.wait_for(lambda: _rows(fleet) >= sent)
    agent.wait_for(lambda: agent.status()["outbox"]["rows"] == 0)
    assert fleet.broker.kills == 2
    # 0 lost, 0 doubled: rows, and every copy that came twice was the same row.
    assert _rows(fleet) == sent
    assert end.differing == 0
    assert sum(windows.decode(w.payload).rows for w in end.windows) == sent
    seqs = sorted(seq for _, seq in end.rows)
    assert seqs == list(range(1, len(seqs) + 1))
    assert len({row.epoch for row in end.rows.values()}) == 1
    lives = [life for life in end.lives if life.alive]
    assert [life.incarnation for life in lives] == sorted({life.incarnation for life in lives})


def test_the_outbox_stays_closed_while_no_server_takes_windows(fleet: Fleet) -> None:
    fleet.serving()
    fleet.end.pause()
    fleet.agent.wait_for(lambda: not fleet.agent.status()["fleet"]["consumer"])
    for k in range(5):
        fleet.agent.infer(2, timestamp=T0 + k * WINDOW_MS)
    fleet.agent.wait_for(lambda: fleet.agent.status()["outbox"]["windows"] == 4)
    assert fleet.agent.status()["outbox"]["waiting"] == 4  # not even numbered
    assert fleet.end.windows == []
    fleet.end.resume()
    fleet.end.wait_for(lambda: len(fleet.end.windows) == 4)


def test_what_is_not_acknowledged_is_sent_again_and_the_same(fleet: Fleet) -> None:
    fleet.serving()
    fleet.end.acknowledge = False
    for k in range(4):
        fleet.agent.infer(2, timestamp=T0 + k * WINDOW_MS)
    fleet.end.wait_for(lambda: fleet.end.copies >= 3)
    assert fleet.agent.status()["outbox"]["windows"] == 3
    fleet.end.acknowledge = True
    fleet.agent.wait_for(lambda: fleet.agent.status()["outbox"]["rows"] == 0)
    assert len(fleet.end.windows) == 3
    assert fleet.end.differing == 0


def test_a_bad_version_is_taken_back_without_a_failed_request(fleet: Fleet) -> None:
    fleet.serving()
    bad = build_bundle(
        fleet.folder / "bundles", logistic(seed=3), version="1.1.0", release=2, key=fleet.made.key
    )
    fleet.repository.publish(bad)
    fleet.assign(bad, probation=Probation(rows=20, max_error_rate=None, max_latency_us=1e-6))
    failed = 0

    def taken_back() -> bool:
        nonlocal failed
        failed += fleet.agent.infer()[0] != 200
        slot = fleet.agent.slot()
        return bool(slot["phase"] == "failed" and slot["digest"] == fleet.made.digest)

    fleet.agent.wait_for(taken_back)
    assert failed == 0
    fleet.agent.wait_answering("1.0.0")
    fleet.end.wait_for(lambda: fleet.end.states[DEVICE].quarantined == (bad.digest,))
    slot = fleet.end.states[DEVICE].slots[0]
    assert slot.error_code == "probation.failed"
    # Assigned again it is refused; forgiven it is tried again.
    fleet.assign(bad)
    fleet.agent.wait_for(lambda: fleet.agent.status()["revision"] == 3)
    assert fleet.agent.slot()["digest"] == fleet.made.digest
    fleet.agent.ask("forgive", bad.digest[:10])
    fleet.agent.wait_serving(bad.digest)


def test_an_older_release_comes_back_once_and_no_further(fleet: Fleet) -> None:
    first = fleet.made
    second, third = (
        build_bundle(
            fleet.folder / "bundles",
            logistic(seed=release),
            version=f"1.{release}.0",
            release=release,
            key=first.key,
        )
        for release in (2, 3)
    )
    fleet.repository.publish(second)
    fleet.repository.publish(third)
    fleet.serving(second)
    fleet.assign(third)
    fleet.agent.wait_serving(third.digest)
    fleet.assign(second)  # the fleet takes back release 3
    fleet.agent.wait_serving(second.digest)
    fleet.assign(first)
    fleet.agent.wait_for(lambda: fleet.agent.slot()["error_code"] == "trust.release")
    assert fleet.agent.slot()["digest"] == second.digest


@pytest.mark.parametrize(
    ("code", "sentence"),
    [
        ("malformed", "malformed"),
        ("wrong key", "no trusted key"),
        ("other device", "is for 'somebody'"),
        ("old revision", "revision {} is below {}"),
    ],
    ids=["malformed", "wrong-key", "other-device", "old-revision"],
)
def test_desired_state_that_does_not_hold_is_refused_and_reported(
    standing: Fleet, code: str, sentence: str
) -> None:
    fleet = standing
    fleet.assign(fleet.made)
    revision = fleet.revision
    fleet.agent.wait_for(lambda: fleet.agent.status()["revision"] == revision)
    other = build_bundle(fleet.folder / "bundles", logistic(seed=5), version="6.6.6", release=9)
    repository = fleet.repository
    envelope = {
        "malformed": b"\x81{not json",
        "wrong key": repository.assignment(DEVICE, 99, {"churn": other}, key=PrivateKey.generate()),
        "other device": repository.assignment("somebody", 99, {"churn": other}),
        "old revision": repository.assignment(DEVICE, revision - 1, {"churn": other}),
    }[code]
    fleet.end.publish(topics.down(DEVICE, "desired"), envelope)  # type: ignore[arg-type]
    sentence = sentence.format(revision - 1, revision)
    fleet.agent.wait_for(lambda: sentence in fleet.agent.status()["last_error"])
    assert fleet.agent.status()["revision"] == revision
    assert fleet.agent.slot()["phase"] == "serving"
    assert fleet.agent.answering() == "1.0.0"


def test_a_new_fleet_key_follows_from_the_root_of_trust(fleet: Fleet) -> None:
    fleet.serving()
    renewed = PrivateKey.generate()
    fleet.repository.trust(fleet=[renewed])
    fleet.repository.fleet = renewed
    fleet.assign(fleet.made)
    fleet.agent.wait_for(lambda: fleet.agent.status()["revision"] == 2)


def test_what_a_revoked_key_signed_serves_on_and_is_installed_no_more(fleet: Fleet) -> None:
    fleet.serving()
    renewed = PrivateKey.generate()
    fleet.repository.trust(publishers=[{"pem": renewed.public.pem, "models": ["*"]}])
    by_the_old_key = build_bundle(
        fleet.folder / "bundles", logistic(seed=2), version="1.1.0", release=2, key=fleet.made.key
    )
    fleet.repository.publish(by_the_old_key)
    fleet.assign(by_the_old_key)
    fleet.agent.wait_for(lambda: fleet.agent.slot()["error_code"] == "trust.signature")
    assert fleet.agent.answering() == "1.0.0"
    fleet.agent.stop()
    fleet.agent.start()  # from what was proven, with the keys that were trusted then
    fleet.agent.wait_for(lambda: fleet.agent.answering() == "1.0.0")
    by_the_new_key = build_bundle(
        fleet.folder / "bundles", logistic(seed=3), version="1.2.0", release=3, key=renewed
    )
    fleet.repository.publish(by_the_new_key)
    fleet.assign(by_the_new_key)
    fleet.agent.wait_serving(by_the_new_key.digest)


@pytest.mark.parametrize("leaf", ["ack", "hint", "desired"], ids=str)
def test_bytes_that_are_no_message_are_refused_and_counted(standing: Fleet, leaf: str) -> None:
    fleet = standing
    fleet.assign(fleet.made)  # what it said of an earlier document is not what is waited for
    before = fleet.agent.status()["fleet"]["refused_messages"]
    fleet.end.publish(f"whimbrel/v1/{DEVICE}/down/{leaf}", b"\xc1 not msgpack")
    agent = fleet.agent
    agent.wait_for(
        lambda: (
            agent.status()["fleet"]["refused_messages"] > before
            or (leaf == "desired" and "refused: " in agent.status()["last_error"])
        )
    )
    assert agent.answering() == "1.0.0"


def test_hints_are_followed(standing: Fleet) -> None:
    fleet = standing
    births = len(fleet.end.lives)
    fleet.end.hint(DEVICE, Hint("rebirth"))
    fleet.end.wait_for(lambda: len(fleet.end.lives) > births)
    assert fleet.end.lives[-1].alive


def test_a_clean_end_says_so(fleet: Fleet) -> None:
    fleet.serving()
    born = fleet.end.lives[-1]
    assert fleet.agent.stop() == 0
    fleet.end.wait_for(lambda: not fleet.end.lives[-1].alive)
    assert fleet.end.lives[-1].incarnation == born.incarnation


def test_a_killed_device_is_declared_dead_by_its_will(fleet: Fleet) -> None:
    fleet.serving()
    born = fleet.end.lives[-1]
    fleet.agent.kill()
    fleet.end.wait_for(lambda: not fleet.end.lives[-1].alive)
    assert fleet.end.lives[-1].incarnation == born.incarnation
