"""``whimbrel profile changes``: when columns of numbers changed, and from what to what."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from whimbrel_packager.commands import output
from whimbrel_packager.commands.profile.made import FILE, columns_option, progress

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from whimbrel_packager.profiles.changes import Changes, Found

_WORDS = {
    ("level", 1): "up",
    ("level", -1): "down",
    ("spread", 1): "wider",
    ("spread", -1): "narrower",
}


@click.command(epilog="Example: whimbrel profile changes latency.csv --columns p95 --label hour")
@click.argument("data", type=FILE)
@columns_option
@click.option(
    "--label", default="", metavar="NAME", help="Column that names rows: a date, a build."
)
@click.option("--together", is_flag=True, help="The columns change together: one list for all.")
@click.option(
    "--arl",
    default=720.0,
    show_default=True,
    help="Rows per false alarm: n rows without a change have one with probability n/ARL at most.",
)
@click.option(
    "--trends/--no-trends",
    default=True,
    show_default=True,
    help="Whether a steady trend is ordinary. If not, smaller steps are found.",
)
@click.option(
    "--noise-floor",
    default=0.0,
    show_default=True,
    help="Standard deviation, in the column's unit, below which nothing is looked for.",
)
@output.json_option
def changes(  # noqa: PLR0917 - one parameter for each option
    data: Path,
    columns: tuple[str, ...],
    label: str,
    together: bool,
    arl: float,
    trends: bool,
    noise_floor: float,
    as_json: bool,
) -> None:
    """Find when columns of DATA, a file or a folder, changed; its rows are in the order of time.

    Nothing has to be known of a column beforehand: no level, noise or trend. A change has enough
    evidence when no steady trend, correlated noise or random walk explains the rows as well.
    """
    from whimbrel_core.profile.watching.series import SeriesSettings
    from whimbrel_packager.profiles.changes import find
    from whimbrel_packager.profiles.folder import opened

    settings = SeriesSettings(arl=arl, trends=trends, noise_floor=noise_floor)
    with progress(quiet=as_json) as stage:
        found = find(opened(data), columns, settings, label=label, together=together, stage=stage)
    output.result({"data": data.name, "columns": found}, _lines(found), as_json=as_json)


def _lines(found: Iterable[Changes]) -> Iterator[str]:
    for one in found:
        number = len(one.changes)
        said = f"{number} change{'' if number == 1 else 's'}" if number else "no change"
        yield click.style(f"{', '.join(one.columns)}: {said} in {one.rows:,} rows", bold=True)
        several = len(one.columns) > 1
        yield from (_line(change, change.column if several else "") for change in one.changes)


def _line(one: Found, column: str) -> str:
    where = f"row {one.row:,}" + (f" ({one.label})" if one.label else "")
    told = f"told at row {one.told_row:,}"
    if one.kind == "level":
        what = f"from {one.before:.6g} to {one.after:.6g}"
    else:
        what = f"sd from {one.sd_before:.3g} to {one.sd_after:.3g}"
    what = f"{column} {what}" if column else what
    return f"  {where:<24}  {_WORDS[one.kind, one.direction]:<8}  {what}, {told}"
