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
from whimbrel_server.jobs.groups import members_of
from whimbrel_server.jobs.judges import Judges
from whimbrel_server.jobs.rates import watch_slots
from whimbrel_server.jobs.rollouts import RolloutJudge
from whimbrel_server.jobs.rounds import Job, Rounds
from whimbrel_server.jobs.signing import Signing
from whimbrel_server.jobs.words import release_words
from whimbrel_server.operations import alerts, assignment
from whimbrel_server.operations import labels as device_labels
from whimbrel_server.operations.admission import Admission
from whimbrel_server.operations.publishing import Publishing
from whimbrel_server.operations.rollout_moves import Moves
from whimbrel_server.operations.rollouts import Rollouts
from whimbrel_server.queries.fleet import FleetReads
from whimbrel_server.repository import Repository, keys
from whimbrel_server.repository.online import OnlineRoles
from whimbrel_server.store import incarnation
from whimbrel_server.store.assignments import Assignments
from whimbrel_server.store.database import Database
from whimbrel_server.store.registry import Registry

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from pathlib import Path

    from whimbrel_server.config import Settings
    from whimbrel_server.ingest.journal import Committed
    from whimbrel_server.store.assignments import Desired
    from whimbrel_server.views.alerts import AlertView
    from whimbrel_server.views.devices import DeviceView
    from whimbrel_server.views.enrolment import Enrolment
    from whimbrel_server.views.health import HealthView
    from whimbrel_server.views.repository import AcceptedView, RepositoryView, UploadView
    from whimbrel_server.views.rollouts import RolloutSpec, RolloutView

DATABASE = "fleet.db"
_SLOW_EVERY_S = 60.0
_QUALITY_EVERY_S = 5.0
_COSTS_EVERY_S = 1.0


class Fleet(FleetReads):
    """The application object: what may be asked is inherited, what may be done is handed on.

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
        self.settings, self._config, self._now_ms = settings, config, now_ms
        data = settings.path(config.data_dir)
        data.mkdir(parents=True, exist_ok=True)
        online_keys = settings.optional(config.repository.online_keys)
        repository = Repository(settings.path(config.repository.directory))
        self._signing = Signing(repository, self._online(repository, online_keys), now_ms=now_ms)
        database = Database(data / DATABASE)
        registry = Registry(database)
        assignments = Assignments(registry, keys.fleet_key(online_keys))
        super().__init__(database, registry, assignments, repository)

        self._admission = Admission(
            settings, database, registry, repository, publish=self._publish, now_ms=now_ms
        )
        moves = Moves(
            database, repository, assignments, publish=self._publish_desired, now_ms=now_ms
        )
        self._rollouts = Rollouts(database, registry, repository, assignments, moves, now_ms=now_ms)

        self._publishing = Publishing(
            database,
            repository,
            limit_bytes=config.repository.upload_mb * 1_000_000,
            sign=self._publish_signed,
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
        self._judge = RolloutJudge(database, registry, repository, moves, now_ms=now_ms)
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

    # -------------------------------------------------------------------------- what is done

    def health(self) -> HealthView:
        """Return whether the parts of the server work."""
        return self._health.view()

    def knows(self, device: str) -> bool:
        """Return whether messages of ``device`` are taken; admit it where the policy says so."""
        return self._admission.is_enrolled(device)

    def enrol(self, device: str, csr_pem: str, labels: Mapping[str, str], actor: str) -> Enrolment:
        """Sign a device's certificate request and admit the device."""
        return self._admission.enrol(device, csr_pem, labels, actor)

    def label_device(self, device: str, labels: Mapping[str, str], actor: str) -> DeviceView:
        """Set labels of a device; an empty value removes the label."""
        device_labels.set_labels(
            self._database, self._registry, device, labels, actor=actor, now_ms=self._now_ms()
        )
        return self.device(device)

    def assign(self, device: str, slot: str, model: str, version: str, actor: str) -> DeviceView:
        """Assign a version to one device's slot directly."""
        self._registry.require(device)
        document = assignment.assign(
            self._database,
            self.repository,
            self._assignments,
            device=device,
            slot=slot,
            model=model,
            version=version,
            actor=actor,
            now_ms=self._now_ms(),
        )
        self._publish_desired([document])
        return self.device(device)

    def repository_contents(self) -> RepositoryView:
        """Return the names of the repository's metadata files."""
        return self._publishing.contents()

    def upload(self, digest: str) -> UploadView:
        """Return how much of a publisher's file is here."""
        return self._publishing.upload(digest)

    def append_upload(self, digest: str, offset: int, length: int, piece: bytes) -> UploadView:
        """Add a piece to a publisher's file."""
        return self._publishing.append(digest, offset, length, piece)

    def accept_metadata(self, name: str, data: bytes, actor: str) -> AcceptedView:
        """Verify a publisher's metadata and put it in place, with the files that it names."""
        return self._publishing.accept(name, data, actor)

    def start_rollout(self, spec: RolloutSpec, actor: str) -> RolloutView:
        """Start moving a version through waves of devices."""
        return self._rollouts.start(spec, actor).view()

    def pause_rollout(self, rollout_id: int, actor: str) -> RolloutView:
        """Hold a running rollout where it is."""
        return self._rollouts.command(rollout_id, "pause", actor).view()

    def resume_rollout(self, rollout_id: int, actor: str) -> RolloutView:
        """Let a paused rollout go on."""
        view = self._rollouts.command(rollout_id, "resume", actor).view()
        self._wake()
        return view

    def abort_rollout(self, rollout_id: int, actor: str) -> RolloutView:
        """Stop a rollout and give every moved device back what it had."""
        view = self._rollouts.command(rollout_id, "abort", actor).view()
        self._wake()
        return view

    def acknowledge_alert(self, alert_id: int, actor: str) -> AlertView:
        """Mark an alert as seen."""
        return alerts.acknowledge(self._database, alert_id, actor, self._now_ms())

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
