"""Open alerts as a short list: what drifts together is one line, worst first, history apart.

Nothing is hidden by it: a line has the severity of its worst alert, and opens to all of them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from whimbrel_server.views import AlertView, Severity
from whimbrel_server.web import scale

if TYPE_CHECKING:
    from collections.abc import Iterable

    from whimbrel_server.views import DeviceView

_NAMED = 3
# A rollout that failed is about a version that nobody serves, because it failed.
_OF_A_VERSION = frozenset({"drift", "quality", "retraining"})


class Group(msgspec.Struct, frozen=True, kw_only=True):
    """One line: a single alert, or the drift of several features of one device and version."""

    severity: Severity
    at_ms: int
    message: str
    alerts: tuple[AlertView, ...]


def groups(alerts: Iterable[AlertView]) -> tuple[Group, ...]:
    """Return alerts as lines, worst first, then newest first."""
    together: dict[tuple[object, ...], list[AlertView]] = {}
    for alert in alerts:
        drifts = alert.kind == "drift" and alert.device and alert.feature
        key = (alert.device, alert.model, alert.version) if drifts else (alert.id,)
        together.setdefault(key, []).append(alert)
    return tuple(sorted((_group(members) for members in together.values()), key=_urgency))


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


def names(of: list[str]) -> str:
    """Return some names as people list them, the first few spelled.

    >>> names(["a"]), names(["a", "b"]), names(["a", "b", "c", "d", "e"])
    ('a', 'a and b', 'a, b, c and 2 more')
    """
    if len(of) > _NAMED + 1:
        return f"{', '.join(of[:_NAMED])} and {len(of) - _NAMED} more"
    return " and ".join(filter(None, (", ".join(of[:-1]), of[-1])))


def _group(members: list[AlertView]) -> Group:
    members.sort(key=lambda a: (-scale.RANK[a.severity], -a.at_ms, a.id))
    worst = members[0]
    message = worst.message
    if len(members) > 1:
        features = names([alert.feature for alert in members])
        message = f"{features} of {worst.model} {worst.version} have drifted on {worst.device}"
    return Group(
        severity=worst.severity,
        at_ms=max(alert.at_ms for alert in members),
        message=message,
        alerts=tuple(members),
    )


def _urgency(group: Group) -> tuple[int, int]:
    return (-scale.RANK[group.severity], -max(alert.raised_ms for alert in group.alerts))
