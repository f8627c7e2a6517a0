"""Windows of one device, in the order of event time, into states and alarms.

An alarm needs both:

- evidence: the e-detector, which compares a device with its own beginning over time, has passed
  the threshold of the fleet's false-alarm budget;
- effect: in ``confirm_windows`` windows in a row that speak for a change, the feature is at "warn"
  or worse against the signed baseline (its level goes up at once and down only after
  ``calm_windows`` lower windows), or the change is as great against the device's own beginning.

The second because a device that began on one side of the reference can move by a lot, and be no
farther from it on the other. An alarm does not begin with a change below "notice": a device that
was always far off is no news. It ends when the effect is gone, or when less than half of the
evidence is left (in logarithms). States that people are shown follow the same rule (`told`).
Everything here is a fold over windows sorted by `Position`: replaying the same windows gives the
same states and alarms, whenever they arrived.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import msgspec
import numpy as np

from whimbrel_core.profile.drift.drifts import FeatureDrift
from whimbrel_core.profile.drift.levels import LEVELS, Held, State, Thresholds
from whimbrel_core.profile.privacy.noise import variance
from whimbrel_core.profile.watching.evidence import NEVER
from whimbrel_core.profile.watching.sequential import DetectorSettings, DetectorState, Observation

if TYPE_CHECKING:
    from collections.abc import Iterable

    from whimbrel_core.bundle.manifest import DriftPolicy

Severity = Literal["notice", "warn", "severe"]

STATES: tuple[State, ...] = ("too_few", *LEVELS)
NOTICE, WARN = LEVELS.index("notice"), LEVELS.index("warn")
MARKS = 5  # held level, calm windows, strong windows, alarm's severity (or −1), since when
ALARM = 3


class Position(msgspec.Struct, frozen=True, order=True):
    """A window's place in a device's history: event time first, then its outbox key."""

    start_ms: int = -(1 << 62)
    key: str = ""


class Policy(msgspec.Struct, frozen=True, kw_only=True):
    """How states rise and fall, and when evidence with effect is an alarm.

    ``source``: who says so: the bundle, or an operator's overrides of it.
    """

    source: str = "bundle"
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
    """What is remembered of one device with one version.

    ``marks``: what is remembered of its features, int64 little-endian (F, 5): see `features`.
    """

    newest: Position
    detector: DetectorState
    marks: bytes

    @property
    def features(self) -> tuple[FeatureState, ...]:
        """What is remembered of each feature."""
        rows = np.frombuffer(self.marks, "<i8").reshape(-1, MARKS)
        return tuple(
            FeatureState(
                Held(level=STATES[level + 1], calm=calm),
                strong,
                severity_of(STATES[alarm + 1], "warn"),
                None if since_ms == NEVER else since_ms,
            )
            for level, calm, strong, alarm, since_ms in rows.tolist()
        )


class Shown(msgspec.Struct, frozen=True):
    """One feature of one window with everything that is shown of it."""

    drift: FeatureDrift
    level: State
    log_e: float | None = None
    threshold: float | None = None
    alarm: bool = False
    since_ms: int | None = None
    component: str = ""
    shift: float | None = None


class Change(msgspec.Struct, frozen=True):
    """An alarm that began, grew, or ended (``severity`` None)."""

    feature: str
    severity: Severity | None
    at_ms: int
    since_ms: int | None
    evidence: dict[str, Any]


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
    alarms = [None] * len(shown) if before is None else [one.alarm for one in before.features]
    for was, now, said in zip(alarms, after.features, shown, strict=True):
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
                    "shift": said.shift,
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
        thresholds=Thresholds(
            min_rows=declared.min_rows, psi=psi, noise=variance(declared.noise_epsilon)
        ),
        detector=DetectorSettings(
            streams=max(streams, 1),
            arl_windows=max(declared.arl_s // max(declared.window_s, 1), 2),
            warmup=declared.warmup_windows,
            period_s=declared.window_s,
        ),
        confirm_windows=confirm,
        calm_windows=calm,
    )
