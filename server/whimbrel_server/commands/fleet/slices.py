"""`whimbrel fleet slices`."""

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
    from whimbrel_server.views.slices import SliceView

_NAMED = 3


@click.command(epilog="Example: whimbrel fleet slices flights --subject lga")
@click.argument("model")
@click.option("--version", help="Of this version; else of the newest release.")
@click.option(
    "--subject", default="fleet", show_default=True, help="A device, key=value, or fleet."
)
@connected
def slices(
    client: FleetClient, *, model: str, version: str | None, subject: str, as_json: bool
) -> None:
    """Show the declared slices over their newest seven days: drift and quality of each."""
    from whimbrel_server.web.written import count, percent, stat

    found = client.slices(model, version, subject)
    if as_json:
        print_json(found)
        return
    if not found:
        click.echo(
            f"no slices of {model} for {subject}: none is declared, or nothing has come yet; they are "
            "declared in the recipe, [[profile.slices]]"
        )
        return
    rows = [
        (
            plain(one.name),
            plain(one.condition),
            count(one.rows),
            f"{percent(one.share)} ({percent(one.usual)})",
            styled(one.state),
            plain(moved(one)),
            expected(one.losses),
            stat(one.auc_realised if one.auc_realised is not None else one.accuracy_realised),
            count(one.labelled_rows),
        )
        for one in found
    ]
    columns = (
        "slice", "rows with", "rows", "share (usual)", "state", "moved", "expected", "labels say",
        "labels",
    )  # fmt: skip
    print_table(columns, rows, numbers=("rows", "share (usual)", "labels say", "labels"))


def moved(one: SliceView) -> str:
    """Return the features that moved in a slice, the first few."""
    found = [f for f in one.features if f.state not in {"ok", "too_few"}]
    shown = ", ".join(f"{f.feature} PSI {f.psi:.2f}" for f in found[:_NAMED])
    return shown + (f" and {len(found) - _NAMED} more" if len(found) > _NAMED else "")
