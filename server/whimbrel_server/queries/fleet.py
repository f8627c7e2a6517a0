"""Everything that may be asked of the fleet, each answer from one consistent read.

The half of `whimbrel_server.port.FleetPort` that changes nothing, health aside.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from whimbrel_core.errors import UsageError
from whimbrel_server.domain.subjects import FLEET, device_subject
from whimbrel_server.queries import devices as device_queries
from whimbrel_server.queries import drift, explain, history, segments, spans, stored
from whimbrel_server.queries import groups as group_queries
from whimbrel_server.queries import models as model_queries
from whimbrel_server.queries.replays import replay
from whimbrel_server.store import alerts, audit, words
from whimbrel_server.store import rollouts as rollout_store
from whimbrel_server.views.models import WordsView, WordView

if TYPE_CHECKING:
    from whimbrel_server.repository import Repository
    from whimbrel_server.store.assignments import Assignments
    from whimbrel_server.store.database import Database
    from whimbrel_server.store.registry import Registry
    from whimbrel_server.views.alerts import AlertState, AlertView
    from whimbrel_server.views.audit import AuditView
    from whimbrel_server.views.devices import CountsView, DeviceView, EventView
    from whimbrel_server.views.drift import DriftView, Level
    from whimbrel_server.views.groups import GroupsView
    from whimbrel_server.views.history import HistogramView, SeriesPoint
    from whimbrel_server.views.models import ModelView
    from whimbrel_server.views.rollouts import RolloutView
    from whimbrel_server.views.slices import SliceView
    from whimbrel_server.views.stored import Step, StoredCountsView
    from whimbrel_server.views.verdicts import ExplanationView, ReplayView


class FleetReads:
    """Answers from the store, the registry and the repository."""

    def __init__(
        self,
        database: Database,
        registry: Registry,
        assignments: Assignments,
        repository: Repository,
    ) -> None:
        self._database, self._registry, self._assignments = database, registry, assignments
        self.repository = repository

    def devices(self) -> tuple[DeviceView, ...]:
        """Return all devices by id."""
        with self._database.read() as connection:
            return device_queries.views(
                connection, self._registry.all(), self._assignments, self.repository
            )

    def device(self, device: str) -> DeviceView:
        """Return one device."""
        record = self._registry.require(device)
        with self._database.read() as connection:
            return device_queries.views(connection, (record,), self._assignments, self.repository)[
                0
            ]

    def events(
        self, device: str | None = None, limit: int = 200, kind: str = ""
    ) -> tuple[EventView, ...]:
        """Return what devices told, newest first; of one kind, or of a family (``update.``)."""
        if device is not None:
            self._registry.require(device)
        with self._database.read() as connection:
            return device_queries.events_of(connection, device, limit, kind)

    def counts(self) -> tuple[CountsView, ...]:
        """Return telemetry bookkeeping by device."""
        with self._database.read() as connection:
            return device_queries.counts_of(connection)

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
            return drift.newest_drift(connection, self.repository, name, version, level, subject)

    def groups(self, name: str, version: str | None = None) -> GroupsView:
        """Return what a model's devices show together: roll-ups, and devices unlike the others."""
        with self._database.read() as connection:
            return group_queries.groups(connection, self.repository, name, version)

    def words(self, name: str, version: str | None = None) -> WordsView:
        """Return the words of one version's categories that its vocabulary lacks."""
        published = model_queries.require(self.repository, name, version)
        needed = self.repository.contents(published.digest).manifest.drift.release_words
        with self._database.read() as connection:
            found = words.listing(connection, published.digest)
            sealed = words.sealed_counts(connection, published.digest)
        return WordsView(
            version=published.version,
            needed=needed,
            words=tuple(
                WordView(feature=w.feature, word=w.word, devices=w.devices, first_ms=w.first_ms)
                for w in found
            ),
            sealed=sealed,
        )

    def span_drift(
        self, name: str, version: str, subject: str, since_ms: int, until_ms: int
    ) -> DriftView | None:
        """Return a span of time judged as one; None when nothing is judged yet."""
        with self._database.read() as connection:
            return spans.span_drift(
                connection,
                self.repository,
                name,
                version,
                subject,
                history.Span(since_ms, until_ms),
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
        subject = FLEET
        if device is not None:
            subject = device_subject(self._registry.require(device).device)
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

    def stored_counts(  # noqa: PLR0917 - as the port says
        self,
        name: str,
        version: str | None = None,
        subject: str = "fleet",
        step: Step = "day",
        since_ms: int | None = None,
        until_ms: int | None = None,
    ) -> StoredCountsView:
        """Return counts by period, as they are stored."""
        if subject != FLEET and "=" not in subject:
            self._registry.require(subject)
        span = history.Span(since_ms, until_ms)
        with self._database.read() as connection:
            return stored.counts(connection, self.repository, name, version, subject, step, span)

    def quality_series(
        self,
        name: str,
        version: str | None = None,
        device: str | None = None,
        step: Literal["month", "day"] = "month",
    ) -> dict[str, tuple[SeriesPoint, ...]]:
        """Return quality over time by version (calendar months or days, UTC, event time)."""
        if device is not None:
            self._registry.require(device)
        with self._database.read() as connection:
            return history.quality_series(connection, self.repository, name, version, device, step)

    def alerts(self, state: AlertState | None = None, limit: int = 100) -> tuple[AlertView, ...]:
        """Return alerts, newest first."""
        with self._database.read() as connection:
            return alerts.listing(connection, state, limit)

    def slices(
        self,
        name: str,
        version: str | None = None,
        subject: str = FLEET,
        since_ms: int | None = None,
        until_ms: int | None = None,
    ) -> tuple[SliceView, ...]:
        """Return the declared slices: how each drifts, and how good the model is in it."""
        span = history.Span(since_ms, until_ms)
        with self._database.read() as connection:
            return segments.slices(connection, self.repository, name, version, subject, span)

    def explain(self, alert_id: int) -> ExplanationView:
        """Return an alert in words: what, since when, where, what else changed, at what cost."""
        with self._database.read() as connection:
            alert = alerts.get(connection, alert_id)
            return explain.explain(connection, self.repository, self._registry, alert)

    def replay(self, alert_id: int) -> ReplayView:
        """Recompute the verdict of an alert from what is stored.

        Raises:
            UsageError: there is no such alert, or it is no judgement (``not_found``).
        """
        with self._database.read() as connection:
            alert = alerts.get(connection, alert_id)
            found = replay.replays(connection, self.repository, self._registry, [alert])
        if not found:
            raise UsageError(
                f"alert {alert_id} is no judgement of counts: it has no verdict to recompute",
                code="not_found",
            )
        return found[0]

    def replays(self, limit: int = 1000) -> tuple[ReplayView, ...]:
        """Recompute the verdicts of the newest alerts, those without one left out."""
        with self._database.read() as connection:
            listed = alerts.listing(connection, None, limit)
            return replay.replays(connection, self.repository, self._registry, listed)

    def audit(self, limit: int = 200) -> tuple[AuditView, ...]:
        """Return who did what, newest first."""
        with self._database.read() as connection:
            return audit.listing(connection, limit)

    def rollouts(self) -> tuple[RolloutView, ...]:
        """Return rollouts, newest first."""
        with self._database.read() as connection:
            return tuple(one.view() for one in rollout_store.listing(connection))

    def rollout(self, rollout_id: int) -> RolloutView:
        """Return one rollout."""
        with self._database.read() as connection:
            return rollout_store.get(connection, rollout_id).view()
