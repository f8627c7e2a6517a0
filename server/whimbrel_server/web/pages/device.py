"""The device page as a value: slots, what happened, windows, drift, bookkeeping."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from whimbrel_server.views.devices import CountsView, DeviceView
from whimbrel_server.views.drift import DriftState, DriftView
from whimbrel_server.views.groups import OutlierView
from whimbrel_server.views.rollouts import RolloutView
from whimbrel_server.web import attention, scale, told

if TYPE_CHECKING:
    from whimbrel_server.port import FleetPort

EVENTS = 40
MAX_WINDOWS = 366
MAX_ALERTS = 5000


class DeviceQuery(msgspec.Struct, frozen=True, kw_only=True):
    """The page's state: which slot is looked at, and where the listing of events stops."""

    slot: str = ""
    events: int = EVENTS


class WindowBar(msgspec.Struct, frozen=True, kw_only=True):
    """One window: its rows, its worst state, and the feature that made it so."""

    start_ms: int
    end_ms: int
    rows: int
    version: str
    state: DriftState
    feature: str = ""
    psi: float | None = None


class DevicePage(msgspec.Struct, frozen=True, kw_only=True):
    """Everything on the device page."""

    query: DeviceQuery
    device: DeviceView
    freshness: str
    slot: str
    windows: tuple[WindowBar, ...]
    trends: dict[str, tuple[float | None, ...]]
    drift: DriftView | None
    outliers: tuple[OutlierView, ...]
    log: tuple[told.Line, ...]
    events: int
    counts: CountsView
    alerts: tuple[attention.Group, ...]
    alerts_open: int
    rollouts: tuple[RolloutView, ...]


def device_page(fleet: FleetPort, name: str, query: DeviceQuery) -> DevicePage:
    """Return the page of one device.

    Raises:
        UsageError: no such device.
    """
    device = fleet.device(name)
    slot = next(
        (s for s in device.slots if s.slot == query.slot), device.slots[0] if device.slots else None
    )
    windows: tuple[WindowBar, ...] = ()
    trends: dict[str, tuple[float | None, ...]] = {}
    drift = None
    outliers: tuple[OutlierView, ...] = ()
    if slot is not None and slot.name and slot.version:
        views = fleet.drift(slot.name, slot.version, "device", name)
        drift = next((view for view in views if view.against == "baseline"), None)
        windows, trends = _windows(fleet, slot.name, slot.version, name)
        unlike = fleet.groups(slot.name, slot.version).outliers
        outliers = tuple(one for one in unlike if one.device == name)
    events = fleet.events(name, min(max(query.events, 1), 1000))
    alerts = [a for a in fleet.alerts("open", MAX_ALERTS) if a.device == name]
    return DevicePage(
        query=query,
        device=device,
        freshness=scale.freshness(device),
        slot=slot.slot if slot else "",
        windows=windows,
        trends=trends,
        drift=drift,
        outliers=outliers,
        log=told.of_events(events),
        events=len(events),
        counts=next((c for c in fleet.counts() if c.device == name), CountsView(device=name)),
        alerts=attention.groups(alerts),
        alerts_open=len(alerts),
        rollouts=tuple(r for r in fleet.rollouts() if any(name in w.devices for w in r.waves)),
    )


def _windows(
    fleet: FleetPort, model: str, version: str, device: str
) -> tuple[tuple[WindowBar, ...], dict[str, tuple[float | None, ...]]]:
    bars: dict[int, WindowBar] = {}
    trends: dict[str, tuple[float | None, ...]] = {}
    # A version that a device served earlier is part of what the device did: all of them count.
    numbers = [v.version for v in fleet.model(model).versions]
    for number in sorted(numbers, key=lambda n: n == version):
        series = fleet.drift_series(model, number, device=device)
        if number == version:
            trends = {f: tuple(p.psi for p in points)[-60:] for f, points in series.items()}
        for feature, points in series.items():
            for p in points:
                state = p.state or "too_few"
                old = bars.get(p.start_ms)
                if (
                    old is None
                    or (old.version != number and p.rows >= old.rows)
                    or (old.version == number and _worse(state, p.psi, old))
                ):
                    bars[p.start_ms] = WindowBar(
                        start_ms=p.start_ms,
                        end_ms=p.end_ms,
                        rows=p.rows,
                        version=number,
                        state=state,
                        feature=feature,
                        psi=p.psi,
                    )
    return tuple(bars[at] for at in sorted(bars))[-MAX_WINDOWS:], trends


def _worse(state: DriftState, psi: float | None, old: WindowBar) -> bool:
    return (scale.RANK[state], psi or 0.0) > (scale.RANK[old.state], old.psi or 0.0)
