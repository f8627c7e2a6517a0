"""Alerts about how much a device is asked: it tells by itself, and the server passes it on.

A device knows what is usual for each of its slots (`whimbrel_core.profile.watching.rate`), and sends an event
when its alarm begins, grows, shrinks or ends. Each is an alert, or the end of one, in the
transaction that writes the event down. What cannot be read is no alert: the event is kept as it is.

With an alarm the device sends what is usual for it, so that an alert has a verdict like any other:
`again` judges the period once more, and the requests are counted in the windows that are stored.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec
import sqlalchemy as sa

from whimbrel_core.errors import ProfileError
from whimbrel_core.profile.watching import rate, testimony
from whimbrel_server.domain import verdict
from whimbrel_server.domain.subjects import device_subject
from whimbrel_server.store import alerts, schema

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from whimbrel_core.wire.messages import EventMessage
    from whimbrel_server.views.alerts import Severity

KIND = "rate"
PREFIX = "rate/"
SEALED = "usual"
"""The part of an event that is for machines: it is kept with the alert, not with the event."""
_SEVERITIES: dict[str, Severity] = {"warn": "warn", "severe": "severe"}


class Told(NamedTuple):
    """What an event of a device says; ``severity`` None: the alarm is over.

    ``usual``: the state before the period, and the settings, where they can be read; ``version``: of
    the device's rule.
    """

    severity: Severity | None
    requests: float
    expected: float
    z: float
    start_ms: int
    end_ms: int
    before: str = "ok"
    version: int = 0
    usual: tuple[rate.RateState, rate.RateSettings] | None = None


def cause_of(device: str, slot: str) -> str:
    """Return what names the alert of a slot."""
    return f"{PREFIX}{device}/{slot}"


def read(detail: Mapping[str, str]) -> Told | None:
    """Return what an event says, or None where it is none that this server can read."""
    now = detail.get("now", "")
    if now not in {"ok", *_SEVERITIES}:
        return None
    try:
        requests, expected, z = (float(detail[key]) for key in ("requests", "expected", "z"))
        start_ms, end_ms = int(detail["window_start_ms"]), int(detail["window_end_ms"])
        version = int(detail.get("rule_version", "0"))
    except (KeyError, ValueError):
        return None
    if not all(map(math.isfinite, (requests, expected, z))) or min(requests, expected) < 0:
        return None
    try:
        usual = testimony.opened(detail.get(SEALED, ""))
    except ProfileError:
        usual = None
    return Told(
        _SEVERITIES.get(now),
        requests,
        expected,
        z,
        start_ms,
        end_ms,
        detail.get("before", "ok"),
        version,
        usual,
    )


def tell(connection: sa.Connection, events: Iterable[EventMessage], now_ms: int) -> None:
    """Raise and close alerts by events of devices, which are written down already.

    Events may come in any order: one that is older than another of its slot changes nothing.
    """
    for event in events:
        told = read(event.detail)
        if told is None or not event.slot or _overtaken(connection, event):
            continue
        cause = cause_of(event.device, event.slot)
        if told.severity is None:
            alerts.close(connection, cause, now_ms)
            continue
        alert = alerts.NewAlert(
            cause=cause,
            at_ms=event.at_ms,
            kind="data",
            severity=told.severity,
            message=f"{event.slot} on {event.device} {sentence(told)}",
            device=event.device,
            evidence=_evidence(event, told),
        )
        alerts.raise_alert(connection, alert, now_ms)


def _evidence(event: EventMessage, told: Told) -> dict[str, Any]:
    """Return the verdict of an alarm; without what the device takes as usual it is none."""
    if told.usual is None:
        return {
            "judged_by": "device",
            "inputs": {"start_ms": told.start_ms, "end_ms": told.end_ms, "slot": event.slot},
            "figures": {"requests": told.requests, "expected": told.expected, "z": told.z},
        }
    usual, settings = told.usual
    found = verdict.reached(
        verdict.RATE,
        digest=event.digest,
        profile_id="",
        subject=device_subject(event.device),
        inputs=[
            verdict.Input(
                told.start_ms, f"{event.epoch}/{event.seq:020d}", told.end_ms, round(told.requests)
            )
        ],
        history=usual.periods + 1,
        first_ms=usual.since_ms,
        policy=settings,
        given={"slot": event.slot, SEALED: usual},
        thresholds={
            "sigmas": settings.sigmas,
            "ratio_warn": settings.ratios[1],
            "ratio_severe": settings.ratios[2],
            "periods": settings.confirm_periods,
        },
        figures={
            "severity": told.severity,
            "before": told.before,
            "requests": told.requests,
            "expected": told.expected,
            "z": told.z,
        },
    )
    return msgspec.structs.replace(found, version=told.version).evidence()


def again(one: verdict.Verdict) -> tuple[rate.Rate, dict[str, Any]]:
    """Return the period of a verdict judged once more, and its figures as a device tells them.

    Raises:
        msgspec.ValidationError: the verdict is none of this rule.
    """
    usual = msgspec.convert(one.given.get(SEALED), rate.RateState)
    said = rate.judged(usual, msgspec.convert(one.policy, rate.RateSettings))[1]
    return said, {
        "severity": _SEVERITIES.get(said.now),
        "before": said.before,
        "requests": said.requests,
        "expected": float(testimony.written(said.expected)),
        "z": float(testimony.written(said.z)),
    }


def sentence(told: Told) -> str:
    """Return what is unusual, to follow the name of a slot.

    >>> sentence(Told("severe", 120, 20.8, 8.5, 0, 3_600_000))
    'is asked 5.7 times as much as usual: 120 requests where 21 are expected'
    >>> sentence(Told("warn", 40, 100, -4.2, 0, 3_600_000))
    'is asked 40% of what is usual: 40 requests where 100 are expected'
    """
    ratio = (told.requests + 0.5) / (told.expected + 0.5)
    how = f"{ratio:.1f} times as much as usual" if ratio > 1 else f"{ratio:.0%} of what is usual"
    return f"is asked {how}: {told.requests:,.0f} requests where {told.expected:,.0f} are expected"


def _overtaken(connection: sa.Connection, event: EventMessage) -> bool:
    table = schema.events
    later = sa.select(table.c.id).where(
        table.c.device == event.device,
        table.c.kind == KIND,
        table.c.slot == event.slot,
        table.c.at_ms > event.at_ms,
    )
    return connection.execute(later.limit(1)).first() is not None
