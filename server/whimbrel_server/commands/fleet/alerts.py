"""`whimbrel fleet alerts`, `acknowledge`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from whimbrel_server.commands.fleet.connection import connected
from whimbrel_server.commands.fleet.printing import (
    expected,
    plain,
    print_json,
    print_table,
    styled,
)

if TYPE_CHECKING:
    from whimbrel_server.client import FleetClient
    from whimbrel_server.views.alerts import AlertView


@click.command(epilog="Example: whimbrel fleet alerts --state open")
@click.option("--state", type=click.Choice(["open", "acknowledged", "closed"]), help="Only these.")
@click.option(
    "--sort",
    type=click.Choice(["worst", "newest"]),
    default="worst",
    show_default=True,
    help="Worst: open before closed, then by severity, then by what it is expected to cost.",
)
@click.option("--limit", default=100, show_default=True, type=click.IntRange(1, 1000))
@click.option("--devices", "each", is_flag=True, help="Where one alert stands for many devices, "
              "those of the devices, too.")  # fmt: skip
@connected
def alerts(
    client: FleetClient, *, state: str | None, sort: str, limit: int, each: bool, as_json: bool
) -> None:
    """List alerts, worst first; 'whimbrel fleet explain' says why."""
    from whimbrel_server.web.written import moment

    found = client.alerts(state, limit)
    if sort == "worst":
        found = tuple(sorted(found, key=_urgency))
    if as_json:
        print_json(found)
        return
    if not found:
        click.echo(f"no {state} alerts" if state else "no alerts")
        return
    causes = {a.cause for a in found if a.cause}
    standing = [a for a in found if each or a.under not in causes]
    rows = [
        (
            str(a.id),
            moment(a.at_ms),
            styled(a.severity),
            a.kind,
            styled(a.state),
            expected((a.loss,) if a.loss else ()),
            plain(a.message),
        )
        for a in standing
    ]
    columns = ("id", "at (UTC)", "severity", "kind", "state", "expected", "what")
    print_table(columns, rows, numbers=("id",))
    if len(standing) < len(found):
        click.echo(f"{len(found) - len(standing)} more that stand under these: --devices")


def _urgency(alert: AlertView) -> tuple[int, int, float, int]:
    loss = alert.loss.loss if alert.loss and alert.loss.reading == "costly" else 0.0
    order = ("closed", "acknowledged", "open"), ("notice", "warn", "severe")
    return (
        -order[0].index(alert.state),
        -order[1].index(alert.severity),
        -loss,
        -alert.raised_ms,
    )


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
