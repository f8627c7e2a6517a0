"""The charts of the pages: from a page's values to the marks that core draws, tooltips included."""

from __future__ import annotations

from typing import TYPE_CHECKING

from markupsafe import Markup

from whimbrel_core.drawing import bars, heatmap, lines
from whimbrel_core.drawing import histogram as histograms
from whimbrel_server.web import scale, written

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from whimbrel_server.views.devices import CountsView
    from whimbrel_server.views.history import HistogramView, SeriesPoint
    from whimbrel_server.web.heat_map import HeatMap
    from whimbrel_server.web.pages.device import WindowBar

STYLES = 6


def style(index: int) -> str:
    """Return the class of the ``index``-th line; versions keep theirs within a page."""
    return f"s{index % STYLES + 1}"


def quality(
    series: Mapping[str, Sequence[SeriesPoint]], order: Sequence[str], measure: str, title: str
) -> Markup:
    """Return realised (solid, filled) and expected (dashed, hollow) quality per version."""
    drawn = []
    for number, points in series.items():
        chosen = style(order.index(number) if number in order else 0)
        for kind, dashed in (("expected", True), ("realised", False)):
            marks = tuple(
                lines.Point(
                    (p.start_ms + p.end_ms) / 2,
                    getattr(p, f"{measure}_{kind}"),
                    f"{number} {kind}: {written.stat(getattr(p, f'{measure}_{kind}'))} · "
                    f"{written.period(p.start_ms, p.end_ms)} · {written.count(p.rows)} rows, "
                    f"{written.count(p.labelled_rows)} labelled",
                )
                for p in points
            )
            drawn.append(lines.Line(f"{number} {kind}", marks, chosen, dashed))
    return _safe(lines.over_time(drawn, title=title))


def measure(
    series: Mapping[str, Sequence[SeriesPoint]],
    order: Sequence[str],
    field: str,
    title: str,
    factor: float = 1.0,
) -> Markup:
    """Return one field of a series per version, from zero."""
    drawn = [
        lines.Line(
            number,
            tuple(
                lines.Point(
                    (p.start_ms + p.end_ms) / 2,
                    None if getattr(p, field) is None else getattr(p, field) * factor,
                )
                for p in points
            ),
            style(order.index(number) if number in order else 0),
        )
        for number, points in series.items()
    ]
    return _safe(lines.over_time(drawn, title=title, floor=0.0, height=150))


def heat(heat_map: HeatMap, links: Mapping[str, str], title: str) -> Markup:
    """Return the drift heat map; a feature's name leads to its histogram."""
    cells = []
    for name, row in zip(heat_map.features, heat_map.cells, strict=True):
        out = []
        for at, cell in zip(heat_map.columns, row, strict=True):
            if cell is None:
                out.append(heatmap.Cell("absent"))
                continue
            label = (
                f"{name} · {written.period(at, at + heat_map.step_ms)} · {scale.word(cell.state)} · "
                f"PSI {written.stat(cell.psi)} · {written.count(cell.rows)} rows"
            )
            out.append(
                heatmap.Cell(cell.state, scale.LETTER[cell.state], label, scale.level(cell.psi))
            )
        cells.append(out)
    rows = [(f, links.get(f, "")) for f in heat_map.features]
    return _safe(heatmap.draw(rows, heat_map.columns, cells, title=title))


def histogram(view: HistogramView) -> Markup:
    """Return reference against current of one feature."""
    shown = histograms.bars(view.kind, view.cells, view.edges, view.reference, view.current)
    title = f"Distribution of {view.feature}: reference against current"
    return _safe(histograms.draw(shown, title=title))


def windows(items: Sequence[WindowBar]) -> Markup:
    """Return a device's windows as bars of rows, coloured by the worst state."""
    drawn = [
        (
            w.start_ms,
            w.end_ms,
            w.rows,
            w.state,
            f"{written.period(w.start_ms, w.end_ms)} · {w.version} · {written.count(w.rows)} rows · "
            f"{scale.word(w.state)}"
            + (f" ({w.feature}, PSI {written.stat(w.psi)})" if w.psi is not None else ""),
        )
        for w in items
    ]
    return _safe(bars.over_time(drawn, title="Rows and worst drift state by window"))


def coverage(counts: CountsView, waiting: int = 0) -> Markup:
    """Return what became of every message: stored, folded on the device, refused, missing."""
    stored = max(counts.received - counts.refused, 0)
    parts = [
        ("stored", "stored once", stored),
        ("folded", "folded into others before sending", counts.merged),
        ("waiting", "waiting on devices", waiting),
        ("refused", "refused", counts.refused),
        ("missing", "missing", counts.lost),
    ]
    title = f"{written.count(stored)} stored, {written.count(counts.lost)} missing"
    return _safe(bars.strip(parts, title=title))


def trend(values: Sequence[float | None], name: str) -> Markup:
    """Return a sparkline of PSI; its upper end is at least the limit of ``warn``."""
    title = f"{name}: PSI by window, newest {written.stat(values[-1] if values else None)}"
    return _safe(lines.spark(values, top=0.1, title=title))


def _safe(drawing: str) -> Markup:
    return Markup(drawing)  # noqa: S704 - core escapes whatever it draws
