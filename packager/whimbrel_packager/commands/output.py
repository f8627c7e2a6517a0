"""How these commands talk: stages on standard error, the result on standard output."""

from __future__ import annotations

import json
import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

from whimbrel_core.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

_KILO = 1000  # decimal units, as disks are sold and networks counted
json_option = click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")


@contextmanager
def stages(*, quiet: bool) -> Iterator[Callable[[str], None]]:
    """Yield a function that shows the stage which begins.

    On a terminal: one moving line that goes away at the end. Otherwise: one plain line per stage,
    with seconds since the start. With ``quiet``: nothing.
    """
    if quiet:
        yield lambda _stage: None
        return
    if sys.stderr.isatty():
        from rich.console import Console

        with Console(stderr=True).status("starting …") as status:
            yield lambda stage: status.update(f"{stage} …")
        return
    started = time.monotonic()
    yield lambda stage: click.echo(f"{time.monotonic() - started:6.1f} s  {stage}", err=True)


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
