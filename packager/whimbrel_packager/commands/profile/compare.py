"""``whimbrel profile compare``: how one data set differs from another, worst first."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from whimbrel_packager.commands import output
from whimbrel_packager.commands.profile.made import FILE, columns_option, progress, written

if TYPE_CHECKING:
    from collections.abc import Iterator

    from whimbrel_core.profile.drift.levels import State
    from whimbrel_core.profile.drift.report import DriftReport, FeatureReport

_COLOURS = {"severe": "red", "warn": "yellow", "notice": "cyan"}
_LEVELS = click.Choice(["notice", "warn", "severe"])
_NAME_CHARS, _CHANGE_CHARS = 28, 60
_STDOUT = Path("-")


@click.command(epilog="Example: whimbrel profile compare january.parquet february.parquet "
               "--html drift.html --fail-on warn")  # fmt: skip
@click.argument("reference", type=FILE, metavar="A")
@click.argument("current", type=FILE, metavar="B")
@click.option("--html", "page", type=FILE, help="Write a report as one HTML file, too; '-' is standard "
              "output.")  # fmt: skip
@click.option(
    "--fail-on", type=_LEVELS, help="Exit with 8 when a feature is at this level or worse."
)
@click.option("--all", "everything", is_flag=True, help="Features that are as usual, too.")
@click.option("--min-rows", type=click.IntRange(2), help="Judge nothing on fewer rows (100).")
@columns_option
@output.json_option
def compare(reference: Path, current: Path, **given: Any) -> None:  # noqa: ANN401 - click's options, by name
    """Show how B differs from A, the worst first; A is the reference.

    Each is a data file or a folder of them, a profile (.wprof), a bundle (.whim) or a baseline. Data are counted in the
    cells of the other one, so the distances are exact; two profiles with cells of their own are
    compared about (± .005).

    A state needs evidence (more than chance, over all features) and effect (PSI from .02 notice, .1
    warn, .25 severe; W1/sd from .1, .3, .5; missing or never-seen values from 2, 10, 25 %). A column
    that is gone, or has become of another type, is severe; a new one is a notice.
    """
    import msgspec

    from whimbrel_core.profile.drift.levels import Thresholds
    from whimbrel_packager.profiles import reading

    page: Path | None = given["page"]
    as_json: bool = given["as_json"]
    thresholds = Thresholds(**({"min_rows": given["min_rows"]} if given["min_rows"] else {}))
    with progress(quiet=as_json or page == _STDOUT) as stage:
        found = reading.comparison(
            reading.subject(reference),
            reading.subject(current),
            columns=given["columns"],
            thresholds=thresholds,
            stage=stage,
        )
    if page == _STDOUT:
        click.echo(found.html(), nl=False)
    else:
        if page is not None:
            written(page, found.html().encode(), reference, current)
        value = {**msgspec.to_builtins(plain(found)), "html": str(page) if page else None}
        output.result(value, _lines(found, everything=given["everything"]), as_json=as_json)
    _gate(found, given["fail_on"])


def plain(found: DriftReport) -> dict[str, Any]:
    """Return a report without its distributions, which the page draws."""
    import msgspec

    from whimbrel_core.profile.drift import telling

    value: dict[str, Any] = msgspec.to_builtins(found)
    for one in value["features"]:
        del one["distribution"]
    return {"worst": found.worst, "summary": telling.summary(found), **value}


def _gate(found: DriftReport, level: State | None) -> None:
    from whimbrel_core.errors import GateError
    from whimbrel_core.profile.drift.report import ORDER

    if level is None or ORDER.index(found.worst) < ORDER.index(level):
        return
    worst = ORDER.index(level)
    failing = [one.feature for one in found.features if ORDER.index(one.state) >= worst]
    failing += [
        one.message
        for one in found.remarks
        if ORDER.index(one.state) >= worst and one.feature not in failing
    ]
    more = f" and {len(failing) - 5} more" if len(failing) > 5 else ""  # noqa: PLR2004 - enough to read
    raise GateError(
        f"{found.current.name} differs from {found.reference.name}: {', '.join(failing[:5])}{more} "
        f"at {level} or worse",
        hint="see what changed above, or with --html; retrain, repair the data, or raise --fail-on",
        code="gate.drift",
    )


def _lines(found: DriftReport, *, everything: bool) -> Iterator[str]:
    from whimbrel_core.profile.drift import telling

    a, b = found.reference, found.current
    yield f"{b.name} ({b.rows:,} rows) against {a.name} ({a.rows:,} rows)"
    yield telling.summary(found)
    shown = [
        one
        for one in found.features
        if everything or one.problem or one.state not in {"ok", "too_few"}
    ]
    if shown:
        yield ""
        yield from _table(shown)
    for remark in found.remarks:
        if remark.kind not in telling.TOLD:
            yield f"data quality: {remark.message} ({remark.state})"
    hidden = len(found.features) - len(shown)
    if hidden and shown:
        yield f"{hidden} more as usual (--all shows every feature)"
    if not found.exact:
        yield "note: the two are counted in different cells: distances are rough"
    for note in found.notes:
        yield f"note: {note}"


def _table(shown: list[FeatureReport]) -> Iterator[str]:
    from whimbrel_core.drawing.written import percent
    from whimbrel_core.pages.features import PROBLEMS, WORDS
    from whimbrel_core.profile.drift import telling

    width = min(max(7, *(len(one.feature) for one in shown)), _NAME_CHARS)
    yield click.style(
        f"{'feature':<{width}}  {'state':<12}  {'PSI':>6}  {'W1/sd':>6}  {'KS':>5}  {'JS':>5}  "
        f"{'p':>6}  {'missing':>8}  what changed",
        bold=True,
    )
    for one in shown:
        word = PROBLEMS.get(one.problem) or WORDS[one.state]
        name = one.feature if len(one.feature) <= width else one.feature[: width - 1] + "…"
        yield (
            f"{name:<{width}}  {click.style(f'{word:<12}', fg=_COLOURS.get(one.state))}  "
            f"{_number(one.psi):>6}  {_number(one.w1_sd):>6}  {_number(one.ks, 2):>5}  "
            f"{_number(one.js, 2):>5}  {_p(one.p_value):>6}  "
            f"{percent(one.null_rate) if one.null_rate is not None else '':>8}  "
            f"{_cut(telling.changed(one))}"
        ).rstrip()


def _number(value: float | None, digits: int = 3) -> str:
    return "" if value is None else f"{value:.{digits}f}"


def _p(value: float | None) -> str:
    return "" if value is None else "<.001" if value < 1e-3 else f"{value:.3f}"  # noqa: PLR2004 - all alike below


def _cut(text: str) -> str:
    return text if len(text) <= _CHANGE_CHARS * 2 else text[: _CHANGE_CHARS * 2 - 1] + "…"
