"""Everything that may be done to the fleet, each by who does that one thing.

The half of `whimbrel_server.port.FleetPort` that changes something.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from whimbrel_server.operations import alerts, assignment
from whimbrel_server.operations import labels as device_labels
from whimbrel_server.operations.admission import Admission
from whimbrel_server.operations.publishing import Publishing
from whimbrel_server.operations.rollout_moves import Moves
from whimbrel_server.operations.rollouts import Rollouts
from whimbrel_server.queries.fleet import FleetReads

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from whimbrel_server.config import Settings
    from whimbrel_server.repository import Repository
    from whimbrel_server.store.assignments import Assignments, Desired
    from whimbrel_server.store.database import Database
    from whimbrel_server.store.registry import Registry
    from whimbrel_server.views.alerts import AlertView
    from whimbrel_server.views.devices import DeviceView
    from whimbrel_server.views.enrolment import Enrolment
    from whimbrel_server.views.repository import AcceptedView, RepositoryView, UploadView
    from whimbrel_server.views.rollouts import RolloutSpec, RolloutView


class FleetOperations(FleetReads):
    """What may be done, beside what may be asked.

    Args:
        settings: the configuration.
        database: the store.
        registry: enrolled devices.
        assignments: what each device is to serve.
        repository: published models.
        publish: sends a message to a topic.
        publish_desired: sends devices what they are to serve.
        sign: signs the repository's metadata anew, and at once.
        wake: has the jobs run now, for what cannot wait for their next round.
        now_ms: the wall clock in milliseconds.
    """

    def __init__(
        self,
        settings: Settings,
        database: Database,
        registry: Registry,
        assignments: Assignments,
        repository: Repository,
        *,
        publish: Callable[[str, bytes], None],
        publish_desired: Callable[[Iterable[Desired]], None],
        sign: Callable[[], None],
        wake: Callable[[], None],
        now_ms: Callable[[], int],
    ) -> None:
        super().__init__(database, registry, assignments, repository)
        self._send, self._hurry, self._now_ms = publish_desired, wake, now_ms
        self._admission = Admission(
            settings, database, registry, repository, publish=publish, now_ms=now_ms
        )
        self._moves = Moves(
            database, repository, assignments, publish=publish_desired, now_ms=now_ms
        )
        self._rollouts = Rollouts(
            database, registry, repository, assignments, self._moves, now_ms=now_ms
        )
        self._publishing = Publishing(
            database,
            repository,
            limit_bytes=settings.config.repository.upload_mb * 1_000_000,
            sign=sign,
            now_ms=now_ms,
        )

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
        self._send([document])
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
        self._hurry()
        return view

    def abort_rollout(self, rollout_id: int, actor: str) -> RolloutView:
        """Stop a rollout and give every moved device back what it had."""
        view = self._rollouts.command(rollout_id, "abort", actor).view()
        self._hurry()
        return view

    def acknowledge_alert(self, alert_id: int, actor: str) -> AlertView:
        """Mark an alert as seen."""
        return alerts.acknowledge(self._database, alert_id, actor, self._now_ms())
