"""How commands print what the server answered: JSON, tables, states in their colours."""

from __future__ import annotations

import io
import sys
from typing import TYPE_CHECKING

import click
import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from whimbrel_server.views.drift import LossView

_PIPE_CHARS = 2000
_STYLES = {
    "ok": "green",
    "same": "green",
    "harmless": "green",
    "better": "green",
    "costly": "bold red",
    "unclear": "yellow",
    "incomplete": "yellow",
    "differs": "bold red",
    "serving": "green",
    "passed": "green",
    "completed": "green",
    "online": "green",
    "notice": "yellow",
    "paused": "yellow",
    "acknowledged": "yellow",
    "warn": "dark_orange",
    "offline": "dark_orange",
    "rolling_back": "dark_orange",
    "severe": "bold red",
    "failed": "bold red",
    "rolled_back": "bold red",
    "open": "bold red",
    "running": "cyan",
    "judging": "cyan",
    "assigning": "cyan",
}


def print_json(value: object) -> None:
    """Print a value as indented JSON with a final newline."""
    click.echo(msgspec.json.format(msgspec.json.encode(value), indent=2).decode())


def print_table(
    columns: Sequence[str], rows: Iterable[Sequence[str]], *, numbers: Sequence[str] = ()
) -> None:
    """Print a table; columns in ``numbers`` are aligned to the right."""
    from rich.console import Console
    from rich.table import Table

    table = Table(
        box=None,
        pad_edge=False,
        header_style="bold",
        padding=(0, 2, 0, 0),
        show_header=any(columns),
    )
    for column in columns:
        table.add_column(
            column,
            justify="right" if column in numbers else "left",
            no_wrap=column in numbers,
            overflow="fold",
        )
    for row in rows:
        table.add_row(*row)
    if sys.stdout.isatty():
        Console(highlight=False).print(table)
        return
    # A pipe gets whole lines without padding: whoever cuts them is a program.
    text = io.StringIO()
    Console(file=text, width=_PIPE_CHARS, highlight=False).print(table)
    for line in text.getvalue().splitlines():
        click.echo(line.rstrip())


def expected(losses: Sequence[LossView]) -> str:
    """Return what drifted windows are expected to cost, in short; "" where nothing is expected."""
    from whimbrel_server.web.written import stat

    if not losses:
        return ""
    one = losses[0]
    shown = f"{one.measure} {stat(one.reference)} → {stat(one.current)}"
    return f"{plain(shown)} {styled(one.reading)}"


def plain(text: str) -> str:
    """Return text from outside so that rich prints it as it is."""
    from rich.markup import escape

    return escape(text)


def styled(state: str) -> str:
    """Return a state with its colour, which a terminal shows and a pipe does not."""
    style = _STYLES.get(state)
    shown = plain(state.replace("_", " "))
    return f"[{style}]{shown}[/]" if style else shown


def assignments(values: Mapping[str, object]) -> str:
    """Return ``key=value`` of each, in the order of the keys."""
    return " ".join(f"{key}={value}" for key, value in sorted(values.items()))
