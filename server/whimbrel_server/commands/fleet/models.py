"""`whimbrel fleet models`, `drift`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from whimbrel_core.errors import UsageError
from whimbrel_server.commands.fleet.connection import connected
from whimbrel_server.commands.fleet.printing import (
    expected,
    plain,
    print_json,
    print_table,
    styled,
)

if TYPE_CHECKING:
    from whimbrel_server.client import FleetClient
    from whimbrel_server.views.groups import GroupsView
    from whimbrel_server.views.models import ModelView


@click.command(epilog="Example: whimbrel fleet models flights")
@click.argument("name", required=False)
@connected
def models(client: FleetClient, name: str | None, as_json: bool) -> None:
    """List published models and versions, or show one model."""
    from whimbrel_server.web.written import count, stat

    found = (client.model(name),) if name else client.models()
    if as_json:
        print_json(found[0] if name else found)
        return
    if not found:
        click.echo("no model is published; see 'whimbrel publish --help' on the build machine")
        return
    errors = any(v.mae_realised or v.mae_expected for m in found for v in m.versions)
    rows = [
        (
            plain(m.name),
            v.version,
            styled(v.state) if v.trusted else styled("failed") + f" {plain(v.problem)}",
            str(len(v.devices_serving)),
            count(v.rows),
            count(v.labelled_rows),
            stat(v.auc_realised),
            stat(v.auc_expected),
            *((stat(v.mae_realised), stat(v.mae_expected)) if errors else ()),
        )
        for m in found
        for v in m.versions
    ]
    columns = ("model", "version", "state", "devices", "rows", "labelled", "AUC", "AUC expected")
    more = ("MAE", "MAE expected") if errors else ()
    print_table((*columns, *more), rows, numbers=(*columns[3:], *more))


@click.command(epilog="Example: whimbrel fleet drift flights --subject lga")
@click.argument("model")
@click.option("--version", help="Only this version.")
@click.option("--level", type=click.Choice(["device", "cohort", "fleet"]), help="Only this level.")
@click.option("--subject", help="A device, key=value, or fleet.")
@click.option("--all", "everything", is_flag=True, help="Features that are ok, too.")
@click.option("--groups", "together", is_flag=True, help="All devices together: on how many each "
              "feature drifts, where, and devices unlike the others.")  # fmt: skip
@click.option("--html", "page", type=click.Path(path_type=Path, dir_okay=False), help="Write a report "
              "on one version (without --version the one that most devices serve) as one HTML file: "
              "distributions, which devices, since when.")  # fmt: skip
@click.option("--days", type=click.IntRange(1, 366), default=28, show_default=True, help="Of the "
              "report: days of event time, up to the newest window.")  # fmt: skip
@connected
def drift(
    client: FleetClient,
    *,
    model: str,
    version: str | None,
    level: str | None,
    subject: str | None,
    everything: bool,
    together: bool,
    page: Path | None,
    days: int,
    as_json: bool,
) -> None:
    """Show how far inputs and outputs have moved, worst first: evidence and effect."""
    from whimbrel_server.web.written import date, period, stat

    if page is not None:
        _report(client, model, version, page, days)
    if together:
        groups = client.groups(model, version)
        if as_json:
            print_json(groups)
        else:
            _together(groups)
        return
    found = client.drift(model, version, level, subject)
    if as_json:
        print_json(found)
        return
    if level is None and subject is None:
        _sentences(client.groups(model, version))
    rows = [
        (
            plain(v.subject),
            v.version,
            period(v.window_start_ms, v.window_end_ms),
            plain(f.feature),
            styled(f.state) + (" alarm" if f.alarm else ""),
            stat(f.psi_debiased),
            stat(f.w1_sd),
            stat(f.log_e),
            date(f.since_ms) if f.since_ms else "",
            expected(v.losses),
        )
        for v in found
        for f in v.features
        if everything or f.state not in {"ok", "too_few"}
    ]
    wrong = [(v.subject, one) for v in found for one in v.findings]
    if wrong:
        print_table(
            ("data of", "level", "what is wrong in the newest window"),
            [(plain(who), styled(one.level), plain(one.message)) for who, one in wrong],
        )
        click.echo()
    if not rows:
        click.echo(
            f"{len(found)} subjects are judged and none has moved (--all shows every feature)"
            if found
            else f"nothing is judged yet for {model}"
        )
        return
    columns = (
        "subject", "version", "newest window", "feature", "state", "PSI", "W1/sd", "log e", "since",
        "expected",
    )  # fmt: skip
    print_table(columns, rows, numbers=columns[5:8])


def _sentences(groups: GroupsView) -> None:
    """Print what all devices show together, before what each one shows."""
    said = [(one.severity, one.message) for one in groups.rollups]
    said += [(one.severity, one.message) for one in groups.outliers]
    if said:
        rows = [(styled(severity), plain(message)) for severity, message in said]
        print_table(("", ""), rows)
        click.echo()


def _together(groups: GroupsView) -> None:
    from whimbrel_server.domain.announcements import day
    from whimbrel_server.web.written import count, stat

    if not groups.rollups and not groups.outliers:
        click.echo("no feature drifts on any device, and no device is unlike the others")
    if groups.rollups:
        rows = [
            (
                plain(r.feature),
                r.version,
                styled(r.severity),
                f"{count(r.count)} of {count(r.devices)}" if r.count else "average",
                plain(", ".join(g.cohort for g in r.gathered) or r.scope),
                "" if r.since_ms is None else day(r.since_ms),
                stat(r.psi) + (" hidden" if r.hidden else ""),
                stat(r.log_e),
                plain(", ".join(d.device for d in r.drifting[:3]) + (" …" if r.count > 3 else "")),  # noqa: PLR2004 - what fits a line
            )
            for r in groups.rollups
        ]
        columns = (
            "feature",
            "version",
            "state",
            "devices",
            "where",
            "since",
            "PSI",
            "log e",
            "first",
        )
        print_table(columns, rows, numbers=columns[6:8])
    if groups.outliers:
        rows = [
            (
                plain(o.device),
                plain(o.feature),
                o.version,
                styled(o.severity),
                plain(o.what),
                f"{o.shift:+.2f} sd",
                f"{o.spread:.2f} sd",
                stat(o.psi),
                day(o.since_ms),
            )
            for o in groups.outliers
        ]
        columns = (
            "unlike others", "feature", "version", "state", "what", "from the rest",
            "others differ by", "PSI", "since",
        )  # fmt: skip
        print_table(columns, rows, numbers=columns[5:8])


def _report(client: FleetClient, model: str, version: str | None, page: Path, days: int) -> None:
    """Write the drift report of one version."""
    from whimbrel_server import drift_report
    from whimbrel_server.commands.fleet.files import write

    number = version or _served(client.model(model))
    judged = client.drift(model, number)
    newest = max((view.window_end_ms for view in judged), default=None)
    since = None if newest is None else newest - days * drift_report.DAY_MS
    whole = client.stored_counts(model, number, since_ms=since)
    report = drift_report.build(
        judged,
        whole,
        lambda subject, since_ms: client.stored_counts(model, number, subject, since_ms=since_ms),
    )
    write(page, report.html().encode())
    click.echo(f"report on {model} {number}: {page}", err=True)


def _served(model: ModelView) -> str:
    """Return the version that most devices serve, else the newest.

    Raises:
        UsageError: none is published.
    """
    if not model.versions:
        raise UsageError(f"no version of {model.name} is published", code="not_found")
    chosen = max(model.versions, key=lambda one: (len(one.devices_serving), one.rows, one.release))
    return chosen.version
