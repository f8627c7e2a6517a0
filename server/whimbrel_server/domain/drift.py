"""Windows of one device, in the order of event time, into states and alarms.

An alarm needs both:

- evidence: the e-detector, which compares a device with its own beginning over time, has passed
  the threshold of the fleet's false-alarm budget;
- effect: the feature is at "warn" or worse against the signed baseline (its level goes up at once
  and down only after ``calm_windows`` lower windows), in ``confirm_windows`` windows in a row.

It ends when the effect is gone, or the evidence. States that people are shown follow the same rule
(`told`). Everything here is a fold over windows sorted by
`Position`: replaying the same windows gives the same states and alarms, whenever they arrived.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import msgspec

from whimbrel_core.profile.distances import FeatureDrift, Judge
from whimbrel_core.profile.levels import LEVELS, Held, State, Thresholds, settle
from whimbrel_core.profile.sequential import (
    Detector,
    DetectorSettings,
    DetectorState,
    Evidence,
    Observation,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

    from whimbrel_core.bundle.manifest import DriftPolicy
    from whimbrel_core.profile.baseline import Baseline
    from whimbrel_core.profile.window import Window

Severity = Literal["notice", "warn", "severe"]


class Position(msgspec.Struct, frozen=True, order=True):
    """A window's place in a device's history: event time first, then its outbox key."""

    start_ms: int = -(1 << 62)
    key: str = ""


class Policy(msgspec.Struct, frozen=True, kw_only=True):
    """How states rise and fall, and when evidence with effect is an alarm."""

    thresholds: Thresholds = Thresholds()
    detector: DetectorSettings = DetectorSettings()
    confirm_windows: int = 2
    calm_windows: int = 3


class Judged(msgspec.Struct, frozen=True):
    """What one window says by itself; stored, so that a history can be replayed from it."""

    position: Position
    end_ms: int
    rows: int
    drift: tuple[FeatureDrift, ...]
    observation: Observation | None = None


class FeatureState(msgspec.Struct, frozen=True):
    """What is remembered of one feature between windows."""

    held: Held = Held()
    strong: int = 0
    alarm: Severity | None = None
    since_ms: int | None = None


class SubjectState(msgspec.Struct, frozen=True):
    """What is remembered of one device with one version."""

    newest: Position
    detector: DetectorState
    features: tuple[FeatureState, ...]


class Shown(msgspec.Struct, frozen=True):
    """One feature of one window with everything that is shown of it."""

    drift: FeatureDrift
    level: State
    log_e: float | None = None
    threshold: float | None = None
    alarm: bool = False
    since_ms: int | None = None
    component: str = ""


class Change(msgspec.Struct, frozen=True):
    """An alarm that began, grew, or ended (``severity`` None)."""

    feature: str
    severity: Severity | None
    at_ms: int
    since_ms: int | None
    evidence: dict[str, Any]


class DeviceJudge:
    """Judges the windows of devices that serve one version. Holds no state of any device."""

    def __init__(self, baseline: Baseline, policy: Policy) -> None:
        self.baseline = baseline
        self.policy = policy
        self._judge = Judge(baseline, thresholds=policy.thresholds)
        self._detector = Detector(baseline, policy.detector)

    def start(self) -> SubjectState:
        """Return the state of a device that sent nothing yet."""
        features = tuple(FeatureState() for _ in self.baseline.layout.features)
        return SubjectState(Position(), self._detector.start(), features)

    def judge(self, window: Window, position: Position) -> Judged:
        """Return what ``window`` says by itself."""
        drift = self._judge.judge(window)
        enough = window.rows >= self.policy.thresholds.min_rows
        observation = self._detector.observe(window) if enough else None
        return Judged(position, window.end_ms, window.rows, drift, observation)

    def advance(
        self, state: SubjectState, judged: Judged
    ) -> tuple[SubjectState, tuple[Shown, ...]]:
        """Return the state after a window, and what is shown of the window.

        The window must be newer than ``state.newest``; for an older one, `replay` the history.
        """
        detector = state.detector
        if judged.observation is not None:
            detector = self._detector.advance(detector, judged.observation)
        evidence = self._detector.evidence(detector)
        features, shown = [], []
        for known, drift, proof in zip(state.features, judged.drift, evidence, strict=True):
            after = self._feature(known, drift, proof)
            features.append(after)
            shown.append(
                Shown(
                    drift,
                    told(after.held.level, evidence=after.alarm is not None),
                    proof.log_e,
                    proof.threshold,
                    after.alarm is not None,
                    after.since_ms,
                    proof.component,
                )
            )
        return SubjectState(judged.position, detector, tuple(features)), tuple(shown)

    def replay(
        self, history: Iterable[Judged]
    ) -> tuple[SubjectState, list[tuple[Judged, tuple[Shown, ...]]]]:
        """Return the state after ``history`` in the order of event time, and all that is shown."""
        state = self.start()
        shown = []
        for judged in sorted(history, key=lambda one: one.position):
            state, said = self.advance(state, judged)
            shown.append((judged, said))
        return state, shown

    def _feature(self, known: FeatureState, drift: FeatureDrift, proof: Evidence) -> FeatureState:
        if drift.state == "too_few":
            return known
        policy = self.policy
        held = settle(known.held, drift.state, calm_windows=policy.calm_windows)
        strong = known.strong + 1 if proof.alarm and severity_of(held.level, "warn") else 0
        severity = severity_of(held.level, "warn")
        alarm = severity if strong >= policy.confirm_windows else None
        since = None
        if alarm is not None:
            since = known.since_ms if known.alarm is not None else proof.since_ms
        return FeatureState(held, strong, alarm, since)


def told(level: State, *, evidence: bool) -> State:
    """Return the state that people are told: an effect without evidence is a notice at most.

    A day's weather differs from a season's by any effect size, every day of a healthy year.
    Only what lasts, against the device's own beginning, is worth a warning.
    """
    if evidence or severity_of(level, "warn") is None:
        return level
    return "notice"


def severity_of(level: State, least: Severity) -> Severity | None:
    """Return ``level`` as a severity when it is ``least`` or worse, else None."""
    if level in {"too_few", "ok"} or LEVELS.index(level) < LEVELS.index(least):
        return None
    return level  # type: ignore[return-value]  # the two others are excluded above


def worst_of(levels: Iterable[State]) -> State:
    """Return the worst of some states; "too_few" when there is none."""
    order: tuple[State, ...] = ("too_few", *LEVELS)
    return max(levels, key=order.index, default="too_few")


def changes(
    before: SubjectState | None, after: SubjectState, shown: tuple[Shown, ...], at_ms: int
) -> tuple[Change, ...]:
    """Return which alarms began, changed severity or ended between two states of a device."""
    found = []
    for i, (now, said) in enumerate(zip(after.features, shown, strict=True)):
        was = before.features[i].alarm if before is not None else None
        if was == now.alarm:
            continue
        drift = said.drift
        found.append(
            Change(
                drift.feature,
                now.alarm,
                at_ms,
                now.since_ms,
                {
                    "role": drift.role,
                    "log_e": said.log_e,
                    "threshold": said.threshold,
                    "what": said.component,
                    "psi": drift.psi,
                    "ks": drift.ks,
                    "w1_sd": drift.w1_sd,
                    "null_rate": drift.null_rate,
                    "null_shift": drift.null_shift,
                    "p_value": drift.p_value,
                    "rows": drift.rows,
                    "since_ms": now.since_ms,
                },
            )
        )
    return tuple(found)


def policy_for(declared: DriftPolicy, *, streams: int, confirm: int = 2, calm: int = 3) -> Policy:
    """Return the policy of a bundle: its declared thresholds, for a fleet of ``streams``."""
    psi = (min(0.02, declared.warn_psi), declared.warn_psi, declared.severe_psi)
    return Policy(
        thresholds=Thresholds(min_rows=declared.min_rows, psi=psi),
        detector=DetectorSettings(
            streams=max(streams, 1),
            arl_windows=max(declared.arl_s // max(declared.window_s, 1), 2),
            warmup=declared.warmup_windows,
        ),
        confirm_windows=confirm,
        calm_windows=calm,
    )
