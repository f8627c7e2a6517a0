"""`whimbrel fleet alerts`, `acknowledge`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from whimbrel_server.commands.fleet.connection import connected
from whimbrel_server.commands.fleet.printing import plain, print_json, print_table, styled

if TYPE_CHECKING:
    from whimbrel_server.client import FleetClient


@click.command(epilog="Example: whimbrel fleet alerts --state open")
@click.option("--state", type=click.Choice(["open", "acknowledged", "closed"]), help="Only these.")
@click.option("--limit", default=100, show_default=True, type=click.IntRange(1, 1000))
@connected
def alerts(client: FleetClient, state: str | None, limit: int, as_json: bool) -> None:
    """List alerts, newest first."""
    from whimbrel_server.web.written import moment

    found = client.alerts(state, limit)
    if as_json:
        print_json(found)
        return
    if not found:
        click.echo(f"no {state} alerts" if state else "no alerts")
        return
    rows = [
        (str(a.id), moment(a.at_ms), styled(a.severity), a.kind, styled(a.state), plain(a.message))
        for a in found
    ]
    print_table(("id", "at (UTC)", "severity", "kind", "state", "what"), rows, numbers=("id",))


@click.command(epilog="Example: whimbrel fleet acknowledge 12")
@click.argument("alert", type=click.IntRange(1))
@connected
def acknowledge(client: FleetClient, alert: int, as_json: bool) -> None:
    """Mark an alert as seen."""
    changed = client.acknowledge(alert)
    if as_json:
        print_json(changed)
        return
    click.echo(f"alert {changed.id} is {changed.state}")
