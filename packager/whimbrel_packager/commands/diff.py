"""``whimbrel diff``: what differs between two bundles, and what it means for callers."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from whimbrel_packager.commands import output
from whimbrel_packager.commands.named import bundles, repo_option
from whimbrel_packager.commands.report import STDOUT, write

if TYPE_CHECKING:
    from collections.abc import Iterator

    from whimbrel_packager.comparison.change import Change, Level
    from whimbrel_packager.comparison.difference import Difference

_FILE = click.Path(path_type=Path)
_SLOW_BYTES = 8 << 20  # of both bundles: from here a delta takes seconds
_COLOURS: dict[Level, str] = {
    "breaking": "red", "severe": "red", "warn": "yellow", "notice": "cyan", "info": "",
}  # fmt: skip


@click.command(
    epilog="Example: whimbrel diff flights-1.0.0.whim flights-1.1.0.whim --check; or, of a "
    "repository: whimbrel diff flights@1.0.0 flights@1.1.0 --repo repository"
)
@click.argument("old")
@click.argument("new")
@repo_option
@click.option("--trust", multiple=True, metavar="KEY", help="Public key that must have signed "
              "both: a PEM file, or a URI (repeat for several). Without one nothing is "
              "verified.")  # fmt: skip
@click.option("--html", "page", type=_FILE, help="Write it as one HTML file, too; '-' is standard "
              "output.")  # fmt: skip
@click.option("--check", is_flag=True, help="Exit with 5 when callers of OLD would break.")  # fmt: skip
@output.json_option
def diff(old: str, new: str, trust: tuple[str, ...], **given: Any) -> None:  # noqa: ANN401 - click's options, by name
    """Compare the bundles OLD and NEW: what differs, the worst first, and a verdict.

    Each is a .whim file, or with --repo a release of it, NAME@VERSION: a file that is not published
    yet may be compared with one that is.

    Schema, quality, the reference data, gates, proof, runtime, policy and lineage. It breaks
    callers when an input, an output or a class is gone, or means something else.
    """
    from whimbrel_core.errors import CompatibilityError
    from whimbrel_packager.comparison.difference import compare
    from whimbrel_packager.pages import difference as pages
    from whimbrel_packager.repository import delta

    page: Path | None = given["page"]
    as_json: bool = given["as_json"]
    pair = bundles((old, new), trust, given["repo"])
    before, after = (one.contents for one in pair)
    quiet = as_json or page == STDOUT or before.length + after.length < _SLOW_BYTES
    with output.stages(quiet=quiet) as stage:
        stage("making the delta")
        made = delta.best_of(pair[0].content, pair[1].content)
        found = compare(before, after, delta_bytes=len(made.data))
    if page is not None:
        files = [one.file for one in pair if one.file is not None]
        write(page, pages.build(found, before, after).encode(), *files)
    if page != STDOUT:
        output.result({**_value(found), "html": str(page) if page else None}, _lines(found),
                      as_json=as_json)  # fmt: skip
    if given["check"] and not found.compatible:
        raise CompatibilityError(
            f"{found.new.title} breaks callers of {found.old.title}: {found.verdict.removeprefix('breaking: ')}",
            hint="change the callers first, or pack it so that they can stay as they are",
            code="compatibility.schema",
        )


def _value(found: Difference) -> dict[str, object]:
    import msgspec

    value: dict[str, object] = msgspec.to_builtins(found)
    return {"update": found.update, **value}


def _lines(found: Difference) -> Iterator[str]:
    a, b = found.old, found.new
    states = {one.signature for one in (a, b)}
    name = a.name if a.name == b.name else f"{a.name} → {b.name}"
    yield f"{name}  {a.version} → {b.version}, release {a.release} → {b.release}"
    if states != {"verified"}:
        yield "NOT VERIFIED (give --trust)" if "none" not in states else "NOT SIGNED, not both"
    for change in found.changes:
        yield from _told(change)
    colour = "green" if found.update else "yellow" if found.compatible else "red"
    yield click.style(found.verdict, fg=colour, bold=True)


def _told(change: Change) -> Iterator[str]:
    import textwrap

    level = click.style(f"{change.level:<8}", fg=_COLOURS[change.level] or None)
    first, *rest = textwrap.wrap(change.text, 78, break_long_words=False, break_on_hyphens=False)
    yield f"  {level}  {change.area:<8}  {first}"
    yield from (f"{'':22}{line}" for line in rest)
