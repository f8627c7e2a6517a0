"""`whimbrel fleet status`, `events`, `audit`."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import click
import msgspec

from whimbrel_server.commands.fleet.connection import connected
from whimbrel_server.commands.fleet.printing import (
    assignments,
    plain,
    print_json,
    print_table,
    styled,
)

if TYPE_CHECKING:
    from whimbrel_server.client import FleetClient

_LIMIT = click.IntRange(1, 1000)


@click.command(epilog="Example: whimbrel fleet status --json")
@connected
def status(client: FleetClient, as_json: bool) -> None:
    """Show in short whether server and fleet are well."""
    from whimbrel_server.web.written import count, duration

    health, devices, counts = client.health(), client.devices(), client.counts()
    alerts, rollouts = client.alerts("open", 1000), client.rollouts()
    moving = [r for r in rollouts if r.state in {"running", "paused", "rolling_back"}]
    states = Counter(d.worst_state for d in devices)
    if as_json:
        print_json(
            {
                "health": msgspec.to_builtins(health),
                "devices": len(devices),
                "online": sum(d.online for d in devices),
                "drift": dict(states),
                "alerts_open": len(alerts),
                "rollouts": [{"id": r.id, "state": r.state} for r in moving],
                "windows": sum(c.windows for c in counts),
                "duplicate": sum(c.duplicate for c in counts),
                "refused": sum(c.refused for c in counts),
                "missing": sum(c.lost for c in counts),
            }
        )
        return
    parts = ", ".join(f"{n} {styled(s)}" for s, n in states.most_common()) or "none yet"
    rows = [
        (
            "server",
            (
                f"{styled('ok') if health.ok else styled('failed')}, version {health.version}, "
                f"up {duration(health.uptime_s)}"
            ),
        ),
        *(("problem", plain(p)) for p in health.problems),
        ("devices", f"{len(devices)}, {sum(d.online for d in devices)} online"),
        ("drift", parts),
        ("alerts", f"{len(alerts)} open"),
        *(
            (
                "rollout",
                f"{r.id}: {plain(r.model)} {r.version} {styled(r.state)}, wave {r.wave + 1} of {len(r.waves)}",
            )
            for r in moving
        ),
        (
            "windows",
            (
                f"{count(sum(c.windows for c in counts))} stored, {count(sum(c.duplicate for c in counts))} "
                f"came again, {count(sum(c.refused for c in counts))} refused, "
                f"{count(sum(c.lost for c in counts))} missing"
            ),
        ),
    ]
    print_table(("", ""), rows)


@click.command(epilog="Example: whimbrel fleet events --device lga")
@click.option("--device", help="Only of this device.")
@click.option("--limit", default=50, show_default=True, type=_LIMIT)
@connected
def events(client: FleetClient, device: str | None, limit: int, as_json: bool) -> None:
    """List what devices told: update steps, local alarms."""
    from whimbrel_server.web.written import moment, short

    found = client.events(device, limit)
    if as_json:
        print_json(found)
        return
    if not found:
        click.echo("no events yet")
        return
    rows = [
        (
            moment(e.at_ms),
            plain(e.device),
            plain(e.kind),
            plain(e.slot),
            short(e.digest),
            plain(assignments(e.detail)),
        )
        for e in found
    ]
    print_table(("at (UTC)", "device", "kind", "slot", "digest", "detail"), rows)


@click.command(epilog="Example: whimbrel fleet audit --limit 20")
@click.option("--limit", default=50, show_default=True, type=_LIMIT)
@connected
def audit(client: FleetClient, limit: int, as_json: bool) -> None:
    """List who did what."""
    from whimbrel_server.web.written import moment

    found = client.audit(limit)
    if as_json:
        print_json(found)
        return
    rows = [
        (
            moment(a.at_ms),
            plain(a.actor),
            plain(a.action),
            plain(a.subject),
            plain(assignments(a.detail)),
        )
        for a in found
    ]
    print_table(("at (UTC)", "who", "did", "to", "detail"), rows)
