"""``GET /metrics``: the fleet in Prometheus' text format, made when it is asked for.

Per-device series stop at `MAX_DEVICES`: a million of them would hurt whoever scrapes; the totals
stay complete.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from litestar import Response, get
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from whimbrel_server.api.access import may_read
from whimbrel_server.api.dependency import Fleet
from whimbrel_server.port import FleetPort

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from prometheus_client.metrics_core import Metric

    from whimbrel_server.views.devices import CountsView, DeviceView

MAX_DEVICES = 5000
_STATES = {"too_few": 0, "ok": 1, "notice": 2, "warn": 3, "severe": 4}


class FleetCollector(Collector):
    """Reads the fleet once per scrape."""

    def __init__(self, fleet: FleetPort) -> None:
        self._fleet = fleet

    def collect(self) -> Iterator[Metric]:
        """Yield one family after the other."""
        devices = self._fleet.devices()
        yield from _devices(devices)
        yield from _ingest(self._fleet.counts())
        yield from self._work()

    def _work(self) -> Iterator[Metric]:
        alerts = GaugeMetricFamily(
            "whimbrel_alerts_open",
            "Open alerts (at most 1000 are counted).",
            labels=["kind", "severity"],
        )
        for (kind, severity), number in sorted(
            Counter((a.kind, a.severity) for a in self._fleet.alerts("open", 1000)).items()
        ):
            alerts.add_metric([kind, severity], number)
        yield alerts
        rollouts = GaugeMetricFamily("whimbrel_rollouts", "Rollouts by state.", labels=["state"])
        for state, number in sorted(Counter(r.state for r in self._fleet.rollouts()).items()):
            rollouts.add_metric([state], number)
        yield rollouts
        health = self._fleet.health()
        for name, text, value in (
            ("whimbrel_server_ok", "1 while every part works.", float(health.ok)),
            ("whimbrel_broker_connected", "1 while connected.", float(health.broker_connected)),
            ("whimbrel_uptime_seconds", "Since the server started.", health.uptime_s),
            ("whimbrel_windows_per_second", "Recent rate of ingest.", health.windows_per_s),
            ("whimbrel_judged_behind", "Windows not judged yet.", health.judged_behind),
        ):
            yield GaugeMetricFamily(name, text, value=value)


def _devices(devices: Sequence[DeviceView]) -> Iterator[Metric]:
    shown = devices[:MAX_DEVICES]
    total = GaugeMetricFamily("whimbrel_devices", "Enrolled devices.", labels=["online"])
    for online, number in sorted(Counter(d.online for d in devices).items()):
        total.add_metric([str(online).lower()], number)
    yield total
    columns: tuple[tuple[str, str, Callable[[DeviceView], float]], ...] = (
        ("whimbrel_device_online", "1 while connected.", lambda d: float(d.online)),
        ("whimbrel_device_outbox_rows", "Rows waiting on the device.", lambda d: d.outbox_rows),
        (
            "whimbrel_device_drift_state",
            "Worst drift: 0 too few rows, 1 ok, 2 notice, 3 warn, 4 severe.",
            lambda d: _STATES[d.worst_state],
        ),
        (
            "whimbrel_device_last_window_end_seconds",
            "Event time of the newest window.",
            lambda d: (d.last_window_end_ms or 0) / 1e3,
        ),
    )
    for name, text, read in columns:
        gauge = GaugeMetricFamily(name, text, labels=["device"])
        for device in shown:
            gauge.add_metric([device.device], read(device))
        yield gauge
    serving = GaugeMetricFamily(
        "whimbrel_devices_serving", "Devices by what they serve.", labels=["model", "version"]
    )
    on = Counter((s.name, s.version) for d in devices for s in d.slots if s.version)
    for (model, version), number in sorted(on.items()):
        serving.add_metric([model, version], number)
    yield serving


def _ingest(counts: Sequence[CountsView]) -> Iterator[Metric]:
    for field, text in (
        ("received", "Messages committed."),
        ("windows", "Windows committed."),
        ("rows", "Rows in committed windows."),
        ("duplicate", "Messages that came again and were ignored."),
        ("refused", "Messages that could not be used."),
        ("bytes", "Bytes of committed messages."),
    ):
        counter = CounterMetricFamily(f"whimbrel_ingest_{field}", text, labels=["device"])
        for one in counts[:MAX_DEVICES]:
            counter.add_metric([one.device], getattr(one, field))
        yield counter
    lost = GaugeMetricFamily(
        "whimbrel_ingest_missing", "Sequence numbers that have not come.", labels=["device"]
    )
    for one in counts[:MAX_DEVICES]:
        lost.add_metric([one.device], one.lost)
    yield lost


@get(
    "/metrics",
    guards=[may_read],
    tags=["server"],
    summary="Prometheus metrics",
    media_type="text/plain",
    sync_to_thread=True,
)
def metrics(fleet: Fleet) -> Response[bytes]:
    """Return the fleet in Prometheus' text format."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(FleetCollector(fleet))
    return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)
