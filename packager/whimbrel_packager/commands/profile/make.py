"""``whimbrel profile make``: a profile of a data file."""

from __future__ import annotations

from pathlib import Path

import click

from whimbrel_packager.commands import output
from whimbrel_packager.commands.profile.made import FILE, columns_option, progress, read, written


@click.command(epilog="Example: whimbrel profile make february.csv --like flights-1.0.0.whim")
@click.argument("data", type=FILE)
@click.option("--like", type=FILE, help="Count in the cells of this profile, bundle, baseline or data "
              "file, so that both add up and compare exactly. Without it, cells are quantiles of "
              "DATA itself.")  # fmt: skip
@click.option("--out", type=FILE, help="The profile. Default: the name of DATA with .wprof, in this "
              "folder.")  # fmt: skip
@columns_option
@output.json_option
def make(
    data: Path, like: Path | None, out: Path | None, columns: tuple[str, ...], as_json: bool
) -> None:
    """Make a profile of DATA: how its columns are distributed, as counts.

    DATA is a file, or a folder of files that are one table, read in the order of their names. It is
    read in pieces, so it may be larger than memory: twice, or once with --like. Also a whylogs
    summary (profile.view().to_pandas() saved as .csv or .parquet) makes a profile, a coarse one: ten
    quantiles where data have a hundred cells, each off by about 2 % of the rows.
    """
    from whimbrel_packager.profiles.files import suffix_of

    named = data.name or data.resolve().name
    target = out or Path(named[: len(named) - len(suffix_of(data))] + ".wprof")
    with progress(quiet=as_json) as stage:
        found = read(data, like=like, columns=columns, stage=stage)
    content = found.encode()
    written(target, content, data, *([like] if like else []))
    value = {
        "path": str(target),
        "bytes": len(content),
        "rows": found.rows,
        "features": list(found.features),
        "profile_id": found.profile_id,
        "like": found.like,
        "absent": list(found.absent),
        "unlike": found.unlike,
        "new": list(found.new),
        "notes": list(found.notes),
        "coarse": found.coarse,
    }
    shown = [
        f"{target}  {output.size(len(content))}",
        f"  rows      {found.rows:,}",
        f"  features  {len(found.features)}",
        *([f"  like      {found.like}"] if found.like else []),
        *([f"  absent    {', '.join(found.absent[:12])}"] if found.absent else []),
        *([f"  new       {', '.join(found.new[:12])} (not counted)"] if found.new else []),
        *(f"  differs   {name}: {what}" for name, what in found.unlike.items()),
        *(f"  note      {text}" for text in found.notes),
    ]
    output.result(value, shown, as_json=as_json)
