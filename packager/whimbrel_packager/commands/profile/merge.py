"""``whimbrel profile merge``: add profiles of the same cells."""

from __future__ import annotations

from functools import reduce
from typing import TYPE_CHECKING

import click

from whimbrel_packager.commands import output
from whimbrel_packager.commands.profile.made import FILE, progress, read, written

if TYPE_CHECKING:
    from pathlib import Path


@click.command(epilog="Example: whimbrel profile merge monday.wprof tuesday.wprof --out week.wprof")
@click.argument("profiles", type=FILE, nargs=-1, required=True)
@click.option("--out", type=FILE, required=True, help="The merged profile.")
@output.json_option
def merge(profiles: tuple[Path, ...], out: Path, as_json: bool) -> None:
    """Add PROFILES up: counts of the same cells, without error, in any order.

    Profiles share cells when they were made with the same --like, or when one was made like the other.
    """
    from whimbrel_core.errors import UsageError

    for path in profiles:
        if path.suffix.lower() != ".wprof":
            raise UsageError(
                f"{path} is no profile (.wprof)",
                hint="make one of it with 'whimbrel profile make', and the same --like for all",
            )
    with progress(quiet=True) as stage:
        found = [read(path, stage=stage) for path in profiles]
    whole = reduce(lambda a, b: a.merge(b), found)
    content = whole.encode()
    written(out, content)
    value = {"path": str(out), "bytes": len(content), "rows": whole.rows, "profiles": len(found),
             "profile_id": whole.profile_id}  # fmt: skip
    shown = [f"{out}  {output.size(len(content))}", f"  rows      {whole.rows:,}",
             f"  merged    {len(found)} profiles"]  # fmt: skip
    output.result(value, shown, as_json=as_json)
