"""Open alerts as a short list: what drifts together is one line, worst first, history apart.

A drift of many devices is one line, with its devices inside. Nothing is hidden by it: a line has the
severity of its worst alert, and opens to all of them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from whimbrel_server.domain.wording.phrases import names
from whimbrel_server.views.alerts import AlertView, Severity
from whimbrel_server.views.drift import LossView
from whimbrel_server.web import scale

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from whimbrel_server.views.devices import DeviceView

# A rollout that failed is about a version that nobody serves, because it failed.
_OF_A_VERSION = frozenset({"drift", "data", "quality", "retraining"})


class Drifted(msgspec.Struct, frozen=True, kw_only=True):
    """A device whose alerts stand under a line's, and the features that they are of."""

    device: str
    severity: Severity
    features: tuple[str, ...]


class Group(msgspec.Struct, frozen=True, kw_only=True):
    """One line: a single alert, or the drift of several features of one device (or scope) and version.

    ``devices``: those whose own alerts (``under``) are told with it, worst first. ``loss``: what
    the costliest of its drifts is expected to cost.
    """

    severity: Severity
    at_ms: int
    message: str
    alerts: tuple[AlertView, ...]
    under: tuple[AlertView, ...] = ()
    devices: tuple[Drifted, ...] = ()
    loss: LossView | None = None


def groups(alerts: Iterable[AlertView]) -> tuple[Group, ...]:
    """Return alerts as lines: worst first, then what is expected to cost most, then newest."""
    found = tuple(alerts)
    causes = {alert.cause: alert for alert in found if alert.cause}
    together: dict[tuple[object, ...], tuple[list[AlertView], list[AlertView]]] = {}
    for alert in found:
        top = _top(alert, causes)
        own, under = together.setdefault(_key(top), ([], []))
        (own if top is alert else under).append(alert)
    return tuple(sorted((_group(*members) for members in together.values()), key=_urgency))


def standing(alerts: Iterable[AlertView]) -> tuple[AlertView, ...]:
    """Return the alerts that stand by themselves: what needs somebody's attention."""
    found = tuple(alerts)
    causes = {alert.cause for alert in found if alert.cause}
    return tuple(alert for alert in found if alert.under not in causes)


def _top(alert: AlertView, causes: Mapping[str, AlertView]) -> AlertView:
    """Return the alert that one stands under, at the end: that of a device, a cohort's, the fleet's."""
    above = [alert]
    while (parent := causes.get(above[-1].under)) is not None:
        if parent in above:  # no rule tells them so, and no page is to fail of it
            return min(above, key=lambda one: one.id)
        above.append(parent)
    return above[-1]


def _key(alert: AlertView) -> tuple[object, ...]:
    if alert.kind == "drift" and alert.feature and (alert.device or alert.scope):
        return (alert.device, alert.scope, alert.model, alert.version)
    return (alert.id,)


def divided(
    alerts: Iterable[AlertView], devices: Iterable[DeviceView]
) -> tuple[tuple[AlertView, ...], tuple[AlertView, ...]]:
    """Return the alerts of now, and those of versions that no device serves any more."""
    served = {(slot.name, slot.version) for device in devices for slot in device.slots}
    now: list[AlertView] = []
    before: list[AlertView] = []
    for alert in alerts:
        over = (
            alert.kind in _OF_A_VERSION
            and alert.version
            and served
            and (alert.model, alert.version) not in served
        )
        (before if over else now).append(alert)
    return tuple(now), tuple(before)


def _group(members: list[AlertView], under: list[AlertView]) -> Group:
    members.sort(key=lambda a: (-scale.RANK[a.severity], -a.at_ms, a.id))
    worst = members[0]
    message = worst.message
    if len(members) > 1:
        features = names([alert.feature for alert in members])
        what = f"{features} of {worst.model} {worst.version} have drifted"
        message = f"{what} on {_where(members) if worst.scope else worst.device}"
    return Group(
        severity=worst.severity,
        at_ms=max(alert.at_ms for alert in members),
        message=message,
        alerts=tuple(members),
        under=tuple(under),
        devices=_devices(under),
        loss=max(
            (alert.loss for alert in (*members, *under) if alert.loss is not None),
            key=lambda loss: loss.loss,
            default=None,
        ),
    )


def _where(members: list[AlertView]) -> str:
    """Return on how many devices several features have drifted, by the one with the most."""
    most = max((alert.evidence.get("figures", {}) for alert in members), key=_count)
    devices, scope = most.get("devices", 0), members[0].scope
    where = "" if scope == "fleet" else f" of {scope}"
    if not _count(most):
        return f"the average of {devices:,} devices{where}"
    gathered = [one["cohort"] for one in most.get("gathered", ())]
    inside = f", most in {names(gathered)}" if gathered else ""
    return f"up to {_count(most):,} of {devices:,} devices{where}{inside}"


def _count(figures: Mapping[str, object]) -> int:
    number = figures.get("count", 0)
    return number if isinstance(number, int) else 0


def _devices(under: list[AlertView]) -> tuple[Drifted, ...]:
    by_device: dict[str, list[AlertView]] = {}
    for alert in under:
        if alert.device:  # what is told of a group, within another, is of the same devices
            by_device.setdefault(alert.device, []).append(alert)
    found = [
        Drifted(
            device=device,
            severity=max((a.severity for a in some), key=scale.RANK.__getitem__),
            features=tuple(sorted({a.feature for a in some})),
        )
        for device, some in by_device.items()
    ]
    return tuple(sorted(found, key=lambda one: (-scale.RANK[one.severity], one.device)))


def _urgency(group: Group) -> tuple[int, float, int]:
    # What is expected to be harmless, or nothing is known of, stands by its age alone.
    costs = group.loss is not None and group.loss.reading == "costly"
    loss = group.loss.loss if costs and group.loss is not None else 0.0
    return (
        -scale.RANK[group.severity],
        -loss,
        -max(alert.raised_ms for alert in group.alerts),
    )
