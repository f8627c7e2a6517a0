"""The quality of a report: figures on held-out rows, calibration, gates, and segments."""

from __future__ import annotations

from typing import TYPE_CHECKING

from whimbrel_core.drawing import reliability, spans
from whimbrel_core.pages import layout
from whimbrel_core.pages.element import Child, Html, maybe, tag
from whimbrel_core.pages.layout import Column, Section
from whimbrel_core.profile.errortree import conditions
from whimbrel_packager import written
from whimbrel_packager.quality import certainty
from whimbrel_packager.quality.metrics import METRICS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from whimbrel_core.bundle.manifest import GateOutcome
    from whimbrel_core.profile.baseline import Calibration
    from whimbrel_packager.contents import Contents

_SEGMENTS = 2  # with fewer there is nothing to compare


def section(contents: Contents) -> Section | None:
    """Return the section of quality, or None when nothing was measured."""
    manifest = contents.manifest
    rows = manifest.metrics.get("rows")
    lead = f"Measured on {written.count(rows)} {_held_out(contents)}." if rows else ""
    figures = [
        [
            [written.metric(name), _what(name)],
            written.value(figure),
            written.span(certainty.interval(manifest, contents.baseline, name)),
        ]
        for name, figure in manifest.metrics.items()
        if name not in certainty.NOT_QUALITY
    ]
    columns: list[Column | str] = [
        "Figure",
        Column("Value", number=True),
        Column("95 % interval", number=True),
    ]
    return Section(
        "quality",
        "Quality",
        lead,
        [
            layout.table(columns, figures, style="narrow"),
            calibration(contents),
            errors(contents),
            _stated(contents),
        ],
    )


def gates(contents: Contents) -> Section | None:
    """Return the section of gates, or None when there were none."""
    found = contents.manifest.gates
    rows = [
        [
            [gate.name, maybe(gate.message, tag("span", gate.message, class_="of"))],
            gate_badge(gate),
            written.with_unit(gate.measured, gate),
            written.span(gate.interval),
            f"{gate.rule} {written.with_unit(gate.threshold, gate)}".strip() if gate.rule else None,
        ]
        for gate in found
    ]
    columns: list[Column | str] = ["Gate", "State", Column("Measured", number=True), Column("95 %", number=True),
               Column("Limit", number=True)]  # fmt: skip
    return Section(
        "gates",
        "Gates",
        "What had to hold before the bundle was signed.",
        [layout.table(columns, rows, style="cards gates"), *(_parts(gate) for gate in found)],
    )


def gate_badge(gate: GateOutcome) -> Html:
    """Return the state of a gate."""
    if not gate.held:
        return layout.badge("not held", "severe")
    return layout.badge("held", "ok") if gate.judged else layout.badge("not judged", "notice")


def bins(calibration: Calibration) -> list[reliability.ScoreBin]:
    """Return a calibration table as what is drawn."""
    return [
        reliability.ScoreBin(mean, true, true + false)
        for mean, true, false in zip(
            calibration.means, calibration.true, calibration.false, strict=True
        )
    ]


def calibration(contents: Contents) -> Html | None:
    """Return the reliability curve with its table, or None when scores were not calibrated."""
    table = contents.baseline.calibration
    if table is None:
        return None
    manifest = contents.manifest
    claim = (
        f"the row is of class {manifest.classes[manifest.positive]}"
        if table.binary and manifest.positive is not None
        else "the predicted class is right"
    )
    drawn = reliability.draw(
        [bins(table)], title="Reliability of the scores", width=440, height=320
    )
    rows = [
        [
            written.value(one.mean),
            written.count(one.rows),
            written.percent(one.observed) if one.rows else None,
            " to ".join(written.percent(end) for end in one.interval) if one.rows else None,
        ]
        for one in bins(table)
    ]
    columns: list[Column | str] = [Column("Mean score", number=True), Column("Rows", number=True),
               Column("Came true", number=True), Column("95 %", number=True)]  # fmt: skip
    return layout.figure(
        [tag("b", "Calibration"), tag("small", f"how often {claim}, by score; rows per bin below")],
        drawn,
        layout.folded("Numbers", layout.table(columns, rows, style="small")),
    )


def errors(contents: Contents) -> Html | None:
    """Return how far off a regression was per kind of row, worst first; None where it is not known."""
    model, features = contents.baseline.errors, contents.baseline.layout.features
    tree = contents.baseline.layout.error_tree
    if model is None or tree is None:
        return None
    kinds = zip(conditions(tree, features), model.rows, model.absolute, model.squared, strict=True)
    rows = [
        [
            ", ".join(common) or "any",
            written.count(count),
            written.value(absolute),
            written.value(squared**0.5),
        ]
        for common, count, absolute, squared in sorted(kinds, key=lambda one: -one[2])
    ]
    columns: list[Column | str] = ["Rows with", Column("Rows", number=True),
               Column("Mean error", number=True), Column("Root mean square", number=True)]  # fmt: skip
    title = "Error by kind of row"
    return layout.folded(title, layout.table(columns, rows, style="small"))


def _held_out(contents: Contents) -> str:
    data = contents.record.recipe.get("data") if contents.record else None
    if not isinstance(data, dict):
        return "labelled rows"
    if data.get("held_out"):
        return "labelled rows that the model was not trained on"
    return "labelled rows; whether the model was trained on them was not said"


def _stated(contents: Contents) -> Html | None:
    """Return what the training stated, which nobody has measured here."""
    record = contents.record
    stated = record.occasion.lineage.metrics if record else {}
    return layout.facts(
        (f"{written.metric(name)}, as the training stated it", written.value(figure))
        for name, figure in sorted(stated.items())
    )


def _parts(gate: GateOutcome) -> Html | None:
    """Return the segments of a gate as a drawing."""
    items = list(_spans(gate))
    if len(items) < _SEGMENTS:
        return None
    _, _, rest = gate.name.partition(".")
    column, _, asked = rest.rpartition(".")
    what = {
        "gap": f"how much worse than over all rows, by {column}",
        "floor": f"the figure itself, by {column}",
        "rates": f"share called positive, by {column}",
    }.get(asked, rest)
    drawn = spans.draw(
        items,
        title=f"{gate.name}: {what}",
        limit=gate.threshold,
        limit_label=f"{gate.rule} {written.value(gate.threshold)}" if gate.threshold is not None
        else "",
        zero=asked == "gap",
    )  # fmt: skip
    return layout.figure(
        [tag("b", column or rest), tag("small", f"{what}; the line is what is asked for")], drawn
    )


def _spans(gate: GateOutcome) -> Iterator[spans.Span]:
    for part in gate.parts:
        state = "none" if not part.judged else "ok" if part.held else "severe"
        yield spans.Span(
            part.name,
            part.measured,
            part.interval,
            state,
            f"{part.rows:,} rows" if part.judged else f"{part.rows:,}, too few",
        )


def _what(name: str) -> Child:
    found = METRICS.get(name)
    if found is None or found.what.lower() == written.metric(name).lower():
        return None
    return tag("span", found.what, class_="of")
