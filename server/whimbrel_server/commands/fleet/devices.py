"""`whimbrel fleet devices`, `label`, `assign`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from whimbrel_server.commands.fleet.connection import connected, pairs
from whimbrel_server.commands.fleet.printing import (
    assignments,
    plain,
    print_json,
    print_table,
    styled,
)

if TYPE_CHECKING:
    from whimbrel_server.client import FleetClient
    from whimbrel_server.views.devices import DeviceView


@click.command(epilog="Example: whimbrel fleet devices --label ring=canary")
@click.argument("device", required=False)
@click.option("--label", "labels", multiple=True, metavar="KEY=VALUE", help="Only with this label.")
@connected
def devices(
    client: FleetClient, device: str | None, labels: tuple[str, ...], as_json: bool
) -> None:
    """List devices, or show one."""
    wanted = pairs(labels, "label")
    found = (client.device(device),) if device else client.devices()
    found = tuple(d for d in found if wanted.items() <= d.labels.items())
    if as_json:
        print_json(found[0] if device and found else found)
        return
    show(found)


def show(found: tuple[DeviceView, ...]) -> None:
    """Print devices as a table, or what to do when there are none."""
    from whimbrel_server.web.written import moment

    if not found:
        click.echo("no device; enrol one: whimbrel fleet enrol DEVICE --out DIR")
        return
    rows = []
    for d in found:
        serving = ", ".join(f"{s.slot}: {s.name} {s.version}".rstrip() for s in d.slots)
        wanted = [s for s in d.slots if s.wanted_version and s.wanted_digest != s.digest]
        rows.append(
            (
                plain(d.device),
                styled("online" if d.online else "offline" if d.last_seen_ms else "not seen yet"),
                plain(serving) or "–",
                plain(", ".join(f"{s.wanted_version} ({s.phase})" for s in wanted)),
                styled(d.worst_state) + (f" {plain(d.worst_feature)}" if d.worst_feature else ""),
                moment(d.last_window_end_ms),
                f"{d.outbox_rows:,}",
                plain(assignments(d.labels)),
            )
        )
    columns = (
        "device",
        "connection",
        "serving",
        "moving to",
        "drift",
        "newest window",
        "waiting",
        "labels",
    )
    print_table(columns, rows, numbers=("waiting",))


@click.command(epilog="Example: whimbrel fleet label lga site=north ring=canary")
@click.argument("device")
@click.argument("labels", nargs=-1, required=True, metavar="KEY=VALUE...")
@connected
def label(client: FleetClient, device: str, labels: tuple[str, ...], as_json: bool) -> None:
    """Set labels of a device; KEY= removes one."""
    changed = client.label(device, pairs(labels, "label"))
    if as_json:
        print_json(changed)
        return
    shown = assignments(changed.labels) or "no labels"
    click.echo(f"{changed.device}: {shown}")


@click.command(epilog="Example: whimbrel fleet assign lga flights flights 1.0.0")
@click.argument("device")
@click.argument("slot")
@click.argument("model")
@click.argument("version")
@connected
def assign(
    client: FleetClient, *, device: str, slot: str, model: str, version: str, as_json: bool
) -> None:
    """Assign a version to one device's slot directly, without waves or gates."""
    changed = client.assign(device, slot, model, version)
    if as_json:
        print_json(changed)
        return
    click.echo(
        f"{device} was asked to serve {model} {version} in slot {slot} "
        f"(revision {changed.revision_desired}); see 'whimbrel fleet devices {device}'"
    )
