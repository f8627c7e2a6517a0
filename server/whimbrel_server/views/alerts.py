"""What a person should know, and what has become of it."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from whimbrel_server.views.drift import LossView

AlertKind = Literal["drift", "outlier", "data", "quality", "device", "rollout", "retraining"]
Severity = Literal["notice", "warn", "severe"]
AlertState = Literal["open", "acknowledged", "closed"]


class AlertView(msgspec.Struct, frozen=True, kw_only=True):
    """Something a person should know. ``at_ms`` is event time, ``raised_ms`` the wall clock.

    ``loss``: what a drift is expected to cost so far, where that can be expected.
    """

    id: int
    at_ms: int
    raised_ms: int
    kind: AlertKind
    severity: Severity
    message: str
    device: str = ""
    model: str = ""
    version: str = ""
    feature: str = ""
    evidence: dict[str, Any] = {}
    state: AlertState = "open"
    acknowledged_by: str = ""
    updated_ms: int = 0
    loss: LossView | None = None
    scope: str = ""
    under: str = ""
    cause: str = ""
