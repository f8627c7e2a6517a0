"""How these commands talk: stages on standard error, the result on standard output."""

from __future__ import annotations

import json
import re
import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

from whimbrel_core.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

_HOW_FAR = re.compile(r"([\d,]+) of ([\d,]+)")
_KILO = 1000  # decimal units, as disks are sold and networks counted
json_option = click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")


@contextmanager
def stages(*, quiet: bool) -> Iterator[Callable[[str], None]]:
    """Yield a function that shows the stage which begins, or how far it is: ``stage: 3 of 9 rows``.

    On a terminal: a line with the time for each stage that is done, and below them one that moves,
    with a bar where it is known how far it is. Otherwise: one plain line per stage, with seconds
    since the start. With ``quiet``: nothing.
    """
    if quiet:
        yield lambda _stage: None
        return
    if sys.stderr.isatty():
        with _moving() as show:
            yield show
        return
    started = time.monotonic()
    shown = [""]

    def line(stage: str) -> None:
        name = stage.partition(": ")[0]
        if name != shown[0]:
            shown[0] = name
            click.echo(f"{time.monotonic() - started:6.1f} s  {stage}", err=True)

    yield line


@contextmanager
def _moving() -> Iterator[Callable[[str], None]]:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(24),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("starting …", total=None)
        current, began = "", time.monotonic()

        def show(stage: str) -> None:
            nonlocal current, began
            name = stage.partition(": ")[0]
            if name != current:
                if current:
                    progress.print(
                        f"[green]✓[/] {current} [dim]{time.monotonic() - began:.1f} s[/]"
                    )
                current, began = name, time.monotonic()
                progress.reset(task, total=None)
            far = _HOW_FAR.search(stage)
            if far:
                done, total = (float(number.replace(",", "")) for number in far.groups())
                progress.update(task, completed=done, total=total)
            progress.update(task, description=f"{stage} …")

        yield show


def result(value: object, lines: Iterable[str], *, as_json: bool) -> None:
    """Print a result: ``value`` as one JSON object, or ``lines`` for people."""
    if as_json:
        import msgspec

        click.echo(json.dumps(msgspec.to_builtins(value), indent=2, ensure_ascii=False))
        return
    for line in lines:
        click.echo(line)


def pairs(values: Iterable[str], option: str) -> dict[str, str]:
    """Return ``KEY=VALUE`` words as a dict.

    Raises:
        UsageError: a word without ``=``, or a key given twice.
    """
    found: dict[str, str] = {}
    for text in values:
        key, equals, value = text.partition("=")
        if not equals or not key:
            raise UsageError(f"{option} {text!r} is not of the form KEY=VALUE")
        if key in found:
            raise UsageError(f"{option} gives {key!r} twice")
        found[key] = value
    return found


def size(count: float) -> str:
    """Return a number of bytes for people: 172.7 kB.

    >>> size(172_746)
    '172.7 kB'
    """
    for unit in ("B", "kB", "MB"):
        if abs(count) < _KILO:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= _KILO
    return f"{count:.1f} GB"
