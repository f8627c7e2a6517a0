"""The page on a drift: what changed between a reference and newer rows, the worst first.

One page for two data sets and for a fleet's counts: a file that loads nothing, for screens of any
width, light and dark, by keyboard, and for paper.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from whimbrel_core.drawing import written
from whimbrel_core.pages import distribution, layout, rules
from whimbrel_core.pages.element import Child, Html, maybe, tag
from whimbrel_core.pages.layout import Column, Section
from whimbrel_core.profile.drift import telling

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from whimbrel_core.profile.drift.levels import State
    from whimbrel_core.profile.drift.report import DriftReport, FeatureReport

TONES = {"too_few": "none"}
WORDS = {
    "too_few": "too few rows",
    "ok": "as usual",
    "notice": "notice",
    "warn": "warn",
    "severe": "severe",
}
READINGS = {"harmless": "ok", "better": "ok", "costly": "severe", "unclear": "none"}
PROBLEMS = {"gone": "gone", "new": "new", "type": "other type"}
_VERDICTS: dict[State, str] = {
    "too_few": "too few rows to judge",
    "ok": "no drift",
    "notice": "moved a little",
    "warn": "drifted",
    "severe": "drifted severely",
}
_DRAWN = 24  # features that are drawn at once; the rest is folded away
_PLACES = 6  # devices named beside a feature
_SWATCH = '<svg class="swatch" viewBox="0 0 22 10" aria-hidden="true">'
_SURE = 1e-3  # p values below it are all alike


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
            _features(report),
            _distributions(report),
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
        layout.badge(_VERDICTS[report.worst], TONES.get(report.worst, report.worst))
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
        items.append(("Largest PSI", _distance(farthest.psi), farthest.feature))
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


def table(
    features: Sequence[FeatureReport], *, fleet: bool = False, style: str = "cards"
) -> Html | None:
    """Return features in a table, a line each, in their order."""
    of_data: list[Column | str] = [
        Column("KS", number=True), Column("JS", number=True), Column("p", number=True),
    ]  # fmt: skip
    columns: list[Column | str] = [
        "Feature",
        "State",
        Column("PSI", number=True),
        Column("W1 / sd", number=True),
        *([Column("log e", number=True)] if fleet else of_data),
        Column("Missing", number=True),
        "What changed",
        *(["Where"] if fleet else []),
    ]
    rows = [
        [
            [one.feature, maybe(one.unit, tag("span", one.unit or "", class_="of"))],
            state(one),
            _distance(one.psi),
            _distance(one.w1_sd),
            *(
                [_log_e(one.log_e)]
                if fleet
                else [_distance(one.ks), _distance(one.js), _p(one.p_value)]
            ),
            written.percent(one.null_rate) if one.null_rate else "",
            telling.changed(one),
            *([_where(one)] if fleet else []),
        ]
        for one in features
    ]
    return layout.table(columns, rows, style=style)


def state(one: FeatureReport) -> Html:
    """Return the state of a feature as a badge."""
    word = PROBLEMS.get(one.problem) or WORDS[one.state]
    return layout.badge(f"{word}, alarm" if one.alarm else word, TONES.get(one.state, one.state))


def drawn(one: FeatureReport, *, width: int = 350, height: int = 132) -> str:
    """Return both distributions of a feature as a drawing; "" where there are none."""
    found = one.distribution
    if found is None:
        return ""
    return distribution.compared(
        one.feature, one.kind, found.cells, found.edges, found.reference, found.current,
        unit=one.unit, width=width, height=height,
    )  # fmt: skip


def legend(reference: str, current: str) -> Html:
    """Return what is filled and what is outlined."""
    shapes = {
        reference: '<rect class="reference" width="22" height="10"/>',
        current: '<path class="current" d="M1,9 V2 H21 V9"/>',
    }
    return tag(
        "ul",
        (tag("li", Html(f"{_SWATCH}{shape}</svg>"), name) for name, shape in shapes.items()),
        class_="legend",
    )


def _features(report: DriftReport) -> Section:
    moved = [
        one for one in report.features if one.state not in {"ok", "too_few"} and not one.problem
    ]
    calm = [one for one in report.features if one.state in {"ok", "too_few"} and not one.problem]
    fleet = report.source == "fleet"
    count = len(calm)
    return Section(
        "features",
        "Features",
        "The worst first. Distances are those between the two distributions.",
        [
            table(moved, fleet=fleet, style="cards drift")
            or maybe(calm, tag("p", "None has moved.")),
            layout.folded(
                f"{count} feature{'' if count == 1 else 's'} as usual",
                table(calm, fleet=fleet, style="cards drift"),
            )
            if moved
            else table(calm, fleet=fleet, style="cards drift"),
        ],
    )


def _distributions(report: DriftReport) -> Section:
    figures = [one for one in (_figure(one) for one in report.features) if one is not None]
    return Section(
        "distributions",
        "Distributions",
        "The reference filled, the newer rows outlined. What lies beyond the drawn range is in the "
        "first and the last bar.",
        [
            maybe(figures, legend(f"reference ({report.reference.name})", report.current.name)),
            tag("div", figures[:_DRAWN], class_="figures"),
            layout.folded(f"{len(figures) - _DRAWN} more",
                          tag("div", figures[_DRAWN:], class_="figures"))
            if len(figures) > _DRAWN
            else None,
        ]
        if figures
        else [],
    )  # fmt: skip


def _figure(one: FeatureReport) -> Html | None:
    said = [telling.changed(one), f"outlined: {one.shown}" if one.shown else ""]
    return layout.figure(
        [
            tag("b", one.feature),
            maybe(one.unit, tag("span", one.unit or "")),
            state(one),
            tag("small", " · ".join(part for part in said if part) or "no change to tell"),
        ],
        drawn(one),
        style="",
    )


def _columns(report: DriftReport) -> Section | None:
    rows: list[list[Child]] = [
        [one.feature, state(one), one.detail] for one in report.features if one.problem
    ]
    return Section(
        "columns",
        "Columns",
        "What only one side has, or has as something else.",
        [layout.table(["Column", "State", "What differs"], rows, style="cards")],
    )


def _remarks(report: DriftReport) -> Section:
    rows: list[list[Child]] = [
        [one.feature or "all rows", layout.badge(WORDS[one.state], TONES.get(one.state, one.state)),
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
            layout.badge(WORDS[one.state], TONES.get(one.state, one.state)),
            one.feature,
            _distance(one.psi),
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
        word = f"{WORDS[place.state]}, alarm" if place.alarm else WORDS[place.state]
        line: list[Child] = [
            [place.subject, maybe(place.level == "cohort", tag("span", place.level, class_="of"))],
            [layout.badge(word, TONES.get(place.state, place.state)), since],
            feature,
            _distance(place.psi),
            _distance(place.w1_sd),
            _log_e(place.log_e),
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


def _where(one: FeatureReport) -> Child:
    """Return on which devices a feature moved, and since when."""
    shown = [place for place in one.places if place.level == "device"]
    named = ", ".join(place.subject for place in shown[:_PLACES])
    more = len(shown) - _PLACES
    rest = f" and {more} more" if more > 0 else ""
    since = maybe(
        one.since_ms, tag("span", f"since {written.date(one.since_ms)}", class_="of line")
    )
    return [named + rest, since]


def _distance(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"


def _log_e(value: float | None) -> str:
    return "" if value is None else f"{value:.1f}"


def _p(value: float | None) -> str:
    if value is None:
        return ""
    return "< .001" if value < _SURE else f"{value:.3f}".lstrip("0") if value < 1 else "1"


def _foot(report: DriftReport) -> Iterable[Child]:
    if report.source == "fleet":
        return ["Made of counts that the fleet server keeps; no row ever left a device."]
    return [
        "Made of counts: no row of the data is in this file, ",
        "but the most frequent words of its text columns are.",
    ]
