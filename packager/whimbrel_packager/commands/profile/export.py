"""``whimbrel profile export``: a profile in another tool's format."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from whimbrel_packager.commands import output
from whimbrel_packager.commands.profile.made import FILE, progress, read, written

if TYPE_CHECKING:
    from pathlib import Path

    from whimbrel_core.profile.building.dataset import DatasetProfile

_FORMATS = click.Choice(["influx", "prometheus", "parquet", "json"])


@click.command(epilog="Example: whimbrel profile export january.wprof --format prometheus --out "
               "/var/lib/node_exporter/january.prom")  # fmt: skip
@click.argument("profile", type=FILE)
@click.option("--format", "form", type=_FORMATS, required=True, help="influx: line protocol; "
              "prometheus: text exposition; parquet: a file with a line per cell and a second one "
              "with a line per feature; json: both in one object.")  # fmt: skip
@click.option("--out", type=FILE, help="The file; without it the text is printed.")
@click.option("--tag", "tags", multiple=True, metavar="KEY=VALUE", help="A tag or label of every line "
              "(repeat for several). 'profile' is the profile's name unless it is given.")  # fmt: skip
@click.option("--cells", is_flag=True, help="The rows of every cell, too (influx, prometheus).")
def export(profile: Path, form: str, out: Path | None, tags: tuple[str, ...], cells: bool) -> None:
    """Write PROFILE for InfluxDB, Prometheus, or tools that read Parquet or JSON.

    PROFILE is a profile, a bundle, a baseline, or a data file, which is profiled first.
    """
    from whimbrel_core.errors import UsageError

    named = output.pairs(tags, "--tag")
    with progress(quiet=out is None) as stage:
        found = read(profile, stage=stage)
    if form == "parquet":
        from whimbrel_packager.profiles import parquet

        if out is None:
            raise UsageError("Parquet is no text to print", hint="give a file with --out")
        if out.is_dir() or (out.exists() and profile.exists() and out.samefile(profile)):
            raise UsageError(f"{out} cannot be written over", hint="give another --out")
        for path in parquet.write(out, found):
            click.echo(str(path))
        return
    text = rendered(found, form, {"profile": found.name, **named}, cells=cells)
    if out is None:
        click.echo(text, nl=False)
        return
    written(out, text.encode(), profile)
    click.echo(f"{out}  {output.size(len(text.encode()))}")


def rendered(found: DatasetProfile, form: str, tags: dict[str, str], *, cells: bool) -> str:
    """Return a profile as text of a format. Raises `UsageError` for a tag that cannot be one."""
    import msgspec

    from whimbrel_core.profile.exports import influx, prometheus, table

    if form == "influx":
        return "".join(f"{line}\n" for line in influx.lines(found, tags, cells=cells))
    if form == "prometheus":
        return prometheus.text(found, tags, cells=cells)
    value = {
        "name": found.name,
        "rows": found.rows,
        "tags": tags,
        "features": table.lines(table.summary(found)),
        "cells": table.lines(table.cells(found)),
    }
    return msgspec.json.format(msgspec.json.encode(value), indent=2).decode() + "\n"
