"""Who belongs to the fleet: enrolling a device, and what telemetry of whom is taken."""

from __future__ import annotations

import logging
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import msgspec

from whimbrel_core.wire import codec, topics
from whimbrel_core.wire.messages import Hint
from whimbrel_server import enrolment
from whimbrel_server.operations import labels as device_labels
from whimbrel_server.store import audit, schema
from whimbrel_server.store.database import upsert
from whimbrel_server.store.registry import Record
from whimbrel_server.views.enrolment import Enrolment, MqttView

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import sqlalchemy as sa

    from whimbrel_server.config import Settings
    from whimbrel_server.repository import Repository
    from whimbrel_server.store.database import Database
    from whimbrel_server.store.registry import Registry

log = logging.getLogger(__name__)

_STRANGER_LOG_S = 60.0
_RELOAD_AFTER_S = 1.0


class Admission:
    """Enrols devices, and tells ingest what is known (`whimbrel_server.ingest.batch.Known`).

    Args:
        settings: the configuration: authority, policy, and the addresses that devices are told.
        database, registry, repository: what it stands on.
        publish: sends a payload to a topic.
        now_ms: the wall clock.
    """

    def __init__(
        self,
        settings: Settings,
        database: Database,
        registry: Registry,
        repository: Repository,
        *,
        publish: Callable[[str, bytes], None],
        now_ms: Callable[[], int],
    ) -> None:
        self._settings, self._config = settings, settings.config
        self._database, self._registry, self._repository = database, registry, repository
        self._publish, self._now_ms = publish, now_ms
        self._bound = (settings.config.http.host, settings.config.http.port)
        self._looked = 0.0
        self._strangers_logged = 0.0

    def bound(self, host: str, port: int) -> None:
        """Say where the web listens, for addresses in enrolments."""
        self._bound = (host, port)

    def enrol(self, device: str, csr_pem: str, labels: Mapping[str, str], actor: str) -> Enrolment:
        """Sign a device's certificate request and admit the device.

        Raises:
            InputError: the id, a label or the request is malformed.
            TrustError: the authority cannot be read.
        """
        name = enrolment.device_name(device)
        device_labels.check(labels)
        config = self._config.enrolment
        authority = enrolment.Authority.load(
            self._settings.path(config.ca_cert), self._settings.path(config.ca_key)
        )
        root_json = self._repository.root_json().decode("utf-8")
        now_ms = self._now_ms()
        now = datetime.fromtimestamp(now_ms / 1000, UTC)
        certificate = authority.enrol(name, csr_pem, now, config.device_days)

        def change(connection: sa.Connection) -> Record:
            known = self._registry.get(name) or Record(device=name)
            record = msgspec.structs.replace(
                device_labels.merged(known, labels), enrolled_ms=now_ms
            )
            upsert(connection, schema.devices, [record.row()])
            audit.note(connection, now_ms, actor, "device.enrol", name, {"labels": dict(labels)})
            return record

        record = self._database.write(change, lambda one: self._registry.settle({name: one}))
        # It may have been talking already, to a server that did not know it then.
        self._publish(topics.down(name, "hint"), codec.encode(Hint("rebirth")))
        mqtt = self._config.mqtt
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
            repository_url=self._address().rstrip("/") + "/repository",
            labels=record.labels,
        )

    def is_enrolled(self, device: str) -> bool:
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

    def profile_of(self, digest: str) -> str | None:
        """Return the profile id of a published bundle, or None when none has this digest."""
        published = self._repository.get(digest)
        if published is None and time.monotonic() - self._looked > _RELOAD_AFTER_S:
            # Perhaps it was published a moment ago; but nobody may make us read all the time.
            self._looked = time.monotonic()
            self._repository.problem()
            published = self._repository.get(digest)
        return None if published is None else published.profile_id

    def strangers(self, messages: Mapping[str, int]) -> None:
        """Say, not too often, whose messages are not taken."""
        now = time.monotonic()
        if now - self._strangers_logged > _STRANGER_LOG_S:
            self._strangers_logged = now
            names = ", ".join(sorted(messages)[:5])
            log.warning("messages of devices that are not enrolled are not taken: %s", names)

    def _address(self) -> str:
        host, port = self._bound
        return self._config.http.public_url or f"http://{host}:{port}"
