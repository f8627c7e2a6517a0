"""What the web and the command line may ask of the fleet: `FleetPort`.

`whimbrel_server.app.Fleet` implements it. Every method is synchronous and safe to call from any
thread; the REST interface and the dashboard call them through ``asyncio.to_thread``. Errors are
`WhimbrelError`s: `UsageError` with code ``not_found`` for a thing that does not exist, with code
``conflict`` for something that cannot be done in the present state, `InputError` for bad values.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping

    from whimbrel_server.views.alerts import AlertState, AlertView
    from whimbrel_server.views.audit import AuditView
    from whimbrel_server.views.devices import CountsView, DeviceView, EventView
    from whimbrel_server.views.drift import DriftView, Level
    from whimbrel_server.views.enrolment import Enrolment
    from whimbrel_server.views.groups import GroupsView
    from whimbrel_server.views.health import HealthView
    from whimbrel_server.views.history import HistogramView, SeriesPoint
    from whimbrel_server.views.models import ModelView, WordsView
    from whimbrel_server.views.repository import AcceptedView, RepositoryView, UploadView
    from whimbrel_server.views.rollouts import RolloutSpec, RolloutView
    from whimbrel_server.views.slices import SliceView
    from whimbrel_server.views.stored import Step, StoredCountsView
    from whimbrel_server.views.verdicts import ExplanationView, ReplayView


class FleetPort(Protocol):
    """What the web and the command line may ask of the fleet."""

    def devices(self) -> tuple[DeviceView, ...]:
        """Return all devices by id."""

    def device(self, device: str) -> DeviceView:
        """Return one device."""

    def models(self) -> tuple[ModelView, ...]:
        """Return all published models by name."""

    def model(self, name: str) -> ModelView:
        """Return one model."""

    def drift(
        self,
        name: str,
        version: str | None = None,
        level: Level | None = None,
        subject: str | None = None,
    ) -> tuple[DriftView, ...]:
        """Return the newest judgement of each subject, worst first."""

    def groups(self, name: str, version: str | None = None) -> GroupsView:
        """Return what a model's devices show together: roll-ups, and devices unlike the others."""

    def words(self, name: str, version: str | None = None) -> WordsView:
        """Return the words of one version's categories that its vocabulary lacks."""

    def span_drift(
        self, name: str, version: str, subject: str, since_ms: int, until_ms: int
    ) -> DriftView | None:
        """Return a span of time judged as one; None when nothing is judged yet."""

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

    def histogram(  # noqa: PLR0917 - a path through the fleet: model, version, subject, feature
        self,
        name: str,
        version: str,
        subject: str,
        feature: str,
        since_ms: int | None = None,
        until_ms: int | None = None,
    ) -> HistogramView:
        """Return reference against current; subject: device, ``key=value`` or ``fleet``."""

    def stored_counts(  # noqa: PLR0917 - a path through the fleet: model, version, subject, period
        self,
        name: str,
        version: str | None = None,
        subject: str = "fleet",
        step: Step = "day",
        since_ms: int | None = None,
        until_ms: int | None = None,
    ) -> StoredCountsView:
        """Return counts by period, as they are stored."""

    def quality_series(
        self,
        name: str,
        version: str | None = None,
        device: str | None = None,
        step: Literal["month", "day"] = "month",
    ) -> dict[str, tuple[SeriesPoint, ...]]:
        """Return quality over time by version (calendar months or days, UTC, event time)."""

    def alerts(self, state: AlertState | None = None, limit: int = 100) -> tuple[AlertView, ...]:
        """Return alerts, newest first."""

    def slices(
        self,
        name: str,
        version: str | None = None,
        subject: str = "fleet",
        since_ms: int | None = None,
        until_ms: int | None = None,
    ) -> tuple[SliceView, ...]:
        """Return the declared slices: how each drifts, and how good the model is in it."""

    def explain(self, alert_id: int) -> ExplanationView:
        """Return an alert in words: what, since when, where, what else changed, at what cost."""

    def replay(self, alert_id: int) -> ReplayView:
        """Recompute the verdict of an alert from what is stored."""

    def replays(self, limit: int = 1000) -> tuple[ReplayView, ...]:
        """Recompute the verdicts of the newest alerts, those without one left out."""

    def acknowledge_alert(self, alert_id: int, actor: str) -> AlertView:
        """Mark an alert as seen."""

    def rollouts(self) -> tuple[RolloutView, ...]:
        """Return rollouts, newest first."""

    def rollout(self, rollout_id: int) -> RolloutView:
        """Return one rollout."""

    def start_rollout(self, spec: RolloutSpec, actor: str) -> RolloutView:
        """Start moving a version through waves of devices."""

    def pause_rollout(self, rollout_id: int, actor: str) -> RolloutView:
        """Hold a running rollout where it is."""

    def resume_rollout(self, rollout_id: int, actor: str) -> RolloutView:
        """Let a paused rollout go on."""

    def abort_rollout(self, rollout_id: int, actor: str) -> RolloutView:
        """Stop a rollout and give every moved device back what it had."""

    def assign(self, device: str, slot: str, model: str, version: str, actor: str) -> DeviceView:
        """Assign a version to one device's slot directly."""

    def label_device(self, device: str, labels: Mapping[str, str], actor: str) -> DeviceView:
        """Set labels of a device; an empty value removes the label."""

    def enrol(self, device: str, csr_pem: str, labels: Mapping[str, str], actor: str) -> Enrolment:
        """Sign a device's certificate request and admit the device."""

    def repository_contents(self) -> RepositoryView:
        """Return the names of the repository's metadata files."""

    def upload(self, digest: str) -> UploadView:
        """Return how much of a publisher's file is here."""

    def append_upload(self, digest: str, offset: int, length: int, piece: bytes) -> UploadView:
        """Add a piece to a publisher's file."""

    def accept_metadata(self, name: str, data: bytes, actor: str) -> AcceptedView:
        """Verify a publisher's metadata and put it in place, with the files that it names."""

    def events(
        self, device: str | None = None, limit: int = 200, kind: str = ""
    ) -> tuple[EventView, ...]:
        """Return what devices told, newest first; of one kind, or of a family (``update.``)."""

    def counts(self) -> tuple[CountsView, ...]:
        """Return telemetry bookkeeping by device."""

    def audit(self, limit: int = 200) -> tuple[AuditView, ...]:
        """Return who did what, newest first."""

    def health(self) -> HealthView:
        """Return whether the parts of the server work."""
