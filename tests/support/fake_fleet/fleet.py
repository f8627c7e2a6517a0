"""The fleet in memory, whole: what may be asked of it and done to it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from tests.support.fake_fleet.reads import FakeReads, missing
from tests.support.fake_fleet.story import DIGESTS, NOW
from whimbrel_core.errors import InputError, UsageError
from whimbrel_core.identity import sha256
from whimbrel_server.views.audit import AuditView
from whimbrel_server.views.devices import DeviceView, SlotView
from whimbrel_server.views.enrolment import Enrolment, MqttView
from whimbrel_server.views.repository import AcceptedView, RepositoryView, UploadView
from whimbrel_server.views.rollouts import RolloutSpec, RolloutState, RolloutView, Wave, WaveView

if TYPE_CHECKING:
    from collections.abc import Mapping

    from whimbrel_server.views.alerts import AlertView


class FakeFleet(FakeReads):
    """Implements `whimbrel_server.port.FleetPort`."""

    def __init__(self, *, empty: bool = False) -> None:
        super().__init__(empty=empty)
        self.metadata: dict[str, bytes] = {} if empty else {"1.root.json": b"{}"}
        self.uploads: dict[str, bytes] = {}
        self._note("system", "server.started", "server", {"version": "0.1.0"})

    def acknowledge_alert(self, alert_id: int, actor: str) -> AlertView:
        """Mark an alert as seen."""
        for i, alert in enumerate(self._alerts):
            if alert.id == alert_id:
                if alert.state == "closed":
                    raise UsageError(f"alert {alert_id} is closed already", code="conflict")
                self._alerts[i] = msgspec.structs.replace(
                    alert, state="acknowledged", acknowledged_by=actor
                )
                self._note(actor, "alert.acknowledged", str(alert_id), {})
                return self._alerts[i]
        raise missing(f"alert {alert_id}")

    def start_rollout(self, spec: RolloutSpec, actor: str) -> RolloutView:
        """Start a rollout."""
        self._version(spec.model, spec.version)
        waves = spec.waves or (Wave(),)
        left = list(self._devices)
        made = []
        for i, wave in enumerate(waves):
            for device in wave.devices:
                self.device(device)
            taken = [d for d in left if d in wave.devices] if wave.devices else list(left)
            left = [d for d in left if d not in taken]
            made.append(
                WaveView(index=i, devices=tuple(taken), state="pending" if i else "assigning")
            )
        rollout = RolloutView(
            id=len(self._rollouts) + 1,
            slot=spec.slot,
            model=spec.model,
            version=spec.version,
            digest=DIGESTS[spec.version],
            state="running",
            waves=tuple(made),
            created_ms=NOW,
            updated_ms=NOW,
            actor=actor,
        )
        self._rollouts.append(rollout)
        self._note(actor, "rollout.start", f"rollout {rollout.id}", {"version": spec.version})
        return rollout

    def pause_rollout(self, rollout_id: int, actor: str) -> RolloutView:
        """Hold a running rollout."""
        return self._move(rollout_id, actor, {"running"}, "paused")

    def resume_rollout(self, rollout_id: int, actor: str) -> RolloutView:
        """Let it go on."""
        return self._move(rollout_id, actor, {"paused"}, "running")

    def abort_rollout(self, rollout_id: int, actor: str) -> RolloutView:
        """Stop it."""
        return self._move(rollout_id, actor, {"running", "paused"}, "aborted")

    def _move(
        self, rollout_id: int, actor: str, allowed: set[str], to: RolloutState
    ) -> RolloutView:
        rollout = self.rollout(rollout_id)
        if rollout.state not in allowed:
            raise UsageError(f"rollout {rollout_id} is {rollout.state} already", code="conflict")
        changed = msgspec.structs.replace(rollout, state=to, updated_ms=NOW + 1)
        self._rollouts[self._rollouts.index(rollout)] = changed
        self._note(actor, f"rollout.{to}", f"rollout {rollout_id}", {})
        return changed

    def assign(self, device: str, slot: str, model: str, version: str, actor: str) -> DeviceView:
        """Assign directly."""
        found = self.device(device)
        self._version(model, version)
        slots = tuple(s for s in found.slots if s.slot != slot)
        old = next((s for s in found.slots if s.slot == slot), SlotView(slot=slot, phase="empty"))
        new = msgspec.structs.replace(old, wanted_version=version, wanted_digest=DIGESTS[version])
        self._devices[device] = msgspec.structs.replace(
            found, slots=(*slots, new), revision_desired=found.revision_desired + 1
        )
        self._note(actor, "device.assigned", device, {"slot": slot, "version": version})
        return self._devices[device]

    def label_device(self, device: str, labels: Mapping[str, str], actor: str) -> DeviceView:
        """Set labels."""
        found = self.device(device)
        merged = {k: w for k, w in {**found.labels, **labels}.items() if w}
        self._devices[device] = msgspec.structs.replace(found, labels=merged)
        self._note(actor, "device.labelled", device, dict(labels))
        return self._devices[device]

    def enrol(self, device: str, csr_pem: str, labels: Mapping[str, str], actor: str) -> Enrolment:
        """Admit a device."""
        if "BEGIN CERTIFICATE REQUEST" not in csr_pem:
            raise InputError("the certificate request is not PEM", code="enrolment.csr")
        self._devices[device] = DeviceView(device=device, labels=dict(labels), enrolled_ms=NOW)
        self._note(actor, "device.enrolled", device, {})
        return Enrolment(
            device=device,
            cert_pem="-----BEGIN CERTIFICATE-----\nMA==\n-----END CERTIFICATE-----\n",
            ca_pem="-----BEGIN CERTIFICATE-----\nMB==\n-----END CERTIFICATE-----\n",
            root_json='{"signed": {"_type": "root"}, "signatures": []}',
            mqtt=MqttView(host="127.0.0.1", port=8883, tls=True),
            repository_url="http://127.0.0.1:8000/repository",
            labels=dict(labels),
        )

    def repository_contents(self) -> RepositoryView:
        """Return the names of metadata files."""
        self._perhaps_fail()
        return RepositoryView(metadata=tuple(sorted(self.metadata)))

    def upload(self, digest: str) -> UploadView:
        """Return how much of a file is here."""
        self._perhaps_fail()
        held = self.uploads.get(digest, b"")
        return UploadView(digest=digest, received=len(held), complete=sha256(held) == digest)

    def append_upload(self, digest: str, offset: int, length: int, piece: bytes) -> UploadView:
        """Add a piece."""
        self._perhaps_fail()
        held = self.uploads.get(digest, b"")
        if len(held) != offset:
            raise UsageError(f"{len(held)} bytes are here", code="conflict")
        self.uploads[digest] = held + piece
        return self.upload(digest)

    def accept_metadata(self, name: str, data: bytes, actor: str) -> AcceptedView:
        """Take in metadata, whatever it is."""
        self._perhaps_fail()
        fresh = self.metadata.get(name) != data
        self.metadata[name] = data
        self._note(actor, "repository.publish", name, {})
        return AcceptedView(name=name, fresh=fresh)

    def _note(self, actor: str, action: str, subject: str, detail: dict[str, str]) -> None:
        self.log.append(
            AuditView(
                at_ms=NOW + len(self.log),
                actor=actor,
                action=action,
                subject=subject,
                detail=dict(detail),
            )
        )
