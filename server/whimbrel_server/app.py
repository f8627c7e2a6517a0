"""The fleet server without its web: `Fleet` wires store, ingest, jobs and repository together.

Threads: paho's (receives), ingest (sorts, acknowledges), writer (commits), fold (aggregates and
judges), jobs (rollouts, repository, alerts), and a few that announce. Every public method may be
called from any thread; see `whimbrel_server.port.FleetPort` for what they promise.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Literal

import msgspec
import sqlalchemy as sa

import whimbrel_server
from whimbrel_core import identity
from whimbrel_core.errors import InputError, UsageError, WhimbrelError
from whimbrel_core.identity import DeviceId
from whimbrel_core.wire import codec, topics
from whimbrel_core.wire.assignment import SlotAssignment
from whimbrel_core.wire.messages import Hint
from whimbrel_server import enrolment
from whimbrel_server.broker import EmbeddedBroker
from whimbrel_server.domain import aggregation
from whimbrel_server.ingest.journal import Journal
from whimbrel_server.ingest.link import Link, LinkSettings
from whimbrel_server.ingest.receiver import Receiver
from whimbrel_server.jobs import watch
from whimbrel_server.jobs.announcer import Announcer
from whimbrel_server.jobs.fold import Fold
from whimbrel_server.jobs.rollouts import Rollouts
from whimbrel_server.queries import devices as device_queries
from whimbrel_server.queries import history
from whimbrel_server.queries import models as model_queries
from whimbrel_server.repository import Repository, keys
from whimbrel_server.repository.online import OnlineRoles
from whimbrel_server.store import alerts, audit, schema
from whimbrel_server.store import rollouts as rollout_store
from whimbrel_server.store.assignments import Assignments, Desired
from whimbrel_server.store.database import Database, upsert
from whimbrel_server.store.registry import Record, Registry
from whimbrel_server.views import (
    AlertState,
    AlertView,
    AuditView,
    CountsView,
    DeviceView,
    DriftView,
    Enrolment,
    EventView,
    HealthView,
    HistogramView,
    Level,
    ModelView,
    MqttView,
    RolloutSpec,
    RolloutView,
    SeriesPoint,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from pathlib import Path

    from whimbrel_server.config import Settings
    from whimbrel_server.ingest.journal import Committed

log = logging.getLogger(__name__)

DATABASE = "fleet.db"
# What devices are told of our speed when nothing was measured yet.
_DRAIN_PER_S = 2000.0
_TICK_S = 0.5
_ROUND_S = 0.1
_SLOW_EVERY_S = 60.0
_QUALITY_EVERY_S = 5.0
_MAX_LABELS = 32
_MAX_LABEL_CHARS = 64
_STRANGER_LOG_S = 60.0
_RELOAD_AFTER_S = 1.0


class Fleet:
    """The application object.

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
        self.repository = Repository(settings.path(config.repository.directory))
        self._repository_problem = watch.problem_of(self.repository)
        online_keys = settings.optional(config.repository.online_keys)
        self._online = self._load_online(online_keys)
        self._database = Database(data / DATABASE)
        self._registry = Registry(self._database)
        self._journal = Journal(self._registry)
        self._assignments = Assignments(self._registry, keys.fleet_key(online_keys))
        self._known = _Known(self)
        self._receiver = Receiver(
            self._database,
            self._journal,
            self._known,
            publish=self._publish,
            committed=self._on_commit,
            strangers=self._on_strangers,
            now_ms=now_ms,
        )
        self._fold = Fold(
            self._database,
            self.repository,
            streams=lambda: max(len(self._registry.all()), 1),
            confirm=config.monitoring.confirm_windows,
            calm=config.monitoring.calm_windows,
            every_s=config.monitoring.checkpoint_s,
            give_way=lambda: self._receiver.busy,
            wrote=self._wake,
            now_ms=now_ms,
        )
        self._rollouts = Rollouts(
            self._database,
            self._registry,
            self.repository,
            self._assignments,
            publish=self._publish_desired,
            now_ms=now_ms,
        )
        self._announcer = Announcer(self._database, self.repository, config, env=env, now_ms=now_ms)
        self._broker: EmbeddedBroker | None = None
        self._bound = (config.http.host, config.http.port)
        self._link = self._make_link()
        self._births: deque[str] = deque()
        self._recent: deque[tuple[float, int]] = deque(maxlen=256)
        self._received = 0
        self._strangers_logged = 0.0
        self._started = time.monotonic()
        self._stopping = threading.Event()
        self._woken = threading.Event()
        self._jobs = threading.Thread(target=self._run_jobs, name="jobs", daemon=True)
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
        self._jobs.start()
        self._link.start()

    def stop(self) -> None:
        """Stop in order: receive no more, commit and fold what was received, close the store."""
        if self._running:
            self._stopping.set()
            self._woken.set()
            self._link.stop()
            self._jobs.join()
            self._receiver.stop()
            self._fold.stop()
        self._announcer.stop()
        self._database.close()
        if self._broker is not None:
            self._broker.stop()

    # ------------------------------------------------------------------------------- devices

    def devices(self) -> tuple[DeviceView, ...]:
        """Return all devices by id."""
        with self._database.read() as connection:
            return device_queries.views(
                connection, self._registry.all(), self._assignments, self.repository
            )

    def device(self, device: str) -> DeviceView:
        """Return one device."""
        record = self._require(device)
        with self._database.read() as connection:
            return device_queries.views(connection, (record,), self._assignments, self.repository)[
                0
            ]

    def events(
        self, device: str | None = None, limit: int = 200, kind: str = ""
    ) -> tuple[EventView, ...]:
        """Return what devices told, newest first; of one kind, or of a family (``update.``)."""
        if device is not None:
            self._require(device)
        with self._database.read() as connection:
            return device_queries.events_of(connection, device, limit, kind)

    def counts(self) -> tuple[CountsView, ...]:
        """Return telemetry bookkeeping by device."""
        with self._database.read() as connection:
            return device_queries.counts_of(connection)

    def label_device(self, device: str, labels: Mapping[str, str], actor: str) -> DeviceView:
        """Set labels of a device; an empty value removes the label."""
        _check_labels(labels)
        self._require(device)
        now_ms = self._now_ms()

        def change(connection: sa.Connection) -> Record:
            record = self._require(device)
            merged = {**record.labels, **labels}
            changed = msgspec.structs.replace(
                record, labels={key: value for key, value in merged.items() if value}
            )
            if len(changed.labels) > _MAX_LABELS:
                raise InputError(
                    f"{device} would have {len(changed.labels)} labels, {_MAX_LABELS} are allowed"
                )
            upsert(connection, schema.devices, [changed.row()])
            audit.note(connection, now_ms, actor, "device.label", device, dict(labels))
            return changed

        self._database.write(change, lambda record: self._registry.settle({device: record}))
        return self.device(device)

    def enrol(self, device: str, csr_pem: str, labels: Mapping[str, str], actor: str) -> Enrolment:
        """Sign a device's certificate request and admit the device."""
        name = enrolment.device_name(device)
        _check_labels(labels)
        config = self._config.enrolment
        authority = enrolment.Authority.load(
            self.settings.path(config.ca_cert), self.settings.path(config.ca_key)
        )
        root_json = self.repository.root_json().decode("utf-8")
        now_ms = self._now_ms()
        now = datetime.fromtimestamp(now_ms / 1000, UTC)
        certificate = authority.enrol(name, csr_pem, now, config.device_days)

        def change(connection: sa.Connection) -> Record:
            known = self._registry.get(name) or Record(device=name)
            record = msgspec.structs.replace(
                known,
                enrolled_ms=now_ms,
                labels={key: value for key, value in {**known.labels, **labels}.items() if value},
            )
            upsert(connection, schema.devices, [record.row()])
            audit.note(connection, now_ms, actor, "device.enrol", name, {"labels": dict(labels)})
            return record

        record = self._database.write(change, lambda one: self._registry.settle({name: one}))
        # It may have been talking already, to a server that did not know it then.
        hint = codec.encode(Hint("rebirth"))
        self._link.publish(topics.down(name, "hint"), hint)
        mqtt, http = self._config.mqtt, self._config.http
        return Enrolment(
            device=name,
            cert_pem=certificate,
            ca_pem=authority.certificate_pem,
            root_json=root_json,
            mqtt=MqttView(
                host=mqtt.public_host or mqtt.host,
                port=mqtt.public_port or mqtt.port,
                tls=bool(mqtt.ca),
            ),
            repository_url=(http.public_url or self._address()).rstrip("/") + "/repository",
            labels=record.labels,
        )

    def knows(self, device: str) -> bool:
        """Return whether messages of ``device`` are taken; admit it where the policy says so."""
        if self._registry.get(device) is not None:
            return True
        if self._config.enrolment.unknown_devices != "admit" or device in enrolment.RESERVED:
            return False
        record = Record(device=device)
        now_ms = self._now_ms()

        def change(connection: sa.Connection) -> None:
            upsert(connection, schema.devices, [record.row()])
            audit.note(connection, now_ms, audit.SERVER, "device.admit", device)

        self._database.write(change, lambda _: self._registry.settle({device: record}))
        return True

    def bound(self, host: str, port: int) -> None:
        """Say where the web listens, for addresses in enrolments."""
        self._bound = (host, port)

    # -------------------------------------------------------------------------------- models

    def models(self) -> tuple[ModelView, ...]:
        """Return all published models by name."""
        with self._database.read() as connection:
            return model_queries.views(connection, self.repository, self._registry.all())

    def model(self, name: str) -> ModelView:
        """Return one model."""
        model_queries.require(self.repository, name)
        with self._database.read() as connection:
            return model_queries.views(connection, self.repository, self._registry.all(), name)[0]

    def drift(
        self,
        name: str,
        version: str | None = None,
        level: Level | None = None,
        subject: str | None = None,
    ) -> tuple[DriftView, ...]:
        """Return the newest judgement of each subject, worst first."""
        with self._database.read() as connection:
            return model_queries.newest_drift(
                connection, self.repository, name, version, level, subject
            )

    def drift_series(
        self,
        name: str,
        version: str | None = None,
        *,
        device: str | None = None,
        cohort: str | None = None,
        feature: str | None = None,
        since_ms: int | None = None,
        until_ms: int | None = None,
    ) -> dict[str, tuple[SeriesPoint, ...]]:
        """Return drift over time by feature; neither device nor cohort: the whole fleet."""
        subject = aggregation.FLEET
        if device is not None:
            subject = aggregation.device_subject(self._require(device).device)
        elif cohort is not None:
            subject = f"c:{cohort}"
        span = history.Span(since_ms, until_ms)
        with self._database.read() as connection:
            return history.drift_series(
                connection, self.repository, name, version, subject, feature, span
            )

    def histogram(  # noqa: PLR0917 - as the port says
        self,
        name: str,
        version: str,
        subject: str,
        feature: str,
        since_ms: int | None = None,
        until_ms: int | None = None,
    ) -> HistogramView:
        """Return reference against current; subject: device, ``key=value`` or ``fleet``."""
        span = history.Span(since_ms, until_ms)
        with self._database.read() as connection:
            return history.histogram(
                connection, self.repository, name, version, subject, feature, span
            )

    def quality_series(
        self,
        name: str,
        version: str | None = None,
        device: str | None = None,
        step: Literal["month", "day"] = "month",
    ) -> dict[str, tuple[SeriesPoint, ...]]:
        """Return quality over time by version (calendar months or days, UTC, event time)."""
        if device is not None:
            self._require(device)
        with self._database.read() as connection:
            return history.quality_series(connection, self.repository, name, version, device, step)

    # ------------------------------------------------------------------- alerts, audit, health

    def alerts(self, state: AlertState | None = None, limit: int = 100) -> tuple[AlertView, ...]:
        """Return alerts, newest first."""
        with self._database.read() as connection:
            return alerts.listing(connection, state, limit)

    def acknowledge_alert(self, alert_id: int, actor: str) -> AlertView:
        """Mark an alert as seen."""
        now_ms = self._now_ms()

        def change(connection: sa.Connection) -> AlertView:
            view = alerts.acknowledge(connection, alert_id, actor, now_ms)
            audit.note(connection, now_ms, actor, "alert.acknowledge", f"alert {alert_id}")
            return view

        return self._database.write(change)

    def audit(self, limit: int = 200) -> tuple[AuditView, ...]:
        """Return who did what, newest first."""
        with self._database.read() as connection:
            return audit.listing(connection, limit)

    def health(self) -> HealthView:
        """Return whether the parts of the server work."""
        problems = []
        behind, store_ok = 0, True
        try:
            behind = self._fold.behind
        except (WhimbrelError, sa.exc.SQLAlchemyError) as error:
            store_ok = False
            problems.append(f"store: {error}")
        if not self._link.connected:
            mqtt = self._config.mqtt
            problems.append(f"no connection to the broker {mqtt.host}:{mqtt.port}")
        if self._repository_problem:
            problems.append(self._repository_problem)
        return HealthView(
            ok=not problems,
            version=whimbrel_server.__version__,
            broker_connected=self._link.connected,
            repository_ok=not self._repository_problem,
            store_ok=store_ok,
            uptime_s=time.monotonic() - self._started,
            windows_received=self._received,
            windows_per_s=self._rate(),
            judged_behind=behind,
            problems=tuple(problems),
        )

    # ------------------------------------------------------------------ assignments, rollouts

    def assign(self, device: str, slot: str, model: str, version: str, actor: str) -> DeviceView:
        """Assign a version to one device's slot directly."""
        record = self._require(device)
        identity.slot_name(slot)
        published = self.repository.find(model, version)
        self._assignments.require_key()
        wanted = SlotAssignment(
            path=published.path, digest=published.digest, length=published.length
        )
        now_ms = self._now_ms()

        def change(connection: sa.Connection) -> Desired:
            for rollout in rollout_store.going(connection):
                devices = {one for wave in rollout.plan.waves for one in wave.devices}
                if rollout.slot == slot and record.device in devices:
                    raise UsageError(
                        f"rollout {rollout.id} moves slot {slot} of {device}",
                        hint="wait for its end, or abort it",
                        code="conflict",
                    )
            desired = self._assignments.change(connection, record.device, slot, wanted, now_ms)
            detail = {"slot": slot, "model": model, "version": version}
            detail["revision"] = str(desired.revision)
            audit.note(connection, now_ms, actor, "device.assign", record.device, detail)
            return desired

        self._publish_desired([self._database.write(change)])
        return self.device(device)

    def rollouts(self) -> tuple[RolloutView, ...]:
        """Return rollouts, newest first."""
        with self._database.read() as connection:
            return tuple(one.view() for one in rollout_store.listing(connection))

    def rollout(self, rollout_id: int) -> RolloutView:
        """Return one rollout."""
        with self._database.read() as connection:
            return rollout_store.get(connection, rollout_id).view()

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

    # -------------------------------------------------------------------------------- events

    def _on_commit(self, done: Committed) -> None:
        # On the writer thread: note and wake, nothing that takes time.
        self._received += done.windows
        if done.windows:
            self._recent.append((time.monotonic(), done.windows))
            self._fold.wake()
        self._births.extend(done.born)
        for device, notice in done.notices:
            if notice in {"cloned", "reimaged"}:
                log.warning("device %s is %s: its outbox epoch changed", device, notice)
                self._births.append(f"{notice}:{device}")
        self._wake()

    def _on_strangers(self, strangers: dict[str, int]) -> None:
        now = time.monotonic()
        if now - self._strangers_logged > _STRANGER_LOG_S:
            self._strangers_logged = now
            names = ", ".join(sorted(strangers)[:5])
            log.warning("messages of devices that are not enrolled are not taken: %s", names)

    def _on_ready(self) -> None:
        # On paho's thread, at every (re)connect: heal what the broker may have lost.
        with self._database.read() as connection:
            documents = self._assignments.everybody(connection)
        self._publish_desired(documents)
        self._link.announce(drain_per_s=self._drain(), fleet=len(self._registry.all()))
        self._wake()

    def _publish(self, topic: str, payload: bytes) -> None:
        self._link.publish(topic, payload)

    def _publish_desired(self, documents: Iterable[Desired]) -> None:
        for document in documents:
            topic = topics.down(DeviceId(document.device), "desired")
            self._link.publish(topic, document.envelope, retain=True)

    def _wake(self) -> None:
        self._woken.set()

    # ---------------------------------------------------------------------------------- jobs

    def _run_jobs(self) -> None:
        slow_due = quality_due = watch_due = time.monotonic()
        while not self._stopping.is_set():
            self._woken.wait(_TICK_S)
            # A busy fleet wakes us at every commit; looking more often finds nothing more.
            self._stopping.wait(_ROUND_S)
            self._woken.clear()
            if self._stopping.is_set():
                return
            now = time.monotonic()
            self._job("births", self._handle_births)
            if now >= watch_due:
                watch_due = now + self._config.repository.watch_s
                self._job("repository", self._watch_repository)
            self._job("rollouts", self._rollouts.tick)
            if now >= quality_due:
                quality_due = now + _QUALITY_EVERY_S
                self._job("quality", self._watch_quality)
                self._job("alerts of earlier versions", self._watch_served)
            self._job("alerts", self._announcer.tick)
            if now >= slow_due:
                slow_due = now + _SLOW_EVERY_S
                self._job("silence", self._watch_silence)
                self._job("retention", self._prune)

    def _job(self, name: str, job: Callable[[], object]) -> None:
        try:
            job()
        except WhimbrelError as error:
            log.warning("%s: %s", name, error)
        except Exception:
            log.exception("%s failed; it is tried again", name)

    def _handle_births(self) -> None:
        while self._births:
            device = self._births.popleft()
            notice, _, name = device.rpartition(":")
            if notice:
                self._suspect(notice, name)
            else:
                self._answer_birth(device)

    def _answer_birth(self, device: str) -> None:
        """Publish the device's document again; above what the device has seen, if that is more."""
        record = self._require(device)
        with self._database.read() as connection:
            desired = self._assignments.desired(connection, device)
        if desired is None:
            return
        if record.presence.revision > desired.revision:
            now_ms = self._now_ms()
            desired = self._database.write(
                lambda connection: self._assignments.issue(connection, device, now_ms)
            )
            log.info("%s had seen a newer revision; issued %d", device, desired.revision)
        self._publish_desired([desired])

    def _suspect(self, notice: str, device: str) -> None:
        now_ms = self._now_ms()
        what = {
            "cloned": "two devices report as it: an outbox that was left behind is back",
            "reimaged": "its disk was made anew: a new outbox has begun",
        }[notice]
        alert = alerts.NewAlert(
            cause=f"{notice}/{device}/{now_ms}",
            at_ms=now_ms,
            kind="device",
            severity="severe" if notice == "cloned" else "notice",
            message=f"{device}: {what}",
            device=device,
        )
        self._database.write(lambda connection: alerts.raise_alert(connection, alert, now_ms))

    def _watch_repository(self) -> None:
        if self._online is not None:
            now = datetime.fromtimestamp(self._now_ms() / 1000, UTC)
            written = self._online.refresh(now)
            if written:
                log.info("signed %s", ", ".join(written))
        self._repository_problem = watch.problem_of(self.repository)

    def _watch_quality(self) -> None:
        watch.watch_quality(
            self._database, self.repository, self._config.monitoring, self._now_ms()
        )

    def _watch_served(self) -> None:
        watch.watch_served(self._database, self._registry, self._now_ms())

    def _watch_silence(self) -> None:
        watch.watch_silence(self._database, self._registry, self._config.monitoring, self._now_ms())

    def _prune(self) -> None:
        watch.prune(self._database, self._config.retention, self._fold.folded, self._now_ms())

    # -------------------------------------------------------------------------------- wiring

    def _require(self, device: str) -> Record:
        record = self._registry.get(device)
        if record is None:
            raise UsageError(
                f"device {device!r} is not enrolled",
                hint="see 'whimbrel fleet devices'",
                code="not_found",
            )
        return record

    def _rate(self) -> float:
        now = time.monotonic()
        recent = [(at, number) for at, number in tuple(self._recent) if now - at < 10]  # noqa: PLR2004
        if not recent:
            return 0.0
        return sum(number for _, number in recent) / max(now - recent[0][0], 1.0)

    def _drain(self) -> float:
        return max(self._rate(), _DRAIN_PER_S)

    def _address(self) -> str:
        host, port = self._bound
        return f"http://{host}:{port}"

    def _load_online(self, folder: Path | None) -> OnlineRoles | None:
        signers = keys.online_signers(folder)
        if signers is None:
            return None
        lives = self._config.repository
        return OnlineRoles(
            self.repository.directory,
            *signers,
            snapshot_life=timedelta(hours=lives.snapshot_hours),
            timestamp_life=timedelta(hours=lives.timestamp_hours),
        )

    def _make_link(self) -> Link:
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
            incarnation=self._next_incarnation(),
            receive=self._receiver.receive,
            ready=self._on_ready,
            lost=lambda: None,
        )

    def _next_incarnation(self) -> int:
        def change(connection: sa.Connection) -> int:
            table = schema.meta
            known = connection.execute(
                sa.select(table.c.value).where(table.c.key == "server.incarnation")
            ).scalar()
            number = int(known or 0) + 1
            upsert(connection, table, [{"key": "server.incarnation", "value": str(number)}])
            return number

        return self._database.write(change)


class _Known:
    """What ingest asks about the fleet (`whimbrel_server.ingest.batch.Known`)."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet
        self._looked = 0.0

    def is_enrolled(self, device: str) -> bool:
        return self._fleet.knows(device)

    def profile_of(self, digest: str) -> str | None:
        repository = self._fleet.repository
        published = repository.get(digest)
        if published is None and time.monotonic() - self._looked > _RELOAD_AFTER_S:
            # Perhaps it was published a moment ago; but nobody may make us read all the time.
            self._looked = time.monotonic()
            watch.problem_of(repository)
            published = repository.get(digest)
        return None if published is None else published.profile_id


def _check_labels(labels: Mapping[str, str]) -> None:
    for key, value in labels.items():
        if (
            not key
            or len(key) > _MAX_LABEL_CHARS
            or len(value) > _MAX_LABEL_CHARS
            or not (key + value).isprintable()
            or "=" in key
            or "/" in key
        ):
            raise InputError(
                f"{key!r}={value!r} is not a label",
                hint=f"a label is key=value, printable, up to {_MAX_LABEL_CHARS} characters each",
                code="input.label",
            )
    if len(labels) > _MAX_LABELS:
        raise InputError(f"{len(labels)} labels were given, {_MAX_LABELS} are allowed")
