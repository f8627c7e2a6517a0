"""The fleet server without its web: `Fleet` wires store, ingest, jobs, operations and repository.

Threads: paho's (receives), ingest (sorts, acknowledges), writer (commits), fold (aggregates and
judges), jobs (rollouts, repository, alerts), and a few that announce. Every public method may be
called from any thread; see `whimbrel_server.port.FleetPort` for what they promise.
"""

from __future__ import annotations

import time
from datetime import timedelta
from typing import TYPE_CHECKING

from whimbrel_core.identity import DeviceId
from whimbrel_core.wire import topics
from whimbrel_server.broker import EmbeddedBroker
from whimbrel_server.health import Health
from whimbrel_server.ingest.journal import Journal
from whimbrel_server.ingest.link import Link, LinkSettings
from whimbrel_server.ingest.receiver import Receiver
from whimbrel_server.jobs import watch
from whimbrel_server.jobs.announcer import Announcer
from whimbrel_server.jobs.births import Births
from whimbrel_server.jobs.costs import Costs
from whimbrel_server.jobs.fold import Fold
from whimbrel_server.jobs.judges import Judges
from whimbrel_server.jobs.rates import watch_slots
from whimbrel_server.jobs.rollouts import RolloutJudge
from whimbrel_server.jobs.rounds import Job, Rounds
from whimbrel_server.jobs.signing import Signing
from whimbrel_server.jobs.words import release_words
from whimbrel_server.operations.fleet import FleetOperations
from whimbrel_server.repository import Repository, keys
from whimbrel_server.repository.online import OnlineRoles
from whimbrel_server.store import incarnation
from whimbrel_server.store.assignments import Assignments
from whimbrel_server.store.database import Database
from whimbrel_server.store.registry import Registry
from whimbrel_server.store.standings import members_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from pathlib import Path

    from whimbrel_server.config import Settings
    from whimbrel_server.ingest.journal import Committed
    from whimbrel_server.store.assignments import Desired
    from whimbrel_server.views.health import HealthView

DATABASE = "fleet.db"
_SLOW_EVERY_S = 60.0
_QUALITY_EVERY_S = 5.0
_COSTS_EVERY_S = 1.0


class Fleet(FleetOperations):
    """The application object: what may be asked and done is inherited, here it is brought to life.

    Args:
        settings: the configuration.
        env: environment for commands that are run.
        now_ms: the wall clock in milliseconds.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        env: Mapping[str, str],
        now_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
    ) -> None:
        config = settings.config
        self.settings, self._config = settings, config
        data = settings.path(config.data_dir)
        data.mkdir(parents=True, exist_ok=True)
        online_keys = settings.optional(config.repository.online_keys)
        repository = Repository(settings.path(config.repository.directory))
        self._signing = Signing(repository, self._online(repository, online_keys), now_ms=now_ms)
        database = Database(data / DATABASE)
        registry = Registry(database)
        assignments = Assignments(registry, keys.fleet_key(online_keys))
        super().__init__(
            settings,
            database,
            registry,
            assignments,
            repository,
            publish=self._publish,
            publish_desired=self._publish_desired,
            sign=self._publish_signed,
            wake=self._wake,
            now_ms=now_ms,
        )

        self._journal = Journal(registry)
        self._receiver = Receiver(
            database,
            self._journal,
            self._admission,
            publish=self._publish,
            committed=self._on_commit,
            strangers=self._admission.strangers,
            now_ms=now_ms,
        )
        self._link = self._make_link(incarnation.following(database))
        self._broker: EmbeddedBroker | None = None

        self._fold = Fold(
            database,
            repository,
            judges=Judges(
                repository,
                config.monitoring.policies(),
                devices=lambda: len(registry),
                labels=registry.labels_of,
            ),
            members=lambda digest: members_of(registry.serving(digest)),
            peers=config.monitoring.peers,
            every_s=config.monitoring.checkpoint_s,
            give_way=lambda: self._receiver.busy,
            wrote=self._wake,
            now_ms=now_ms,
        )
        self._births = Births(
            database, registry, assignments, publish=self._publish_desired, now_ms=now_ms
        )
        self._judge = RolloutJudge(database, registry, repository, self._moves, now_ms=now_ms)
        self._announcer = Announcer(database, repository, config, env=env, now_ms=now_ms)
        self._costs = Costs(database, repository)
        self._rounds = Rounds(self._jobs())
        self._health = Health(config.mqtt, self._link, self._fold, self._signing, self._database)
        self._running = False

    # --------------------------------------------------------------------------------- life

    def start(self) -> None:
        """Start every thread, and the embedded broker when it is configured.

        Raises:
            UnavailableError: the embedded broker cannot listen.
        """
        mqtt = self._config.mqtt
        if mqtt.embedded:
            self._broker = EmbeddedBroker(mqtt.host, mqtt.port)
            self._broker.start()
        self._running = True
        self._fold.start()
        self._receiver.start()
        self._rounds.start()
        self._link.start()

    def stop(self) -> None:
        """Stop in order: receive no more, commit and fold what was received, close the store."""
        if self._running:
            self._rounds.stop()
            self._link.stop()
            self._receiver.stop()
            self._fold.stop()
        self._announcer.stop()
        self._database.close()
        if self._broker is not None:
            self._broker.stop()

    def bound(self, host: str, port: int) -> None:
        """Say where the web listens, for addresses in enrolments."""
        self._admission.bound(host, port)

    def health(self) -> HealthView:
        """Return whether the parts of the server work."""
        return self._health.view()

    # ------------------------------------------------------------------------------- wiring

    def _jobs(self) -> tuple[Job, ...]:
        database, registry, monitoring = self._database, self._registry, self._config.monitoring
        now_ms = self._now_ms
        return (
            Job("births", 0.0, self._births.tick),
            Job("repository", self._config.repository.watch_s, self._signing.tick),
            Job("rollouts", 0.0, self._judge.tick),
            Job(
                "quality",
                _QUALITY_EVERY_S,
                lambda: watch.watch_quality(
                    database, self.repository, registry, monitoring, now_ms()
                ),
            ),
            Job(
                "alerts of earlier versions",
                _QUALITY_EVERY_S,
                lambda: watch.watch_served(database, registry, now_ms()),
            ),
            Job(
                "rates of slots that are gone",
                _SLOW_EVERY_S,
                lambda: watch_slots(database, registry, now_ms()),
            ),
            Job(
                "new words",
                _QUALITY_EVERY_S,
                lambda: release_words(database, self.repository, now_ms()),
            ),
            # Before what is told of alerts, so that it is told with them.
            Job("costs", _COSTS_EVERY_S, self._costs.tick),
            Job("alerts", 0.0, self._announcer.tick),
            Job(
                "silence",
                _SLOW_EVERY_S,
                lambda: watch.watch_silence(database, registry, monitoring, now_ms()),
            ),
            Job(
                "retention",
                _SLOW_EVERY_S,
                lambda: watch.prune(database, self._config.retention, self._fold.folded, now_ms()),
            ),
        )

    def _online(self, repository: Repository, folder: Path | None) -> OnlineRoles | None:
        signers = keys.online_signers(folder)
        if signers is None:
            return None
        lives = self._config.repository
        return OnlineRoles(
            repository.directory,
            *signers,
            snapshot_life=timedelta(hours=lives.snapshot_hours),
            timestamp_life=timedelta(hours=lives.timestamp_hours),
        )

    def _make_link(self, number: int) -> Link:
        mqtt, path = self._config.mqtt, self.settings.optional
        return Link(
            LinkSettings(
                host=mqtt.host,
                port=mqtt.port,
                ca=path(mqtt.ca),
                cert=path(mqtt.cert),
                key=path(mqtt.key),
                username=mqtt.username,
                password_file=path(mqtt.password_file),
            ),
            incarnation=number,
            receive=self._receiver.receive,
            ready=self._on_ready,
            lost=lambda: None,
        )

    def _on_commit(self, done: Committed) -> None:
        # On the writer thread: note and wake, nothing that takes time.
        self._health.count(done.windows)
        if done.windows:
            self._fold.wake()
        self._births.note(done)
        self._wake()

    def _on_ready(self) -> None:
        # On paho's thread, at every (re)connect: heal what the broker may have lost.
        with self._database.read() as connection:
            documents = self._assignments.everybody(connection)
        self._publish_desired(documents)
        self._link.announce(drain_per_s=self._health.drain_per_s(), fleet=len(self._registry.all()))
        self._wake()

    def _publish(self, topic: str, payload: bytes) -> None:
        self._link.publish(topic, payload)

    def _publish_desired(self, documents: Iterable[Desired]) -> None:
        for document in documents:
            topic = topics.down(DeviceId(document.device), "desired")
            self._link.publish(topic, document.envelope, retain=True)

    def _publish_signed(self) -> None:
        self._signing.tick()
        self._wake()

    def _wake(self) -> None:
        self._rounds.wake()
