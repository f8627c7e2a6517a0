"""What may be asked of the fleet in memory."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from tests.support.fake_fleet import (
    alerts,
    devices,
    drift,
    groups,
    models,
    rollouts,
    stored,
    verdicts,
)
from tests.support.fake_fleet.story import (
    AUTUMN,
    DAY,
    DEVICES,
    FEATURES,
    MODEL,
    OFFSET,
    OUTPUTS,
    PERIODS,
)
from whimbrel_core.errors import UsageError
from whimbrel_core.profile.drift.levels import Thresholds
from whimbrel_server.views.groups import GroupsView
from whimbrel_server.views.health import HealthView
from whimbrel_server.views.models import ModelView, WordsView
from whimbrel_server.views.stored import PeriodCounts, Step, StoredCountsView

if TYPE_CHECKING:
    from whimbrel_server.views.alerts import AlertView
    from whimbrel_server.views.audit import AuditView
    from whimbrel_server.views.devices import CountsView, DeviceView, EventView
    from whimbrel_server.views.drift import DriftView, Level
    from whimbrel_server.views.history import HistogramView, SeriesPoint
    from whimbrel_server.views.rollouts import RolloutView
    from whimbrel_server.views.slices import SliceView
    from whimbrel_server.views.verdicts import ExplanationView, ReplayView


def missing(what: str) -> UsageError:
    """Return the error for a thing that does not exist."""
    return UsageError(f"there is no {what}", hint="see the list of what there is", code="not_found")


class FakeReads:
    """The half of `whimbrel_server.port.FleetPort` that changes nothing."""

    def __init__(self, *, empty: bool = False) -> None:
        self.empty = empty
        self.fail: Exception | None = None
        self.log: list[AuditView] = []
        self._devices = {} if empty else {d.device: d for d in devices.devices()}
        self._rollouts = [] if empty else rollouts.rollouts()
        self._alerts = [] if empty else alerts.alerts()

    def devices(self) -> tuple[DeviceView, ...]:
        """Return all devices by id."""
        self._perhaps_fail()
        return tuple(self._devices[k] for k in sorted(self._devices))

    def device(self, device: str) -> DeviceView:
        """Return one device."""
        self._perhaps_fail()
        if device not in self._devices:
            raise missing(f"device {device!r}")
        return self._devices[device]

    def models(self) -> tuple[ModelView, ...]:
        """Return the one model, or none."""
        self._perhaps_fail()
        return () if self.empty else (models.model(),)

    def model(self, name: str) -> ModelView:
        """Return one model."""
        self._perhaps_fail()
        if self.empty or name != MODEL:
            raise missing(f"model {name!r}")
        return models.model()

    def _version(self, name: str, version: str | None) -> str:
        self.model(name)
        if version is not None and version not in PERIODS:
            raise missing(f"version {version!r} of {name}")
        return version or "1.1.0"

    def drift(
        self,
        name: str,
        version: str | None = None,
        level: Level | None = None,
        subject: str | None = None,
    ) -> tuple[DriftView, ...]:
        """Return the newest judgement of each subject, worst first."""
        self.model(name)
        found = []
        for ver in [version] if version else ["1.1.0", "1.0.0"]:
            self._version(name, ver)
            subjects: list[tuple[Level, str]] = [
                *(("device", d) for d in DEVICES),
                ("cohort", "ring=stable"),
                ("fleet", "fleet"),
            ]
            for lev, sub in subjects:
                if (level and lev != level) or (subject and sub != subject):
                    continue
                found.append(drift.drift(lev, sub, ver))
        return tuple(sorted(found, key=lambda d: -drift.RANK[d.worst]))

    def groups(self, name: str, version: str | None = None) -> GroupsView:
        number = self._version(name, version)
        return groups.groups() if number == "1.1.0" and self._devices else GroupsView()

    def words(self, name: str, version: str | None = None) -> WordsView:
        """Return that no device has met a new word."""
        return WordsView(version=self._version(name, version), needed=5)

    def stored_counts(
        self,
        name: str,
        version: str | None = None,
        subject: str = "fleet",
        step: Step = "day",
        since_ms: int | None = None,
        until_ms: int | None = None,
    ) -> StoredCountsView:
        """Return thirty days of counts of one feature, far from the reference."""
        number = self._version(name, version)
        reference, days = stored.days()
        periods = tuple(
            PeriodCounts(start_ms=AUTUMN + i * DAY, windows=1, counts=window)
            for i, window in enumerate(days)
            if (since_ms is None or AUTUMN + (i + 1) * DAY > since_ms)
            and (until_ms is None or AUTUMN + i * DAY < until_ms)
        )
        return StoredCountsView(
            name=name,
            version=number,
            subject=subject,
            step=step,
            profile_id=reference.profile_id,
            baseline=reference.encode(),
            thresholds=Thresholds(),
            periods=periods if self._devices else (),
        )

    def span_drift(
        self, name: str, version: str, subject: str, since_ms: int, until_ms: int
    ) -> DriftView | None:
        """Return a span judged as one."""
        level: Level = "fleet" if subject == "fleet" else "cohort" if "=" in subject else "device"
        view = drift.drift(level, subject, self._version(name, version))
        return msgspec.structs.replace(
            view, window_start_ms=since_ms, window_end_ms=until_ms, rows=28 * view.rows
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
        """Return drift over time by feature."""
        version = self._version(name, version)
        if device is not None:
            self.device(device)
        names = [f for f, _ in FEATURES] + list(OUTPUTS)
        if feature is not None and feature not in names:
            raise missing(f"feature {feature!r} of {name} {version}")
        series = {}
        for one in names if feature is None else [feature]:
            points = drift.series(one, device or "", version)
            series[one] = tuple(
                p
                for p in points
                if (since_ms is None or p.end_ms > since_ms)
                and (until_ms is None or p.start_ms < until_ms)
            )
        return series

    def histogram(
        self,
        name: str,
        version: str,
        subject: str,
        feature: str,
        since_ms: int | None = None,
        until_ms: int | None = None,
    ) -> HistogramView:
        """Return reference against current."""
        self._version(name, version)
        if feature not in dict(FEATURES) and feature not in OUTPUTS:
            raise missing(f"feature {feature!r} of {name} {version}")
        return drift.histogram(feature, OFFSET.get(subject, 0.9))

    def quality_series(
        self, name: str, version: str | None = None, device: str | None = None, step: str = "month"
    ) -> dict[str, tuple[SeriesPoint, ...]]:
        """Return quality over time by version."""
        self.model(name)
        if version is not None:
            self._version(name, version)
        return {ver: models.quality(ver, step, device) for ver in PERIODS if version in {None, ver}}

    def alerts(self, state: str | None = None, limit: int = 100) -> tuple[AlertView, ...]:
        """Return alerts, newest first."""
        return tuple(a for a in self._alerts if state in {None, a.state})[:limit]

    def slices(
        self,
        name: str,
        version: str | None = None,
        subject: str = "fleet",
        since_ms: int | None = None,
        until_ms: int | None = None,
    ) -> tuple[SliceView, ...]:
        """Return the declared slices."""
        self._version(name, version)
        return verdicts.SLICES

    def explain(self, alert_id: int) -> ExplanationView:
        """Return an alert in words."""
        return verdicts.explanation(self._alert(alert_id))

    def replay(self, alert_id: int) -> ReplayView:
        """Recompute the verdict of an alert."""
        return verdicts.replay(self._alert(alert_id))

    def replays(self, limit: int = 1000) -> tuple[ReplayView, ...]:
        """Recompute the verdicts of the newest alerts."""
        return tuple(
            verdicts.replay(alert) for alert in self.alerts(limit=limit) if "rule" in alert.evidence
        )

    def _alert(self, alert_id: int) -> AlertView:
        found = next((one for one in self._alerts if one.id == alert_id), None)
        if found is None:
            raise missing(f"alert {alert_id}")
        return found

    def rollouts(self) -> tuple[RolloutView, ...]:
        """Return rollouts, newest first."""
        return tuple(reversed(self._rollouts))

    def rollout(self, rollout_id: int) -> RolloutView:
        """Return one rollout."""
        for one in self._rollouts:
            if one.id == rollout_id:
                return one
        raise missing(f"rollout {rollout_id}")

    def events(
        self, device: str | None = None, limit: int = 200, kind: str = ""
    ) -> tuple[EventView, ...]:
        """Return events, newest first."""
        if self.empty:
            return ()
        found = [
            e
            for e in devices.events()
            if device in {None, e.device}
            and (e.kind.startswith(kind) if kind.endswith(".") else kind in {"", e.kind})
        ]
        return tuple(sorted(found, key=lambda e: -e.at_ms))[:limit]

    def counts(self) -> tuple[CountsView, ...]:
        """Return bookkeeping by device."""
        if self.empty:
            return ()
        return devices.COUNTS

    def audit(self, limit: int = 200) -> tuple[AuditView, ...]:
        """Return the audit, newest first."""
        return tuple(reversed(self.log))[:limit]

    def health(self) -> HealthView:
        """Return health."""
        return HealthView(
            ok=not self.empty,
            version="0.1.0",
            broker_connected=not self.empty,
            repository_ok=True,
            store_ok=True,
            uptime_s=86_000.0,
            windows_received=889,
            windows_per_s=1.2,
            problems=("the broker at 127.0.0.1:1883 does not answer",) if self.empty else (),
        )

    def _perhaps_fail(self) -> None:
        if self.fail is not None:
            raise self.fail
