"""The page on a drift: what changed between a reference and newer rows, the worst first.

One page for two data sets and for a fleet's counts: a file that loads nothing, for screens of any
width, light and dark, by keyboard, and for paper.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from whimbrel_core.drawing import written
from whimbrel_core.pages import features, layout, rules
from whimbrel_core.pages.element import Child, Html, maybe, tag
from whimbrel_core.pages.layout import Column, Section
from whimbrel_core.profile.drift import telling

if TYPE_CHECKING:
    from collections.abc import Iterable

    from whimbrel_core.profile.drift.levels import State
    from whimbrel_core.profile.drift.report import DriftReport

READINGS = {"harmless": "ok", "better": "ok", "costly": "severe", "unclear": "none"}
_VERDICTS: dict[State, str] = {
    "too_few": "too few rows to judge",
    "ok": "no drift",
    "notice": "moved a little",
    "warn": "drifted",
    "severe": "drifted severely",
}


def build(report: DriftReport) -> str:
    """Return the page; equal reports, equal text."""
    fleet = report.source == "fleet"
    return layout.document(
        f"{report.title} · drift",
        "Drift report",
        [
            tag("h1", *_title(report)),
            tag("p", telling.summary(report), class_="lead"),
            tag("p", badges(report), class_="badges"),
            tiles(report),
            maybe(
                report.notes, tag("ul", (tag("li", note) for note in report.notes), class_="notes")
            ),
        ],
        [
            features.section(report),
            features.distributions(report),
            _columns(report),
            _remarks(report),
            _slices(report),
            _devices(report) if fleet else None,
            rules.section(report),
        ],
        tag("p", _foot(report)),
    )


def _title(report: DriftReport) -> list[Child]:
    if report.source == "fleet":
        return [report.title]
    return [report.current.name, " ", tag("span", f"against {report.reference.name}")]


def badges(report: DriftReport) -> list[Child]:
    """Return the verdict, and how exact it is."""
    shown: list[Child] = [
        layout.badge(_VERDICTS[report.worst], features.TONES.get(report.worst, report.worst))
    ]
    alarms = sum(one.alarm for one in report.features)
    if alarms:
        shown.append(layout.badge(f"{alarms} alarm{'' if alarms == 1 else 's'}", "severe"))
    if not report.exact:
        shown.append(layout.badge("counted in different cells: distances are rough", "notice"))
    return shown


def tiles(report: DriftReport) -> Html | None:
    """Return the figures that count."""
    compared = [one for one in report.features if not one.problem]
    items: list[tuple[str, Child, Child]] = [
        (
            "Drifted",
            str(sum(one.state in {"warn", "severe"} for one in compared)),
            f"of {len(compared)} features",
        )
    ]
    farthest = max(compared, key=lambda one: one.psi or 0.0, default=None)
    if farthest is not None and farthest.psi is not None:
        items.append(("Largest PSI", features.distance(farthest.psi), farthest.feature))
    items.append(("Rows", written.count(report.current.rows), rules.when(report.current)))
    items.append(
        ("Reference rows", written.count(report.reference.rows), rules.when(report.reference))
    )
    devices = [place for _, place in report.subjects if place.level == "device"]
    if devices:
        moved = sum(place.state in {"warn", "severe"} for place in devices)
        items.append(("Devices that moved", str(moved), f"of {len(devices)}"))
    odd = sum(bool(one.problem) for one in report.features)
    if odd:
        items.append(("Columns that differ", str(odd), "gone, new, or of another type"))
    return layout.tiles(items)


def _columns(report: DriftReport) -> Section | None:
    rows: list[list[Child]] = [
        [one.feature, features.state(one), one.detail] for one in report.features if one.problem
    ]
    return Section(
        "columns",
        "Columns",
        "What only one side has, or has as something else.",
        [layout.table(["Column", "State", "What differs"], rows, style="cards")],
    )


def _remarks(report: DriftReport) -> Section:
    rows: list[list[Child]] = [
        [one.feature or "all rows", features.badge(one.state),
         one.message]
        for one in report.remarks
    ]  # fmt: skip
    return Section(
        "quality",
        "Data quality",
        "Missing, impossible, repeated and unknown values, against what is usual.",
        [layout.table(["Feature", "State", "Finding"], rows, style="cards")],
    )


def _slices(report: DriftReport) -> Section:
    rows: list[list[Child]] = [
        [
            [one.name, tag("span", one.condition, class_="of")],
            features.badge(one.state),
            one.feature,
            features.distance(one.psi),
            written.count(one.rows),
            written.percent(one.share),
            written.percent(one.reference_share),
        ]
        for one in report.slices
    ]
    columns: list[Column | str] = [
        "Slice", "State", "Worst feature", Column("PSI", number=True), Column("Rows", number=True),
        Column("Share", number=True), Column("In the reference", number=True),
    ]  # fmt: skip
    return Section(
        "slices",
        "Slices",
        "Declared segments of the rows, each compared with the same segment of the reference, on "
        "ten coarse cells.",
        [layout.table(columns, rows, style="cards")],
    )


def _devices(report: DriftReport) -> Section:
    told = any(place.cost for _, place in report.subjects)
    rows: list[list[Child]] = []
    for feature, place in report.subjects:
        since = maybe(
            place.since_ms, tag("span", f"since {written.date(place.since_ms)}", class_="of line")
        )
        line: list[Child] = [
            [place.subject, maybe(place.level == "cohort", tag("span", place.level, class_="of"))],
            [features.badge(place.state, alarm=place.alarm), since],
            feature,
            features.distance(place.psi),
            features.distance(place.w1_sd),
            features.log_e(place.log_e),
            written.count(place.rows),
        ]
        reading = layout.badge(place.reading, READINGS.get(place.reading, "none"))
        cost = [maybe(place.reading, reading), tag("span", place.cost, class_="of line")]
        rows.append([*line, maybe(place.cost, cost)] if told else line)
    columns: list[Column | str] = [
        "Subject", "State", "Worst feature", Column("PSI", number=True),
        Column("W1 / sd", number=True), Column("log e", number=True), Column("Rows", number=True),
        *(["Expected quality"] if told else []),
    ]  # fmt: skip
    return Section(
        "devices",
        "Devices",
        "Each by its newest judged window and its worst feature. A fleet's average hides a drifting "
        "device, so alarms are per device.",
        [layout.table(columns, rows, style="cards small drift")],
    )


def _foot(report: DriftReport) -> Iterable[Child]:
    if report.source == "fleet":
        return ["Made of counts that the fleet server keeps; no row ever left a device."]
    return [
        "Made of counts: no row of the data is in this file, ",
        "but the most frequent words of its text columns are.",
    ]
