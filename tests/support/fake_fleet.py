"""A fleet in memory: `FleetPort` without database or broker, seeded and deterministic.

Four devices, three versions of one model, ten months of daily windows with a seasonal drift, a
finished rollout and one whose gate stopped it. ``FakeFleet(empty=True)`` is a new server.
"""

from __future__ import annotations

import functools
import itertools
import math
import random
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from tests.support import fake_verdicts
from whimbrel_core.errors import InputError, UsageError
from whimbrel_core.identity import sha256
from whimbrel_core.profile.building.columns import ColumnSpec
from whimbrel_core.profile.building.reference import build as build_baseline
from whimbrel_core.profile.counting.accumulator import Accumulator
from whimbrel_core.profile.drift.levels import Thresholds
from whimbrel_core.profile.window import encode as encode_window
from whimbrel_server.views.alerts import AlertView
from whimbrel_server.views.audit import AuditView
from whimbrel_server.views.devices import CountsView, DeviceView, EventView, SlotView
from whimbrel_server.views.drift import DriftState, DriftView, FeatureView, FindingView, Level
from whimbrel_server.views.enrolment import Enrolment, MqttView
from whimbrel_server.views.groups import (
    DriftingView,
    GatheredView,
    GroupsView,
    OutlierView,
    RollupView,
)
from whimbrel_server.views.health import HealthView
from whimbrel_server.views.history import HistogramView, SeriesPoint
from whimbrel_server.views.models import ModelView, VersionView, WordsView
from whimbrel_server.views.repository import AcceptedView, RepositoryView, UploadView
from whimbrel_server.views.rollouts import (
    GateState,
    GateView,
    RolloutSpec,
    RolloutState,
    RolloutView,
    Wave,
    WaveView,
)
from whimbrel_server.views.stored import PeriodCounts, Step, StoredCountsView

if TYPE_CHECKING:
    from collections.abc import Mapping

    from whimbrel_core.profile.baseline import Baseline
    from whimbrel_server.views.slices import SliceView
    from whimbrel_server.views.verdicts import ExplanationView, ReplayView

DAY = 86_400_000
MARCH = 1_362_096_000_000  # 1 March 2013
END = MARCH + 306 * DAY  # 1 January 2014
AUTUMN = MARCH + 190 * DAY
NOW = 1_795_000_000_000
MODEL = "flights"
FEATURES = (
    ("temp", "°F"),
    ("dewp", "°F"),
    ("humid", "%"),
    ("wind_dir", "°"),
    ("wind_speed", "mph"),
    ("wind_gust", "mph"),
    ("precip", "in"),
    ("pressure", "hPa"),
    ("visib", "mi"),
    ("sched_hour", "h"),
    ("distance", "mi"),
    ("carrier", None),
)
OUTPUTS = ("probability", "label")
DIGESTS = {version: sha256(version.encode()) for version in ("1.0.0", "1.1.0", "1.2.0")}
PERIODS = {"1.0.0": (MARCH, END), "1.1.0": (AUTUMN, END), "1.2.0": (END - 20 * DAY, END - 17 * DAY)}
DEVICES = ("ewr", "jfk", "lga")
OFFSET = {"ewr": 1.0, "jfk": 0.8, "lga": 1.35, "": 0.9}


def missing(what: str) -> UsageError:
    """Return the error for a thing that does not exist."""
    return UsageError(f"there is no {what}", hint="see the list of what there is", code="not_found")


class FakeFleet:
    """Implements `whimbrel_server.port.FleetPort`."""

    def __init__(self, *, empty: bool = False) -> None:
        self.empty = empty
        self.fail: Exception | None = None
        self.log: list[AuditView] = []
        self.metadata: dict[str, bytes] = {} if empty else {"1.root.json": b"{}"}
        self.uploads: dict[str, bytes] = {}
        self._devices = {} if empty else {d.device: d for d in _devices()}
        self._rollouts = [] if empty else _rollouts()
        self._alerts = [] if empty else _alerts()
        self._note("system", "server.started", "server", {"version": "0.1.0"})

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
        return () if self.empty else (_model(),)

    def model(self, name: str) -> ModelView:
        """Return one model."""
        self._perhaps_fail()
        if self.empty or name != MODEL:
            raise missing(f"model {name!r}")
        return _model()

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
                found.append(_drift(lev, sub, ver))
        return tuple(sorted(found, key=lambda d: -_RANK[d.worst]))

    def groups(self, name: str, version: str | None = None) -> GroupsView:
        number = self._version(name, version)
        return _groups() if number == "1.1.0" and self._devices else GroupsView()

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
        reference, days = _stored_counts()
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
        view = _drift(level, subject, self._version(name, version))
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
            points = _series(one, device or "", version)
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
        return _histogram(feature, OFFSET.get(subject, 0.9))

    def quality_series(
        self, name: str, version: str | None = None, device: str | None = None, step: str = "month"
    ) -> dict[str, tuple[SeriesPoint, ...]]:
        """Return quality over time by version."""
        self.model(name)
        if version is not None:
            self._version(name, version)
        return {ver: _quality(ver, step, device) for ver in PERIODS if version in {None, ver}}

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
        return fake_verdicts.SLICES

    def explain(self, alert_id: int) -> ExplanationView:
        """Return an alert in words."""
        return fake_verdicts.explanation(self._alert(alert_id))

    def replay(self, alert_id: int) -> ReplayView:
        """Recompute the verdict of an alert."""
        return fake_verdicts.replay(self._alert(alert_id))

    def replays(self, limit: int = 1000) -> tuple[ReplayView, ...]:
        """Recompute the verdicts of the newest alerts."""
        return tuple(
            fake_verdicts.replay(alert)
            for alert in self.alerts(limit=limit)
            if "rule" in alert.evidence
        )

    def _alert(self, alert_id: int) -> AlertView:
        found = next((one for one in self._alerts if one.id == alert_id), None)
        if found is None:
            raise missing(f"alert {alert_id}")
        return found

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

    def rollouts(self) -> tuple[RolloutView, ...]:
        """Return rollouts, newest first."""
        return tuple(reversed(self._rollouts))

    def rollout(self, rollout_id: int) -> RolloutView:
        """Return one rollout."""
        for one in self._rollouts:
            if one.id == rollout_id:
                return one
        raise missing(f"rollout {rollout_id}")

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

    def events(
        self, device: str | None = None, limit: int = 200, kind: str = ""
    ) -> tuple[EventView, ...]:
        """Return events, newest first."""
        if self.empty:
            return ()
        found = [
            e
            for e in _events()
            if device in {None, e.device}
            and (e.kind.startswith(kind) if kind.endswith(".") else kind in {"", e.kind})
        ]
        return tuple(sorted(found, key=lambda e: -e.at_ms))[:limit]

    def counts(self) -> tuple[CountsView, ...]:
        """Return bookkeeping by device."""
        if self.empty:
            return ()
        return (
            CountsView(
                device="ewr",
                received=331,
                windows=306,
                rows=98_220,
                merged=0,
                duplicate=14,
                bytes=478_113,
            ),
            CountsView(
                device="jfk",
                received=302,
                windows=277,
                rows=90_402,
                merged=29,
                duplicate=3,
                bytes=421_870,
            ),
            CountsView(
                device="lga",
                received=345,
                windows=306,
                rows=84_211,
                duplicate=41,
                refused=1,
                lost=2,
                bytes=491_002,
            ),
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


_RANK = {"too_few": 0, "ok": 1, "notice": 2, "warn": 3, "severe": 4}


@functools.lru_cache(maxsize=1)
def _stored_counts() -> tuple[Baseline, tuple[bytes, ...]]:
    """Return a baseline of one feature, and encoded windows of thirty days that lie above it."""
    dice = np.random.default_rng(4)
    column = ColumnSpec("temp", "input", "temp", 0, dice.normal(55, 18, 2000), unit="°F")
    reference = build_baseline([column], task="regression")
    days = []
    for day in range(30):
        accumulator = Accumulator(reference)
        accumulator.update({"temp": dice.normal(75, 18, 300).astype(np.float32)})
        start = AUTUMN + day * DAY
        days.append(encode_window(accumulator.window(start, start + DAY)))
    return reference, tuple(days)


def state_of(psi: float) -> DriftState:
    """Return the state of an effect, as the design's limits put it."""
    return "severe" if psi >= 0.25 else "warn" if psi >= 0.1 else "notice" if psi >= 0.02 else "ok"


def _devices() -> list[DeviceView]:
    def slot(version: str, wanted: str = "", **more: Any) -> SlotView:  # noqa: ANN401 - passed on by name
        return SlotView(
            slot=MODEL,
            phase="serving",
            name=MODEL,
            version=version,
            digest=DIGESTS[version],
            release=int(version[2]) + 1,
            wanted_version=wanted or version,
            wanted_digest=DIGESTS[wanted or version],
            committed=True,
            **more,
        )

    common: dict[str, Any] = {
        "agent_version": "0.1.0",
        "revision_desired": 5,
        "revision_seen": 5,
        "clock": "synced",
        "enrolled_ms": NOW - 40 * DAY,
        "bytes_downloaded": 2_411_224,
        "last_window_end_ms": END,
    }
    return [
        DeviceView(
            device="ewr",
            labels={"city": "newark", "ring": "stable"},
            online=True,
            last_seen_ms=NOW - 8_000,
            epoch="51c2f0aa9be4d7e1",
            slots=(slot("1.1.0"),),
            memory_available_bytes=310 << 20,
            disk_free_bytes=12 << 30,
            worst_state="notice",
            worst_feature="dewp",
            windows_received=306,
            rows_received=98_220,
            **common,
        ),
        DeviceView(
            device="jfk",
            labels={"city": "queens", "ring": "stable"},
            online=False,
            last_seen_ms=NOW - 3 * 3_600_000,
            epoch="77aa00b1c2d3e4f5",
            outbox_rows=29,
            slots=(slot("1.1.0"),),
            memory_available_bytes=288 << 20,
            disk_free_bytes=9 << 30,
            worst_state="warn",
            worst_feature="temp",
            windows_received=277,
            rows_received=90_402,
            **common,
        ),
        DeviceView(
            device="lga",
            labels={"city": "queens", "ring": "canary"},
            online=True,
            last_seen_ms=NOW - 2_000,
            epoch="0d3e77fe12aa34bc",
            slots=(
                slot(
                    "1.1.0",
                    error_code="probation.auc",
                    error="1.2.0 was taken back: AUC .47 over 212 labels, .60 is needed",
                ),
            ),
            quarantined=(DIGESTS["1.2.0"],),
            memory_available_bytes=301 << 20,
            disk_free_bytes=11 << 30,
            worst_state="severe",
            worst_feature="temp",
            windows_received=306,
            rows_received=84_211,
            **common,
        ),
        DeviceView(device="pump-07", labels={"ring": "stable"}, enrolled_ms=NOW - DAY),
    ]


def _model() -> ModelView:
    def version(number: str, release: int, serving: tuple[str, ...], **more: Any) -> VersionView:  # noqa: ANN401 - passed on by name
        return VersionView(
            version=number,
            release=release,
            digest=DIGESTS[number],
            path=f"bundles/{MODEL}/{MODEL}-{number}.whim",
            length=812_344 + release,
            profile_id=sha256(b"p"),
            published_ms=NOW - (40 - release * 9) * DAY,
            task="classification",
            classes=("on time", "late"),
            description="Departs more than 15 minutes late.",
            devices_serving=serving,
            metrics={"auc": 0.742},
            **more,
        )

    return ModelView(
        name=MODEL,
        latest="1.2.0",
        versions=(
            version(
                "1.2.0",
                3,
                (),
                rows=212,
                labelled_rows=212,
                state="warn",
                auc_realised=0.47,
                auc_expected=0.66,
                accuracy_realised=0.55,
            ),
            version(
                "1.1.0",
                2,
                DEVICES,
                rows=110_020,
                labelled_rows=108_900,
                state="warn",
                auc_realised=0.731,
                auc_expected=0.735,
                accuracy_realised=0.803,
                error_rate=0.0,
                latency_p99_us=410.0,
            ),
            version(
                "1.0.0",
                1,
                (),
                rows=162_601,
                labelled_rows=160_113,
                state="severe",
                auc_realised=0.662,
                auc_expected=0.71,
                accuracy_realised=0.761,
                error_rate=0.0001,
                latency_p99_us=395.0,
            ),
        ),
    )


def _effect(feature: str, subject: str, day: float, version: str) -> float:
    seasonal = {
        "temp": 0.6,
        "dewp": 0.5,
        "humid": 0.08,
        "pressure": 0.05,
        "visib": 0.03,
        "wind_gust": 0.06,
    }
    strength = seasonal.get(feature, 0.012)
    # The first version knows winter only; the second learned the summer.
    season = (1 - math.cos(2 * math.pi * (day + 45) / 365)) / 2
    if version != "1.0.0":
        season = 0.25 * max(0.0, math.sin(2 * math.pi * (day - 180) / 365))
    if feature == "carrier" and subject == "lga" and day > 120:
        return 0.15
    return strength * season * OFFSET.get(subject, 0.9)


def _series(feature: str, device: str, version: str) -> list[SeriesPoint]:
    start, end = PERIODS[version]
    points = []
    for day in range((end - start) // DAY):
        at = start + day * DAY
        since_march = (at - MARCH) / DAY
        dice = random.Random(f"{feature}{device}{version}{day}")
        if device == "jfk" and 120 <= since_march < 150:
            continue  # its network was cut, and the outbox merged these windows
        psi = max(
            0.0,
            _effect(feature, device, since_march, version) * dice.uniform(0.85, 1.15)
            + dice.gauss(0.002, 0.003),
        )
        few = dice.random() < 0.01
        points.append(
            SeriesPoint(
                start_ms=at,
                end_ms=at + DAY,
                rows=40 if few else dice.randint(240, 360),
                version=version,
                state="too_few" if few else state_of(psi),
                psi=None if few else psi,
                w1_sd=None if few else math.sqrt(psi),
                log_e=min(40.0, psi * 90),
                mean=50 + 40 * psi,
                null_rate=0.01,
            )
        )
    return points


def _drift(level: Level, subject: str, version: str) -> DriftView:
    features = []
    for name, unit in [*FEATURES, *((o, None) for o in OUTPUTS)]:
        psi = _effect(name, subject, 230, version)
        state = state_of(psi)
        features.append(
            FeatureView(
                feature=name,
                role="output" if name in OUTPUTS else "input",
                state=state,
                kind="categorical" if name in {"carrier", "label"} else "numeric",
                unit=unit,
                psi=psi + 0.004,
                psi_debiased=psi,
                js=psi / 8,
                ks=math.sqrt(psi) / 3,
                w1_sd=None if name in {"carrier", "label"} else math.sqrt(psi),
                p_value=math.exp(-psi * 80),
                log_e=psi * 90,
                alarm=state in {"warn", "severe"},
                since_ms=MARCH + 90 * DAY if state in {"warn", "severe"} else None,
                null_rate=0.19 if name == "wind_gust" else 0.002,
                reference_null_rate=0.12 if name == "wind_gust" else 0.002,
            )
        )
    features.sort(key=lambda f: (-_RANK[f.state], -(f.psi_debiased or 0)))
    return DriftView(
        level=level,
        subject=subject,
        name=MODEL,
        version=version,
        window_start_ms=END - DAY,
        window_end_ms=END,
        rows=301 if level == "device" else 903,
        features=tuple(features),
        worst=features[0].state,
        losses=(fake_verdicts.loss_view(),),
        findings=(
            FindingView(
                feature="wind_gust",
                kind="stuck",
                share=0.97,
                usual=0.02,
                level="severe",
                message="wind_gust has not changed for 291 of 301 rows",
            ),
        )
        if subject == "lga"
        else (),
    )


def _histogram(feature: str, offset: float) -> HistogramView:
    cells: tuple[str, ...]
    if feature in {"carrier", "label"}:
        cells = (
            ("UA", "B6", "EV", "DL", "AA", "MQ", "US", "9E", "WN", "other")
            if feature == "carrier"
            else ("on time", "late")
        )
        raw = [1 / (i + 1.5) for i in range(len(cells))]
        now = [r * (1 + 0.35 * offset * (-1) ** i) for i, r in enumerate(raw)]
        edges: tuple[float, ...] = ()
    else:
        edges = tuple(float(x) for x in range(15, 100, 5))
        cells = (
            f"≤ {edges[0]:g}",
            *(f"{a:g}–{b:g}" for a, b in itertools.pairwise(edges)),
            f"> {edges[-1]:g}",
        )
        raw = [math.exp(-(((i - 5) / 3.2) ** 2)) for i in range(len(cells))]
        now = [math.exp(-(((i - 5 - 5 * offset) / 3.0) ** 2)) for i in range(len(cells))]
    return HistogramView(
        feature=feature,
        kind="categorical" if not edges else "numeric",
        cells=cells,
        edges=edges,
        reference=tuple(r / sum(raw) for r in raw),
        current=tuple(n / sum(now) for n in now),
        unit=dict(FEATURES).get(feature),
        reference_null_rate=0.01,
        current_null_rate=0.012,
        rows=9301,
    )


def _quality(version: str, step: str, device: str | None) -> tuple[SeriesPoint, ...]:
    start, end = PERIODS[version]
    length = 30 * DAY if step == "month" else DAY
    points = []
    for at in range(start, end, length):
        day = (at - MARCH) / DAY
        dice = random.Random(f"{version}{device}{day}")
        season = (1 - math.cos(2 * math.pi * (day + 45) / 365)) / 2
        true = {"1.0.0": 0.74 - 0.12 * season, "1.1.0": 0.735, "1.2.0": 0.47}[
            version
        ] + dice.uniform(-0.012, 0.012)
        points.append(
            SeriesPoint(
                start_ms=at,
                end_ms=min(at + length, end),
                rows=9_000,
                version=version,
                labelled_rows=8_900,
                auc_realised=true,
                auc_expected={"1.2.0": 0.66}.get(version, 0.735 - 0.03 * season),
                accuracy_realised=true + 0.07,
                accuracy_expected=0.8,
                error_rate=0.0001 + dice.random() / 5e3,
                latency_p50_us=210 + 30 * dice.random(),
                latency_p99_us=390 + 60 * dice.random(),
            )
        )
    return tuple(points)


def _groups() -> GroupsView:
    rolled = RollupView(
        model=MODEL,
        version="1.1.0",
        feature="temp",
        severity="severe",
        scope="fleet",
        devices=1000,
        count=2,
        drifting=(
            DriftingView(
                device="lga", level="severe", log_e=31.0, alarm=True, since_ms=MARCH, psi=0.6
            ),
            DriftingView(device="jfk", level="warn", log_e=17.5, alarm=False, psi=0.2),
        ),
        alarmed=1,
        gathered=(GatheredView(cohort="region=new-york", drifting=2, devices=2),),
        since_ms=MARCH,
        what="location",
        log_e=31.1,
        threshold=18.9,
        psi=0.0006,
        w1_sd=0.01,
        fleet_psi=0.0006,
        fleet_psi_before=0.0005,
        average=False,
        hidden=True,
        alert=True,
        message="temp of flights 1.1.0 has drifted on 2 of 1,000 devices",
        updated_ms=NOW,
        q=0.05,
    )
    unlike = OutlierView(
        model=MODEL,
        version="1.1.0",
        device="ewr",
        feature="wind",
        what="scale",
        shift=-1.4,
        spread=0.2,
        z=-6.8,
        psi=0.9,
        w1_sd=0.8,
        severity="warn",
        peers="fleet",
        devices=1000,
        since_ms=MARCH,
        periods=3,
        message="wind of flights 1.1.0 on ewr is unlike the others",
    )
    return GroupsView(rollups=(rolled,), outliers=(unlike,))


def _alerts() -> list[AlertView]:
    return [
        AlertView(
            id=4,
            at_ms=END - 17 * DAY,
            raised_ms=NOW - 1_800_000,
            kind="rollout",
            severity="severe",
            device="lga",
            model=MODEL,
            version="1.2.0",
            updated_ms=NOW,
            message="Rollout 2 of flights 1.2.0 stopped at wave 1: AUC is 0.470 over 212 labels, at least 0.600 is needed. LGA is back on 1.1.0; no other device saw it.",
            evidence={"auc": 0.47, "labels": 212, "limit": 0.6},
        ),
        AlertView(
            id=3,
            at_ms=MARCH + 122 * DAY,
            raised_ms=NOW - 5_400_000,
            kind="drift",
            severity="severe",
            device="lga",
            model=MODEL,
            version="1.0.0",
            feature="temp",
            updated_ms=NOW,
            message="temp on lga has moved: PSI 0.61 (severe from 0.25), e-value 10^23 against a limit of 10^4.6.",
            evidence=fake_verdicts.verdict_of(
                "lga", DIGESTS["1.0.0"], "temp", MARCH + 122 * DAY
            ).evidence(),
            loss=fake_verdicts.loss_view(),
        ),
        AlertView(
            id=2,
            at_ms=MARCH + 96 * DAY,
            raised_ms=NOW - 9_400_000,
            kind="drift",
            severity="warn",
            device="jfk",
            model=MODEL,
            version="1.0.0",
            feature="dewp",
            state="acknowledged",
            acknowledged_by="operator",
            updated_ms=NOW,
            message="dewp on jfk has moved: PSI 0.18 (warn from 0.10).",
            evidence={"psi": 0.18},
        ),
        AlertView(
            id=1,
            at_ms=MARCH + 60 * DAY,
            raised_ms=NOW - 12_400_000,
            kind="retraining",
            severity="notice",
            model=MODEL,
            version="1.0.0",
            state="closed",
            updated_ms=NOW,
            message="Retraining of flights was requested after the alarm on temp (lga); the command ended with 0.",
        ),
    ]


def _rollouts() -> list[RolloutView]:
    def gates(auc: float, state: GateState) -> tuple[GateView, ...]:
        return (
            GateView(
                name="rows",
                state="passed",
                value=812.0,
                limit=200.0,
                sentence="Every device served at least 812 rows; 200 are needed.",
            ),
            GateView(
                name="error_rate",
                state="passed",
                value=0.0,
                limit=0.02,
                sentence="0 of 812 requests failed; at most 2 % may.",
            ),
            GateView(
                name="auc",
                state=state,
                value=auc,
                limit=0.6,
                sentence=f"AUC is {auc:.3f} over 212 labels; at least 0.600 is needed.",
            ),
            GateView(
                name="output_drift",
                state="passed" if state == "passed" else "waiting",
                sentence="Outputs are judged at the end of the window.",
            ),
        )

    first = RolloutView(
        id=1,
        slot=MODEL,
        model=MODEL,
        version="1.1.0",
        digest=DIGESTS["1.1.0"],
        state="completed",
        from_versions=dict.fromkeys(DEVICES, "1.0.0"),
        wave=1,
        created_ms=NOW - 30 * DAY,
        updated_ms=NOW - 27 * DAY,
        actor="operator",
        waves=(
            WaveView(
                index=0,
                devices=("lga",),
                state="passed",
                started_ms=NOW - 30 * DAY,
                finished_ms=NOW - 29 * DAY,
                gates=gates(0.731, "passed"),
            ),
            WaveView(
                index=1,
                devices=("ewr", "jfk"),
                state="passed",
                started_ms=NOW - 29 * DAY,
                finished_ms=NOW - 27 * DAY,
                gates=gates(0.736, "passed"),
            ),
        ),
    )
    second = RolloutView(
        id=2,
        slot=MODEL,
        model=MODEL,
        version="1.2.0",
        digest=DIGESTS["1.2.0"],
        state="rolled_back",
        from_versions=dict.fromkeys(DEVICES, "1.1.0"),
        wave=0,
        created_ms=NOW - DAY,
        updated_ms=NOW - 3_600_000,
        actor="operator (ci)",
        reason="gate auc failed at wave 1: AUC is 0.470 over 212 labels; at least 0.600 is needed",
        waves=(
            WaveView(
                index=0,
                devices=("lga",),
                state="rolled_back",
                started_ms=NOW - DAY,
                finished_ms=NOW - 3_600_000,
                gates=gates(0.47, "failed"),
            ),
            WaveView(index=1, devices=("ewr", "jfk")),
        ),
    )
    third = RolloutView(
        id=3,
        slot=MODEL,
        model=MODEL,
        version="1.1.0",
        digest=DIGESTS["1.1.0"],
        state="running",
        from_versions={"pump-07": ""},
        wave=0,
        created_ms=NOW - 7_200_000,
        updated_ms=NOW - 60_000,
        actor="operator",
        waves=(
            WaveView(
                index=0,
                devices=("pump-07",),
                state="judging",
                started_ms=NOW - 7_200_000,
                gates=(
                    GateView(
                        name="rows",
                        state="waiting",
                        value=0.0,
                        limit=200.0,
                        sentence="pump-07 has served 0 rows; 200 are needed.",
                    ),
                ),
            ),
        ),
    )
    return [first, second, third]


def _events() -> list[EventView]:
    events = []
    for version, day in (("1.0.0", 0), ("1.1.0", 190), ("1.2.0", 286)):
        for device in DEVICES if version != "1.2.0" else ("lga",):
            at = MARCH + day * DAY
            steps = ["assigned", "fetched", "probed", "switched"]
            steps += ["failed", "rolled_back"] if version == "1.2.0" else ["passed"]
            for i, step in enumerate(steps):
                back = step == "rolled_back"
                named = {"name": MODEL, "version": "1.1.0" if back else version}
                failed = {"code": "probation.failed", "reason": "the AUC is 0.470, at least 0.600"}
                events.append(
                    EventView(
                        at_ms=NOW - (300 - day) * 3_600_000 + i * 45_000,
                        device=device,
                        kind=f"update.{step}",
                        slot=MODEL,
                        digest=DIGESTS[named["version"]],
                        detail={} if i < 2 else named | (failed if step == "failed" else {}),
                        received_ms=NOW,
                    )
                )
            if version == "1.0.0":
                events.append(
                    EventView(
                        at_ms=at + 121 * DAY,
                        device=device,
                        kind="drift",
                        slot=MODEL,
                        digest=DIGESTS[version],
                        detail={
                            "feature": "temp",
                            "before": "warn",
                            "now": "severe",
                            "psi": "0.6100",
                            "w1_sd": "0.7810",
                            "window_start_ms": str(at + 120 * DAY),
                        },
                        received_ms=NOW,
                    )
                )
    return events
