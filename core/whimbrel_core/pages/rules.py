"""The rules of a drift report: by which thresholds and tests its states were made."""

from __future__ import annotations

from typing import TYPE_CHECKING

from whimbrel_core.drawing import written
from whimbrel_core.pages import layout
from whimbrel_core.pages.element import Child, tag
from whimbrel_core.pages.layout import Column, Section

if TYPE_CHECKING:
    from whimbrel_core.profile.drift.report import DriftReport, Side


def section(report: DriftReport) -> Section:
    """Return by which rules and thresholds the report was made."""
    limits = report.thresholds
    rows: list[list[Child]] = [
        [
            level,
            f"{limits.psi[i]:g}",
            f"{limits.w1_sd[i]:g}",
            written.percent(limits.rate[i], 0),
        ]
        for i, level in enumerate(("notice", "warn", "severe"))
    ]
    columns: list[Column | str] = [
        "Level", Column("PSI", number=True), Column("W1 / sd", number=True),
        Column("Share missing or never seen", number=True),
    ]  # fmt: skip
    over_time = (
        "Alarms are the fleet server's: evidence over time, against each device's own beginning, with "
        "a budget for false alarms of the whole fleet."
    )
    cells = (
        "Both sides are counted in the same cells, so the distances are those of the counts."
        if report.exact
        else "The two sides are counted in different cells; one is told in those of the other, by "
        "which distances are off by about .005, more where one is an estimate."
    )
    return Section(
        "rules",
        "How it is judged",
        "Evidence and effect: both must say yes.",
        [
            layout.table(columns, rows, style="narrow"),
            tag(
                "p",
                "Effect, does it matter: the population stability index on deciles of the reference, "
                "less what it would be without drift; the Wasserstein-1 distance in standard deviations "
                "of the reference; the change of the share of missing and of never-seen values. KS and "
                "JS are shown beside them and set no level.",
            ),
            tag(
                "p",
                "Evidence, is it more than chance: Pearson's X² over coarse bins, divided by 1 + m/n "
                "because the reference is a sample, too; tests of the two shares; over all features at "
                f"a false discovery rate of {limits.q:g}. Below {limits.min_rows} rows nothing is said.",
            ),
            tag("p", over_time if report.source == "fleet" else cells),
            layout.facts(
                [
                    ("Reference", _named(report.reference)),
                    ("Compared with it", _named(report.current)),
                    ("Features", written.count(sum(not one.problem for one in report.features))),
                ]
            ),
        ],
    )


def when(side: Side) -> str | None:
    """Return what time one of the two is of; None where it has none."""
    if side.detail:
        return side.detail
    if side.start_ms is None or side.end_ms is None:
        return None
    first, last = written.date(side.start_ms), written.date(side.end_ms - 1)
    return first if first == last else f"{first} to {last}"


def _named(side: Side) -> str:
    at = when(side)
    return f"{side.name}, {written.count(side.rows)} rows{', ' + at if at else ''}"
