"""Profiles and drift reports as parts of a notebook: `_repr_html_`.

The style is confined to the part itself (`theme.within`), whose colours follow the notebook's own
theme. Without its style, as on pages that strip it, a plain table is left.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

from whimbrel_core.drawing import theme, written
from whimbrel_core.pages import distribution, drift, features, layout
from whimbrel_core.pages.element import Child, Html, maybe, tag
from whimbrel_core.pages.layout import Column
from whimbrel_core.profile.building.dataset import quantile
from whimbrel_core.profile.drift import telling

if TYPE_CHECKING:
    from whimbrel_core.profile.baseline import Baseline
    from whimbrel_core.profile.building.dataset import DatasetProfile
    from whimbrel_core.profile.drift.report import DriftReport

SCOPE = "whimbrel"
_SHOWN = 64  # features of a profile
_FIGURES = 8
_FRAME = """
:root { background: var(--surface); color: var(--ink); font: 13.5px/1.5 var(--sans); font-variant-numeric: tabular-nums; border: 1px solid var(--line); border-radius: 8px; padding: .9rem 1.1rem; max-width: 68rem; text-align: left; }
.head { display: flex; flex-wrap: wrap; align-items: baseline; gap: .2rem .7rem; margin: 0 0 .5rem; }
.head b { font-size: 1.08rem; font-weight: 640; overflow-wrap: anywhere; } .head span.facts { color: var(--faint); }
p { margin: 0 0 .6rem; max-width: 52rem; color: var(--ink); background: none; } ul { list-style: none; margin: 0 0 .5rem; padding: 0; color: var(--soft); }
.badge { display: inline-flex; align-items: center; gap: .42em; padding: .05em .65em .05em .55em; border-radius: 99px; background: var(--tone-bg); color: var(--tone); font-size: .86em; font-weight: 580; white-space: nowrap; }
.badge i { flex: none; width: .62em; height: .62em; background: var(--tone-solid); }
.ok > i { border-radius: 50%; } .none > i { border-radius: 50%; background: none; border: 2px solid var(--tone-solid); box-sizing: border-box; }
.notice > i { clip-path: polygon(50% 0, 100% 50%, 50% 100%, 0 50%); } .warn > i { clip-path: polygon(50% 4%, 100% 96%, 0 96%); } .severe > i { border-radius: 1px; }
.scroll { overflow-x: auto; max-height: 34rem; overflow-y: auto; }
table { border-collapse: collapse; width: 100%; margin: 0; border: 0; font-size: 1em; background: none; color: var(--ink); table-layout: auto; }
table th, table td { text-align: left; vertical-align: baseline; padding: .22rem 1rem .22rem 0; border: 0; border-bottom: 1px solid var(--line); background: none; color: var(--soft); font-weight: 400; white-space: nowrap; max-width: none; }
table tbody tr { background: none; } table tbody th { color: var(--ink); font-weight: 560; overflow-wrap: anywhere; white-space: normal; min-width: 6rem; }
table thead th { color: var(--faint); font-size: .86em; } table .n { text-align: right; color: var(--ink); } table td:last-child { white-space: normal; }
.of { color: var(--faint); font-size: .88em; margin-left: .5em; }
.figures { display: grid; grid-template-columns: repeat(auto-fill, minmax(17rem, 1fr)); gap: 1rem 1.8rem; margin: .8rem 0 .2rem; }
figure { margin: 0; padding: 0; min-width: 0; } figcaption { display: flex; flex-wrap: wrap; gap: 0 .5rem; align-items: baseline; color: var(--soft); } figcaption small { flex-basis: 100%; color: var(--faint); } figcaption b { color: var(--ink); }
.figures .chart svg { min-width: 0; } details { margin: .4rem 0 0; } summary { cursor: pointer; color: var(--soft); }
"""


def report(found: DriftReport) -> str:
    """Return a drift report as a part of a notebook: verdict, table, histograms of what moved."""
    moved = [one for one in found.features if one.state not in {"ok", "too_few"}]
    calm = [one for one in found.features if one.state in {"ok", "too_few"}]
    drawn = [one for one in moved if one.distribution is not None] or calm[:2]
    figures = [
        layout.figure(
            [tag("b", one.feature), features.state(one), tag("small", telling.changed(one))],
            features.drawn(one),
            style="",
        )
        for one in drawn[:_FIGURES]
    ]
    fleet = found.source == "fleet"
    shown = [one for one in figures if one is not None]
    return _part(
        tag(
            "div",
            tag("b", found.title),
            *drift.badges(found),
            tag("span", f"{written.count(found.current.rows)} rows against "
                f"{written.count(found.reference.rows)}", class_="facts"),
            class_="head",
        ),
        tag("p", telling.summary(found)),
        features.table(moved, fleet=fleet, style=""),
        maybe(shown, [features.legend("reference", "current"), tag("div", shown, class_="figures")]),
        layout.folded(f"{len(calm)} as usual", features.table(calm, fleet=fleet, style="")),
        _notes(found.notes),
    )  # fmt: skip


def profile(found: DatasetProfile) -> str:
    """Return a profile as a part of a notebook: a line per feature, with its distribution."""
    like = f"in the cells of {found.like}" if found.like else ""
    return _of(found.name, found.baseline, like, found.notes)


def baseline(found: Baseline) -> str:
    """Return a baseline as a part of a notebook."""
    return _of(f"Baseline {found.profile_id[:12]}…", found, "", ())


def page(found: DatasetProfile) -> str:
    """Return a profile as one HTML page that loads nothing else."""
    return layout.document(
        f"{found.name} · profile",
        "Profile",
        [
            tag("h1", found.name),
            tag("p", f"{written.count(found.rows)} rows, {len(found.features)} features", class_="lead"),
            maybe(found.notes, tag("ul", (tag("li", note) for note in found.notes), class_="notes")),
        ],
        [
            layout.Section("features", "Features", "Counts, and the most frequent words of text columns; no rows.",
                           [_table(found.baseline)])
        ],
        None,
    )  # fmt: skip


def _table(found: Baseline) -> Html | None:
    columns: list[Column | str] = [
        "Feature", "Kind", "Distribution", Column("Missing", number=True),
        Column("Mean", number=True), Column("sd", number=True), Column("Min", number=True),
        Column("Median", number=True), Column("Max", number=True), "Most frequent",
    ]  # fmt: skip
    rows: list[list[Child]] = []
    for one in distribution.profiled(found)[:_SHOWN]:
        feature, stats = one.feature, one.stats
        rows.append(
            [
                [feature.name, maybe(feature.unit, tag("span", feature.unit or "", class_="of"))],
                feature.kind,
                Html(distribution.spark(one)),
                written.percent(stats.null_rate) if stats.null_rate else "",
                *figures(one),
                most_frequent(one),
            ]
        )  # fmt: skip
    return layout.table(columns, rows)


def _of(name: str, found: Baseline, like: str, notes: tuple[str, ...]) -> str:
    more = len(found.layout.features) - _SHOWN
    facts = [f"{written.count(found.window.rows)} rows", f"{len(found.layout.features)} features"]
    return _part(
        tag(
            "div",
            tag("b", name),
            tag("span", ", ".join([*facts, *([like] if like else [])]), class_="facts"),
            class_="head",
        ),
        _table(found),
        maybe(more > 0, tag("p", f"and {more} more features")),
        _notes(notes),
    )


def figures(one: distribution.Profiled) -> list[str]:
    """Return mean, deviation, smallest value, median and largest value; "" for those of words."""
    feature, stats = one.feature, one.stats
    median = quantile(feature, one.counts, 0.5)
    found = (
        (stats.mean, feature.unit),
        (stats.sd, None),  # a length of time, not a day
        (stats.min, feature.unit),
        (median, feature.unit),
        (stats.max, feature.unit),
    )
    return ["" if value is None else telling.number(value, unit) for value, unit in found]


def most_frequent(one: distribution.Profiled) -> str:
    """Return the most frequent value or word with its share; "" for numbers."""
    feature = one.feature
    if feature.kind == "numeric" or not any(one.shares[:-1]):
        return ""
    at = max(range(feature.cells - 1), key=one.shares.__getitem__)
    return f"{feature.cell_names()[at] or '(empty)'} ({written.percent(one.shares[at])})"


def _notes(notes: tuple[str, ...]) -> Html | None:
    return tag("ul", (tag("li", note) for note in notes)) if notes else None


def _part(*children: Child) -> str:
    return str(tag("div", tag("style", Html(_style())), *children, class_=SCOPE))


@lru_cache(maxsize=1)
def _style() -> str:
    return theme.within(f".{SCOPE}", theme.stylesheet() + _FRAME)
