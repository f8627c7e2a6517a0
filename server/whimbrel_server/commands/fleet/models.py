"""`whimbrel fleet models`, `drift`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from whimbrel_server.commands.fleet.connection import connected
from whimbrel_server.commands.fleet.printing import plain, print_json, print_table, styled

if TYPE_CHECKING:
    from whimbrel_server.client import FleetClient


@click.command(epilog="Example: whimbrel fleet models flights")
@click.argument("name", required=False)
@connected
def models(client: FleetClient, name: str | None, as_json: bool) -> None:
    """List published models and versions, or show one model."""
    from whimbrel_server.web.written import count, stat

    found = (client.model(name),) if name else client.models()
    if as_json:
        print_json(found[0] if name else found)
        return
    if not found:
        click.echo("no model is published; see 'whimbrel publish --help' on the build machine")
        return
    rows = [
        (
            plain(m.name),
            v.version,
            styled(v.state) if v.trusted else styled("failed") + f" {plain(v.problem)}",
            str(len(v.devices_serving)),
            count(v.rows),
            count(v.labelled_rows),
            stat(v.auc_realised),
            stat(v.auc_expected),
        )
        for m in found
        for v in m.versions
    ]
    columns = ("model", "version", "state", "devices", "rows", "labelled", "AUC", "AUC expected")
    print_table(columns, rows, numbers=columns[3:])


@click.command(epilog="Example: whimbrel fleet drift flights --subject lga")
@click.argument("model")
@click.option("--version", help="Only this version.")
@click.option("--level", type=click.Choice(["device", "cohort", "fleet"]), help="Only this level.")
@click.option("--subject", help="A device, key=value, or fleet.")
@click.option("--all", "everything", is_flag=True, help="Features that are ok, too.")
@connected
def drift(
    client: FleetClient,
    *,
    model: str,
    version: str | None,
    level: str | None,
    subject: str | None,
    everything: bool,
    as_json: bool,
) -> None:
    """Show how far inputs and outputs have moved, worst first: evidence and effect."""
    from whimbrel_server.web.written import period, stat

    found = client.drift(model, version, level, subject)
    if as_json:
        print_json(found)
        return
    rows = [
        (
            plain(v.subject),
            v.version,
            period(v.window_start_ms, v.window_end_ms),
            plain(f.feature),
            styled(f.state) + (" alarm" if f.alarm else ""),
            stat(f.psi_debiased),
            stat(f.w1_sd),
            stat(f.log_e),
        )
        for v in found
        for f in v.features
        if everything or f.state not in {"ok", "too_few"}
    ]
    if not rows:
        click.echo(
            f"{len(found)} subjects are judged and none has moved (--all shows every feature)"
            if found
            else f"nothing is judged yet for {model}"
        )
        return
    columns = ("subject", "version", "newest window", "feature", "state", "PSI", "W1/sd", "log e")
    print_table(columns, rows, numbers=columns[5:])
