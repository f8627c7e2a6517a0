"""The features of a drift report, as shown: their states, distances and distributions."""

from __future__ import annotations

from typing import TYPE_CHECKING

from whimbrel_core.drawing import written
from whimbrel_core.pages import distribution, layout
from whimbrel_core.pages.element import Child, Html, maybe, tag
from whimbrel_core.pages.layout import Column, Section
from whimbrel_core.profile.drift import telling

if TYPE_CHECKING:
    from collections.abc import Sequence

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
PROBLEMS = {"gone": "gone", "new": "new", "type": "other type"}
_DRAWN = 24  # features that are drawn at once; the rest is folded away
_PLACES = 6  # devices named beside a feature
_SWATCH = '<svg class="swatch" viewBox="0 0 22 10" aria-hidden="true">'
_SURE = 1e-3  # p values below it are all alike


def section(report: DriftReport) -> Section:
    """Return the features in tables: those that moved, and folded away those as usual."""
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


def distributions(report: DriftReport) -> Section:
    """Return the distributions of both sides as drawings."""
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


def state(one: FeatureReport) -> Html:
    """Return the state of a feature as a badge."""
    word = PROBLEMS.get(one.problem) or WORDS[one.state]
    return layout.badge(f"{word}, alarm" if one.alarm else word, TONES.get(one.state, one.state))


def badge(level: State, *, alarm: bool = False) -> Html:
    """Return a state in words, as a badge."""
    word = WORDS[level]
    return layout.badge(f"{word}, alarm" if alarm else word, TONES.get(level, level))


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
            distance(one.psi),
            distance(one.w1_sd),
            *(
                [log_e(one.log_e)]
                if fleet
                else [distance(one.ks), distance(one.js), _p(one.p_value)]
            ),
            written.percent(one.null_rate) if one.null_rate else "",
            telling.changed(one),
            *([_where(one)] if fleet else []),
        ]
        for one in features
    ]
    return layout.table(columns, rows, style=style)


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


def distance(value: float | None) -> str:
    """Return a distance as a text; "" for none."""
    return "" if value is None else f"{value:.3f}"


def log_e(value: float | None) -> str:
    """Return a logarithm of an e-value as a text; "" for none."""
    return "" if value is None else f"{value:.1f}"


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


def _p(value: float | None) -> str:
    if value is None:
        return ""
    return "< .001" if value < _SURE else f"{value:.3f}".lstrip("0") if value < 1 else "1"
