"""`whimbrel fleet words`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from whimbrel_server.commands.fleet.connection import connected
from whimbrel_server.commands.fleet.printing import plain, print_json, print_table

if TYPE_CHECKING:
    from whimbrel_server.client import FleetClient


@click.command(epilog="Example: whimbrel fleet words flights --version 1.1.0")
@click.argument("model")
@click.option("--version", help="Default: the newest release.")
@connected
def words(client: FleetClient, *, model: str, version: str | None, as_json: bool) -> None:
    """Show words that a model's categories lack, once enough devices have met them.

    Devices tell new words sealed: one can be read here when as many devices have met it as the
    bundle asks for (drift.release_words), and not before.
    """
    from whimbrel_server.web.written import count, moment

    found = client.words(model, version)
    if as_json:
        print_json(found)
        return
    rows = [
        (plain(w.feature), plain(w.word), count(w.devices), moment(w.first_ms)) for w in found.words
    ]
    if rows:
        print_table(("feature", "word", "devices", "first met"), rows, numbers=("devices",))
    else:
        click.echo(f"no new word of {model} {found.version} can be read")
    for feature, number in sorted(found.sealed.items()):
        click.echo(
            f"{plain(feature)}: {number} more {'is' if number == 1 else 'are'} sealed, "
            f"met by fewer than {found.needed} devices"
        )
    if not found.needed:
        click.echo("this version's devices tell no new words (drift.release_words = 0)")
