"""``/metrics``: the worker's counters in the Prometheus text format 0.0.4."""

from __future__ import annotations

import resource
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from whimbrel_agent.serving.service import SlotService
    from whimbrel_core.profile.counts import OpsCounts

_LEVELS = {"too_few": 0, "ok": 0, "notice": 1, "warn": 2, "severe": 3}


def render_metrics(services: Iterable[SlotService], waiting: int) -> bytes:
    """Return the metrics of ``services``; ``waiting`` windows are not stored by control yet."""
    lines = [
        "# HELP whimbrel_windows_waiting Closed windows and events that control has not stored yet.",
        "# TYPE whimbrel_windows_waiting gauge",
        f"whimbrel_windows_waiting {waiting}",
        "# HELP process_resident_memory_bytes Resident memory of the worker.",
        "# TYPE process_resident_memory_bytes gauge",
        f"process_resident_memory_bytes {resident_bytes()}",
        "# HELP process_cpu_seconds_total User and system CPU time of the worker.",
        "# TYPE process_cpu_seconds_total counter",
        f"process_cpu_seconds_total {_cpu_seconds():.3f}",
    ]
    measured = [
        (service, service.telemetry.ops()) for service in services if service.telemetry is not None
    ]
    families = (
        ("requests_total", "counter", "Requests by outcome.", _requests),
        ("rows_total", "counter", "Predicted rows.", _rows),
        ("labels_joined_total", "counter", "Labels joined to predictions.", _labels),
        ("drift_level", "gauge", "Highest level told: 0 ok, 1 notice, 2 warn, 3 severe.", _drift),
        ("telemetry_troubles_total", "counter", "Requests not counted.", _troubles),
        ("model_info", "gauge", "What is served.", _info),
        ("request_duration_seconds", "histogram", "Time from request to answer.", _durations),
    )
    for name, kind, text, samples in families:
        lines += [f"# HELP whimbrel_{name} {text}", f"# TYPE whimbrel_{name} {kind}"]
        for service, ops in measured:
            lines += [f"whimbrel_{sample}" for sample in samples(name, service, ops)]
    lines.append("")
    return "\n".join(lines).encode()


def resident_bytes() -> int:
    """Return this process's resident memory."""
    with open("/proc/self/statm", "rb") as file:  # noqa: PTH123 - no pathlib on the way
        return int(file.read().split()[1]) * resource.getpagesize()


def _cpu_seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def _requests(name: str, service: SlotService, ops: OpsCounts) -> Iterator[str]:
    slot = service.slot
    for outcome, count in (
        ("ok", ops.requests),
        ("rejected", ops.rejected),
        ("failed", ops.failed),
    ):
        yield f'{name}{{slot="{slot}",outcome="{outcome}"}} {count}'


def _rows(name: str, service: SlotService, _ops: OpsCounts) -> Iterator[str]:
    if service.telemetry is not None:
        yield f'{name}{{slot="{service.slot}"}} {service.telemetry.rows}'


def _labels(name: str, service: SlotService, _ops: OpsCounts) -> Iterator[str]:
    if service.telemetry is not None:
        yield f'{name}{{slot="{service.slot}"}} {service.telemetry.joined}'


def _drift(name: str, service: SlotService, _ops: OpsCounts) -> Iterator[str]:
    if service.telemetry is not None:
        yield f'{name}{{slot="{service.slot}"}} {_LEVELS[service.telemetry.drift_level]}'


def _troubles(name: str, service: SlotService, _ops: OpsCounts) -> Iterator[str]:
    if service.telemetry is not None:
        yield f'{name}{{slot="{service.slot}"}} {service.telemetry.troubles}'


def _info(name: str, service: SlotService, _ops: OpsCounts) -> Iterator[str]:
    manifest = service.engine.manifest
    yield (
        f'{name}{{slot="{service.slot}",model="{manifest.name}",version="{manifest.version}",'
        f'digest="{service.engine.digest}"}} 1'
    )


def _durations(name: str, service: SlotService, ops: OpsCounts) -> Iterator[str]:
    slot = service.slot
    seen = 0
    total_us = 0.0
    for cell, count in enumerate(ops.latency):
        seen += count
        # Counted per power of two of microseconds: the sum is that of the cells' middles.
        total_us += count * (0.75 * (1 << cell))
        if cell in range(4, 25, 2):
            yield f'{name}_bucket{{slot="{slot}",le="{(1 << cell) / 1e6:g}"}} {seen}'
    yield f'{name}_bucket{{slot="{slot}",le="+Inf"}} {seen}'
    yield f'{name}_sum{{slot="{slot}"}} {total_us / 1e6:.6f}'
    yield f'{name}_count{{slot="{slot}"}} {seen}'
