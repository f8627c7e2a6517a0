"""When an alert becomes a request for retraining.

Once per version and cause: the same drift seen by a hundred devices is one reason. Not sooner than
``cooldown_s`` of event time after the last request for the model, and not while a newer release
of the model is published already: then the answer to the alert is a rollout.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from whimbrel_core.profile.watching.alarms import Severity

if TYPE_CHECKING:
    from collections.abc import Sequence

    from whimbrel_server.views.alerts import AlertView

_ORDER: tuple[Severity, ...] = ("notice", "warn", "severe")


class RetrainingPolicy(msgspec.Struct, frozen=True, kw_only=True):
    """Which alerts ask for retraining.

    Args:
        kinds: kinds of alerts.
        severity: at least this one.
        devices: so many devices must have an open alert of the kind.
        cooldown_s: least event time between two requests for one model.
    """

    kinds: tuple[str, ...] = ("drift", "quality")
    severity: Severity = "warn"
    devices: int = 1
    cooldown_s: float = 86_400.0


class Past(msgspec.Struct, frozen=True):
    """A request that was made."""

    model: str
    version: str
    cause: str
    at_ms: int


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """A request to make, and the alerts that it stands on."""

    model: str
    version: str
    cause: str
    at_ms: int
    devices: tuple[str, ...]
    features: tuple[str, ...]
    alerts: tuple[int, ...]


def decide(
    policy: RetrainingPolicy,
    alerts: Sequence[AlertView],
    past: Sequence[Past],
    newest: dict[str, str],
) -> tuple[Request, ...]:
    """Return the requests that open ``alerts`` call for now.

    Args:
        policy: the operator's.
        alerts: all that are not closed.
        past: requests made before.
        newest: newest published version per model.
    """
    groups: dict[tuple[str, str, str], list[AlertView]] = {}
    for alert in alerts:
        if (
            alert.kind in policy.kinds
            and alert.model
            and _ORDER.index(alert.severity) >= _ORDER.index(policy.severity)
        ):
            groups.setdefault((alert.model, alert.version, alert.kind), []).append(alert)
    made = list(past)
    requests = []
    for (model, version, cause), found in sorted(groups.items()):
        devices = tuple(sorted({alert.device for alert in found if alert.device}))
        at_ms = max(alert.at_ms for alert in found)
        if newest.get(model) != version:
            continue
        # A quality alert may be of the whole fleet and name no device.
        if len(devices) < policy.devices and any(alert.device for alert in found):
            continue
        if any((one.model, one.version, one.cause) == (model, version, cause) for one in made):
            continue
        if any(one.model == model and at_ms - one.at_ms < policy.cooldown_s * 1000 for one in made):
            continue
        features = tuple(sorted({alert.feature for alert in found if alert.feature}))
        requests.append(
            Request(
                model=model,
                version=version,
                cause=cause,
                at_ms=at_ms,
                devices=devices,
                features=features,
                alerts=tuple(sorted(alert.id for alert in found)),
            )
        )
        made.append(Past(model, version, cause, at_ms))
    return tuple(requests)
