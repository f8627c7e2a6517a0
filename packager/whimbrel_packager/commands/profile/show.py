"""``whimbrel profile show``: a profile in a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from whimbrel_packager.commands import output
from whimbrel_packager.commands.profile.made import FILE, columns_option, progress, read

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from whimbrel_core.pages.distribution import Profiled
    from whimbrel_core.profile.building.dataset import DatasetProfile

_BLOCKS = " ▁▂▃▄▅▆▇█"
_NAME_CHARS = 28


@click.command(epilog="Example: whimbrel profile show january.wprof")
@click.argument("profile", type=FILE)
@columns_option
@click.option("--html", "page", type=FILE, help="Write it as one HTML file, too.")
@output.json_option
def show(profile: Path, columns: tuple[str, ...], page: Path | None, as_json: bool) -> None:
    """Show PROFILE: every feature's distribution, moments, quantiles and missing values.

    PROFILE is a profile, a bundle, a baseline, or a data file, which is profiled first.
    """
    from whimbrel_core.profile.exports import table
    from whimbrel_packager.commands.profile.made import written
    from whimbrel_packager.profiles.making import matches, select

    with progress(quiet=as_json) as stage:
        found = read(profile, columns=columns, stage=stage)
    if page is not None:
        from whimbrel_core.pages import notebook

        written(page, notebook.page(found).encode(), profile)
    select(found.features, columns, found.name)
    lines = [
        one
        for one in table.lines(table.summary(found))
        if not columns or matches(str(one["feature"]), columns)
    ]
    value = {
        "name": found.name,
        "rows": found.rows,
        "profile_id": found.profile_id,
        "like": found.like,
        "notes": list(found.notes),
        "features": lines,
    }
    chosen = {str(one["feature"]) for one in lines}
    output.result(value, _lines(found, chosen), as_json=as_json)


def _lines(found: DatasetProfile, chosen: set[str]) -> Iterator[str]:
    from whimbrel_core.pages.distribution import profiled

    like = f", in the cells of {found.like}" if found.like else ""
    yield f"{found.name}: {found.rows:,} rows, {len(found.features)} features{like}"
    shown = [one for one in profiled(found.baseline) if one.feature.name in chosen]
    width = min(max([7, *(len(one.feature.name) for one in shown)]), _NAME_CHARS)
    yield click.style(
        f"{'feature':<{width}}  {'kind':<11}  {'distribution':<24}  {'missing':>8}  {'mean':>11}  "
        f"{'sd':>11}  {'min':>11}  {'median':>11}  {'max':>11}",
        bold=True,
    )
    for one in shown:
        yield from _line(one, width)
    for note in found.notes:
        yield f"note: {note}"


def _line(one: Profiled, width: int) -> Iterator[str]:
    from whimbrel_core.drawing.written import percent
    from whimbrel_core.pages.notebook import figures, most_frequent

    feature, stats = one.feature, one.stats
    name = feature.name if len(feature.name) <= width else feature.name[: width - 1] + "…"
    missing = percent(stats.null_rate) if stats.null_rate else ""
    head = f"{name:<{width}}  {feature.kind:<11}  {bars(one):<24}  {missing:>8}"
    if not feature.ordered:
        yield f"{head}  {most_frequent(one)}".rstrip()
        return
    yield head + "".join(f"  {text:>11}" for text in figures(one))


def bars(one: Profiled, columns: int = 24) -> str:
    """Return a distribution as a row of blocks."""
    from whimbrel_core.drawing import histogram

    feature = one.feature
    shown = histogram.bars(feature.kind, feature.cell_names(), feature.edges, one.shares)
    shares = list(shown.sides[0])
    if feature.kind == "numeric" and len(shares) > columns:
        shares = shares[1:-1]  # what lies beyond the range would be two blocks more
    shares = shares[:columns]
    high = max(shares, default=0.0)
    if high <= 0:
        return ""
    # What is there at all is seen.
    return "".join(
        _BLOCKS[max(1, round(share / high * 8))] if share > 0 else _BLOCKS[0] for share in shares
    ).rstrip()
