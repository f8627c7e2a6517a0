"""`whimbrel fleet export`: stored counts in other tools' formats."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from whimbrel_core.errors import UsageError
from whimbrel_server.commands.fleet.connection import connected, pairs
from whimbrel_server.commands.fleet.files import write

if TYPE_CHECKING:
    from collections.abc import Iterator

    from whimbrel_core.profile.baseline import Baseline
    from whimbrel_core.profile.building.dataset import DatasetProfile
    from whimbrel_server.client import FleetClient
    from whimbrel_server.views.stored import StoredCountsView

_FORMATS = click.Choice(["influx", "prometheus", "parquet", "json", "wprof"])
_DAY = click.DateTime(formats=["%Y-%m-%d", "%Y-%m-%dT%H:%M", "%Y-%m-%dT%H:%M:%S"])
_DAY_MS = 86_400_000


@click.command(epilog="Example: whimbrel fleet export flights --subject lga --step hour "
               "--format influx --out lga.lp")  # fmt: skip
@click.argument("model")
@click.option("--version", help="Which version; without it the newest release.")
@click.option(
    "--subject", default="fleet", show_default=True, help="A device, key=value, or fleet."
)
@click.option("--step", type=click.Choice(["hour", "day", "all"]), default="day", show_default=True,
              help="Length of a period.")  # fmt: skip
@click.option(
    "--since", type=_DAY, metavar="DAY", help="Only periods from here on (UTC, event time)."
)
@click.option(
    "--until", type=_DAY, metavar="DAY", help="Only periods that begin before (UTC, event time)."
)
@click.option("--format", "form", type=_FORMATS, required=True, help="influx: line protocol, a line "
              "per period and feature; prometheus: text exposition of all periods together; parquet, "
              "json: tables; wprof: all periods together, for 'whimbrel profile'.")  # fmt: skip
@click.option("--cells", is_flag=True, help="The rows of every cell, too (influx, prometheus, json; "
              "parquet has them alone with it).")  # fmt: skip
@click.option("--tag", "tags", multiple=True, metavar="KEY=VALUE", help="A further tag or label of "
              "every line (repeat for several).")  # fmt: skip
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), help="The file; without it "
              "text is printed.")  # fmt: skip
@connected
def export(client: FleetClient, *, model: str, as_json: bool, **given: Any) -> None:  # noqa: ANN401 - click's options, by name
    """Write what the server has counted for InfluxDB, Prometheus, Parquet, JSON or `whimbrel profile`.

    Rows, missing values, moments, quantiles and (with --cells) the rows of every cell: what devices
    sent, merged by hour or day of event time.
    """
    form = "json" if as_json else given["form"]
    since, until = _ms(given["since"]), _ms(given["until"])
    view = client.stored_counts(
        model, given["version"], given["subject"], given["step"], since_ms=since, until_ms=until
    )
    if not view.periods:
        raise UsageError(
            f"the server has no counts of {view.name} {view.version} for {view.subject} by "
            f"{view.step} in this time",
            hint="windows of an hour or longer have no hours: try --step day; "
            "'whimbrel fleet drift' shows what is judged",
            code="not_found",
        )
    tags = {
        "model": view.name,
        "version": view.version,
        "subject": view.subject,
        **pairs(given["tags"], "tag"),
    }
    content = _content(view, form, tags, cells=given["cells"])
    out: Path | None = given["out"]
    if out is None:
        if form in {"parquet", "wprof"}:
            raise UsageError(f"{form} is no text to print", hint="give a file with --out")
        click.echo(content, nl=False)
        return
    write(out, content)
    click.echo(f"{out}: {len(view.periods)} periods of {view.name} {view.version}, {view.subject}")


def _content(view: StoredCountsView, form: str, tags: dict[str, str], *, cells: bool) -> bytes:
    import msgspec

    from whimbrel_core.profile.exports import influx, parquet, prometheus, table
    from whimbrel_server.drift_report import merged

    if form in {"prometheus", "wprof"}:
        whole = merged(view).profile(f"{view.name} {view.version} on {view.subject}")
        return (
            whole.encode()
            if form == "wprof"
            else prometheus.text(whole, tags, cells=cells).encode()
        )
    found = list(_profiles(view))
    if form == "influx":
        lines = (line for one in found for line in influx.lines(one, tags, cells=cells))
        return "".join(f"{line}\n" for line in lines).encode()
    if form == "parquet":
        make, types = (table.cells, table.CELLS) if cells else (table.summary, table.SUMMARY)
        tables = [make(one, tags) for one in found]
        joined: table.Table = {
            name: [value for one in tables for value in one[name]] for name in tables[0]
        }
        return parquet.content(joined, types)
    value = {
        "tags": tags,
        "step": view.step,
        "periods": [
            {
                "start_ms": period.start_ms,
                "rows": one.rows,
                "windows": period.windows,
                "features": table.lines(table.summary(one)),
                **({"cells": table.lines(table.cells(one))} if cells else {}),
            }
            for one, period in zip(found, view.periods, strict=True)
        ],
    }
    return msgspec.json.format(msgspec.json.encode(value), indent=2) + b"\n"


def _profiles(view: StoredCountsView) -> Iterator[DatasetProfile]:
    from whimbrel_core.profile.baseline import Baseline
    from whimbrel_core.profile.building.dataset import of_window
    from whimbrel_core.profile.window import decode

    baseline: Baseline = Baseline.decode(view.baseline)
    for period in view.periods:
        yield of_window(view.subject, baseline, decode(period.counts))


def _ms(at: datetime | None) -> int | None:
    return None if at is None else int(at.replace(tzinfo=UTC).timestamp() * 1000)
