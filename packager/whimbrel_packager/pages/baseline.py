"""The baseline of a report: how every profiled feature was distributed when the model was packed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from whimbrel_core.pages import layout
from whimbrel_core.pages.distribution import Profiled, drawing, profiled
from whimbrel_core.pages.element import Html, maybe, tag
from whimbrel_core.pages.layout import Section
from whimbrel_packager import written
from whimbrel_packager.pages.schema import extent, typical

if TYPE_CHECKING:
    from whimbrel_packager.contents import Contents


def section(contents: Contents) -> Section:
    """Return the section."""
    shown = profiled(contents.baseline)
    drift = contents.manifest.drift
    inputs = [_figure(one) for one in shown if one.feature.role == "input"]
    outputs = [_figure(one) for one in shown if one.feature.role == "output"]
    watch = (
        f"Devices count live data in the same cells, and each window of "
        f"{written.length(drift.window_s)} with at least {drift.min_rows:,} rows is compared with "
        f"this: a warning from PSI {drift.warn_psi:g}, severe from {drift.severe_psi:g}."
    )
    return Section(
        "baseline",
        "Baseline",
        [tag("span", watch)],
        [
            maybe(inputs, tag("h3", "Inputs")),
            maybe(inputs, tag("div", inputs, class_="figures")),
            maybe(outputs, tag("h3", "Answers")),
            maybe(outputs, tag("div", outputs, class_="figures")),
        ],
    )


def _figure(one: Profiled) -> Html | None:
    feature, stats = one.feature, one.stats
    missing = f"{written.percent(stats.null_rate)} missing" if stats.null_rate else None
    said = [str(part) for part in (typical(one), extent(one), missing) if part]
    return layout.figure(
        [
            tag("b", feature.name),
            maybe(feature.unit, tag("span", feature.unit or "")),
            tag("small", " · ".join(said)),
        ],
        drawing(one),
    )
