"""`whimbrel fleet explain`, `replay`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from whimbrel_core.errors import UsageError
from whimbrel_server.commands.fleet.connection import connected
from whimbrel_server.commands.fleet.printing import plain, print_json, print_table, styled

if TYPE_CHECKING:
    from whimbrel_server.client import FleetClient
    from whimbrel_server.views.verdicts import ReplayView

# Of a verdict that does not stand, as of any gate that does not hold.
_DIFFERS = 5
_WIDTH = 92


@click.command(epilog="Example: whimbrel fleet explain 12")
@click.argument("alert", type=click.IntRange(1))
@connected
def explain(client: FleetClient, alert: int, as_json: bool) -> None:
    """Say what an alert found: since when, where, what else changed, what it costs."""
    import textwrap

    found = client.explain(alert)
    if as_json:
        print_json(found)
        return
    about = found.alert
    click.secho(f"alert {about.id} · {about.severity} · {about.state} · {about.kind}", bold=True)
    for paragraph in found.paragraphs:
        click.echo()
        click.secho(paragraph.title, bold=True)
        for sentence in paragraph.sentences:
            click.echo(textwrap.fill(sentence, _WIDTH, initial_indent="  ", subsequent_indent="  "))


@click.command(epilog="Example: whimbrel fleet replay --all")
@click.argument("alert", type=click.IntRange(1), required=False)
@click.option("--all", "everything", is_flag=True, help="The newest 1,000 alerts.")
@connected
def replay(client: FleetClient, alert: int | None, everything: bool, as_json: bool) -> None:
    """Work out a verdict again from what is stored, and say whether it is the same.

    The windows of its history go through the detector once more, and those that the journal still
    holds are judged anew from their counts. Ends with code 5 when something differs.
    """
    if (alert is None) is not everything:
        raise UsageError(
            "say which verdict to work out again",
            hint="give the number of an alert, or --all",
        )
    found = client.replays() if alert is None else (client.replay(alert),)
    if as_json:
        print_json(found if alert is None else found[0])
    elif not found:
        click.echo("no alert has a verdict yet")
    else:
        _show(found)
    if any(one.outcome == "differs" for one in found):
        click.get_current_context().exit(_DIFFERS)


def _show(found: tuple[ReplayView, ...]) -> None:
    rows = [(str(one.alert), styled(one.outcome), one.rule, plain(one.sentence)) for one in found]
    print_table(("alert", "outcome", "rule", "what"), rows, numbers=("alert",))
    for one in found:
        if not one.differences and not one.faults:
            continue
        click.echo()
        click.secho(f"alert {one.alert}", bold=True)
        if one.differences:
            columns = ("figure", "in the verdict", "worked out again")
            print_table(
                columns,
                [
                    (plain(d.figure), plain(str(d.recorded)), plain(str(d.recomputed)))
                    for d in one.differences
                ],
            )
        for fault in one.faults:
            click.echo(f"  {fault}")
        if one.faults_in_all > len(one.faults):
            click.echo(f"  … and {one.faults_in_all - len(one.faults)} more")
