"""States and alarms of devices: the rules that devices follow, too (`whimbrel_core`)."""

from __future__ import annotations

from whimbrel_core.profile.watching.alarms import (
    ALARM,
    MARKS,
    NOTICE,
    STATES,
    WARN,
    Change,
    FeatureState,
    Judged,
    Policy,
    Position,
    Severity,
    Shown,
    SubjectState,
    changes,
    policy_for,
    severity_of,
    told,
    worst_of,
)

__all__ = [
    "ALARM",
    "MARKS",
    "NOTICE",
    "STATES",
    "WARN",
    "Change",
    "FeatureState",
    "Judged",
    "Policy",
    "Position",
    "Severity",
    "Shown",
    "SubjectState",
    "changes",
    "policy_for",
    "severity_of",
    "told",
    "worst_of",
]
