"""The fleet page as a value: what needs attention first, then everything."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Literal

import msgspec

from whimbrel_server.views.devices import CountsView, DeviceView
from whimbrel_server.views.groups import OutlierView, RollupView
from whimbrel_server.views.health import HealthView
from whimbrel_server.views.rollouts import RolloutView
from whimbrel_server.web import attention, scale
from whimbrel_server.web.written import count

if TYPE_CHECKING:
    from whimbrel_server.port import FleetPort
    from whimbrel_server.views.alerts import AlertView
    from whimbrel_server.views.drift import DriftView

PAGE_ROWS = 50
SPARK_WINDOWS = 60
ALERTS = 8
MAX_ALERTS = 1000

Sort = Literal["worst", "name", "seen"]


class FleetQuery(msgspec.Struct, frozen=True, kw_only=True):
    """The page's state, all of it in the address."""

    q: str = ""
    state: str = ""
    sort: Sort = "worst"
    page: int = 1
    alerts: Literal["", "all"] = ""


class Tile(msgspec.Struct, frozen=True, kw_only=True):
    """One number that matters, with what it is made of."""

    name: str
    value: str
    note: str
    tone: scale.Tone = "none"
    href: str = ""


class DeviceRow(msgspec.Struct, frozen=True, kw_only=True):
    """One line of the table; ``trend`` is the worst feature's PSI by window, oldest first."""

    device: DeviceView
    freshness: str
    drift_now: float | None = None
    trend: tuple[float | None, ...] = ()


class FleetPage(msgspec.Struct, frozen=True, kw_only=True):
    """Everything on the fleet page."""

    query: FleetQuery
    health: HealthView
    tiles: tuple[Tile, ...]
    rows: tuple[DeviceRow, ...]
    matching: int
    pages: int
    devices: int
    states: dict[str, int]
    alerts: tuple[attention.Group, ...]
    alerts_open: int
    alerts_left: int
    rollups: tuple[RollupView, ...]
    outliers: tuple[OutlierView, ...]
    history: tuple[attention.Group, ...]
    rollouts: tuple[RolloutView, ...]
    coverage: CountsView
    waiting: int
    waiting_since_ms: int | None
    models: int


def fleet_page(fleet: FleetPort, query: FleetQuery) -> FleetPage:
    """Return the fleet page."""
    devices = fleet.devices()
    health = fleet.health()
    alerts, history = attention.divided(fleet.alerts("open", MAX_ALERTS), devices)
    served = sorted({(s.name, s.version) for d in devices for s in d.slots if s.version})
    together = [fleet.groups(name, version) for name, version in served]
    groups = attention.groups(alerts)
    shown_groups = groups if query.alerts == "all" else groups[:ALERTS]
    rollouts = fleet.rollouts()
    coverage = total(fleet.counts())
    chosen = [d for d in devices if _matches(d, query)]
    chosen.sort(key=_ORDER[query.sort])
    pages = max(1, -(-len(chosen) // PAGE_ROWS))
    page = min(max(query.page, 1), pages)
    shown = chosen[(page - 1) * PAGE_ROWS : page * PAGE_ROWS]
    return FleetPage(
        query=msgspec.structs.replace(query, page=page),
        health=health,
        tiles=_tiles(devices, attention.standing(alerts), rollouts, coverage),
        rows=_rows(fleet, shown),
        matching=len(chosen),
        pages=pages,
        devices=len(devices),
        states=dict(Counter(d.worst_state for d in devices)),
        alerts=shown_groups,
        alerts_open=len(attention.standing(alerts)),
        alerts_left=len(groups) - len(shown_groups),
        rollups=tuple(one for some in together for one in some.rollups),
        outliers=tuple(one for some in together for one in some.outliers),
        history=attention.groups(history),
        rollouts=tuple(r for r in rollouts if r.state in {"running", "paused", "rolling_back"}),
        coverage=coverage,
        waiting=sum(d.outbox_rows for d in devices),
        waiting_since_ms=min(
            (d.outbox_at_ms for d in devices if d.outbox_rows and d.outbox_at_ms), default=None
        ),
        # What is served, not what is published: that would read every version's history.
        models=len({s.name for d in devices for s in d.slots if s.name}),
    )


def total(counts: tuple[CountsView, ...]) -> CountsView:
    """Return the fleet's bookkeeping."""

    def of(field: str) -> int:
        return sum(getattr(c, field) for c in counts)

    return CountsView(
        device="",
        received=of("received"),
        windows=of("windows"),
        rows=of("rows"),
        merged=of("merged"),
        duplicate=of("duplicate"),
        refused=of("refused"),
        unreadable=of("unreadable"),
        lost=of("lost"),
        bytes=of("bytes"),
    )


_ORDER = {
    "worst": scale.urgency,
    "name": lambda d: d.device,
    "seen": lambda d: (d.last_seen_ms or 0, d.device),
}


def _matches(device: DeviceView, query: FleetQuery) -> bool:
    if query.state and query.state not in {device.worst_state, scale.freshness(device)}:
        return False
    text = " ".join(
        (
            device.device,
            *(f"{k}={w}" for k, w in device.labels.items()),
            *(f"{s.name} {s.version} {s.phase}" for s in device.slots),
        )
    )
    return all(part in text.lower() for part in query.q.lower().split())


def _rows(fleet: FleetPort, devices: list[DeviceView]) -> tuple[DeviceRow, ...]:
    judged: dict[tuple[str, str, str], DriftView] = {}
    for model in {s.name for d in devices for s in d.slots if s.name}:
        for view in fleet.drift(model, level="device"):
            if view.against == "baseline":
                judged[view.subject, view.name, view.version] = view
    rows = []
    for device in devices:
        trend: tuple[float | None, ...] = ()
        now = None
        for slot in device.slots:
            found = judged.get((device.device, slot.name, slot.version))
            if found is None or trend:
                continue
            now = max(
                (f.psi_debiased for f in found.features if f.psi_debiased is not None), default=None
            )
            trend = _trend(fleet, found)
        rows.append(
            DeviceRow(device=device, freshness=scale.freshness(device), drift_now=now, trend=trend)
        )
    return tuple(rows)


def _trend(fleet: FleetPort, view: DriftView) -> tuple[float | None, ...]:
    length = max(view.window_end_ms - view.window_start_ms, 1)
    series = fleet.drift_series(
        view.name,
        view.version,
        device=view.subject,
        since_ms=view.window_end_ms - SPARK_WINDOWS * length,
    )
    worst: dict[int, float] = {}
    for points in series.values():
        for p in points:
            if p.psi is not None:
                worst[p.start_ms] = max(worst.get(p.start_ms, 0.0), p.psi)
    return tuple(round(worst[at], 4) for at in sorted(worst))[-SPARK_WINDOWS:]


def _tiles(
    devices: tuple[DeviceView, ...],
    alerts: tuple[AlertView, ...],
    rollouts: tuple[RolloutView, ...],
    coverage: CountsView,
) -> tuple[Tile, ...]:
    online = sum(d.online for d in devices)
    silent = len(devices) - online
    drifting = sum(scale.RANK[d.worst_state] >= scale.RANK["warn"] for d in devices)
    worst = scale.worst(d.worst_state for d in devices)
    severe = sum(a.severity == "severe" for a in alerts)
    moving = [r for r in rollouts if r.state in {"running", "paused", "rolling_back"}]
    serving = Counter(f"{s.name} {s.version}" for d in devices for s in d.slots if s.version)
    common = serving.most_common(1)
    waiting = sum(d.outbox_rows for d in devices)
    return (
        Tile(
            name="Devices online",
            value=f"{online} / {len(devices)}",
            note=f"{silent} not connected"
            if silent
            else ("all connected" if devices else "none enrolled"),
            tone="warn" if silent else ("ok" if devices else "none"),
            href="?state=offline#devices" if silent else "",
        ),
        Tile(
            name="Drifting",
            value=count(drifting),
            note="nothing judged yet"
            if worst == "too_few"
            else f"worst state: {scale.word(worst)}",
            tone=scale.tone(worst),
            href=f"?state={worst}#devices" if drifting else "",
        ),
        Tile(
            name="Open alerts",
            value=count(len(alerts)),
            note=f"{severe} severe" if severe else "none severe",
            tone="severe" if severe else ("warn" if alerts else "ok"),
            href="#alerts" if alerts else "",
        ),
        Tile(
            name="Most served",
            value=common[0][0].rpartition(" ")[2] if common else "–",
            note=f"{common[0][0].rpartition(' ')[0]} on {common[0][1]} of {len(devices)}; {len(serving)} version{'s' if len(serving) != 1 else ''} in use"
            if common
            else "nothing is served yet",
            tone="ok" if len(serving) == 1 else ("notice" if serving else "none"),
        ),
        Tile(
            name="Rollouts",
            value=count(len(moving)),
            note=f"{moving[0].model} {moving[0].version}: {scale.word(moving[0].state)}"
            if moving
            else "none under way",
            tone="busy" if moving else "none",
            href="/rollouts",
        ),
        Tile(
            name="Windows",
            value=count(coverage.windows),
            note=f"{count(coverage.lost)} missing · {count(waiting)} waiting on devices",
            tone="warn" if coverage.lost else ("ok" if coverage.windows else "none"),
            href="#coverage",
        ),
    )
