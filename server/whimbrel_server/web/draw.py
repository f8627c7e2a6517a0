"""The charts of the pages: from a page's values to `charts`' marks, tooltips included."""

from __future__ import annotations

import bisect
import itertools
import math
from typing import TYPE_CHECKING

from whimbrel_server.web import charts, scale, written

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from markupsafe import Markup

    from whimbrel_server.views import CountsView, HistogramView, SeriesPoint
    from whimbrel_server.web.device_page import WindowBar
    from whimbrel_server.web.model_page import HeatMap

STYLES = 6
BARS = 24
TAIL = 0.002


def style(index: int) -> str:
    """Return the class of the ``index``-th line; versions keep theirs within a page."""
    return f"s{index % STYLES + 1}"


def quality(
    series: Mapping[str, Sequence[SeriesPoint]], order: Sequence[str], measure: str, title: str
) -> Markup:
    """Return realised (solid, filled) and expected (dashed, hollow) quality per version."""
    lines = []
    for number, points in series.items():
        chosen = style(order.index(number) if number in order else 0)
        for kind, dashed in (("expected", True), ("realised", False)):
            marks = tuple(
                charts.Point(
                    (p.start_ms + p.end_ms) / 2,
                    getattr(p, f"{measure}_{kind}"),
                    f"{number} {kind}: {written.stat(getattr(p, f'{measure}_{kind}'))} · "
                    f"{written.period(p.start_ms, p.end_ms)} · {written.count(p.rows)} rows, "
                    f"{written.count(p.labelled_rows)} labelled",
                )
                for p in points
            )
            lines.append(charts.Line(f"{number} {kind}", marks, chosen, dashed))
    return charts.lines(lines, title=title)


def measure(
    series: Mapping[str, Sequence[SeriesPoint]],
    order: Sequence[str],
    field: str,
    title: str,
    factor: float = 1.0,
) -> Markup:
    """Return one field of a series per version, from zero."""
    lines = [
        charts.Line(
            number,
            tuple(
                charts.Point(
                    (p.start_ms + p.end_ms) / 2,
                    None if getattr(p, field) is None else getattr(p, field) * factor,
                )
                for p in points
            ),
            style(order.index(number) if number in order else 0),
        )
        for number, points in series.items()
    ]
    return charts.lines(lines, title=title, floor=0.0, height=150)


def heat(heat_map: HeatMap, links: Mapping[str, str], title: str) -> Markup:
    """Return the drift heat map; a feature's name leads to its histogram."""
    cells = []
    for name, row in zip(heat_map.features, heat_map.cells, strict=True):
        out = []
        for at, cell in zip(heat_map.columns, row, strict=True):
            if cell is None:
                out.append(charts.Cell("absent"))
                continue
            label = (
                f"{name} · {written.period(at, at + heat_map.step_ms)} · {scale.word(cell.state)} · "
                f"PSI {written.stat(cell.psi)} · {written.count(cell.rows)} rows"
            )
            out.append(
                charts.Cell(cell.state, scale.LETTER[cell.state], label, scale.level(cell.psi))
            )
        cells.append(out)
    rows = [(f, links.get(f, "")) for f in heat_map.features]
    return charts.heatmap(rows, heat_map.columns, cells, title=title)


def histogram(view: HistogramView) -> Markup:
    """Return reference against current of one feature."""
    names, reference, current = bars(view)
    # Bars of equal width are told by where they begin; cells by what they are called.
    regrouped = names is not view.cells and view.kind == "numeric"
    ticks = [n.partition("–")[0] if "–" in n else "" for n in names] if regrouped else ()
    return charts.overlay(
        names,
        reference,
        current,
        ticks=ticks,
        title=f"Distribution of {view.feature}: reference against current",
    )


def bars(view: HistogramView) -> tuple[Sequence[str], Sequence[float], Sequence[float]]:
    """Return what to draw: the cells as they are, or bars of equal width when they are many.

    A numeric feature's cells are quantiles of the reference: right for statistics, but each holds
    as much as the next, so drawn as they are every distribution would look flat. Mass inside a
    cell is spread evenly; what is in the open cells, and beyond the drawn range, is in the first
    and the last bar.
    """
    edges = view.edges
    if view.kind == "discrete":
        return [_short(name) for name in view.cells], view.reference, view.current
    if view.kind != "numeric" or not edges or len(view.reference) != len(edges) + 1:
        return view.cells, view.reference, view.current
    if len(edges) <= BARS:
        return _between(edges), view.reference, view.current
    sums = [list(itertools.accumulate(side))[:-1] for side in (view.reference, view.current)]
    # The range that holds nearly all of both, so that one far outlier does not flatten the rest.
    low = next((e for e, *c in zip(edges, *sums, strict=True) if max(c) >= TAIL), edges[0])
    high = next((e for e, *c in zip(edges, *sums, strict=True) if min(c) >= 1 - TAIL), edges[-1])
    if not low < high:
        return view.cells, view.reference, view.current
    grid = [*(low + (high - low) * k / BARS for k in range(BARS)), high]
    sides = []
    for below in sums:
        at = [_below(x, edges, below) for x in grid]
        sides.append([at[0], *(b - a for a, b in itertools.pairwise(at)), max(1 - at[-1], 0.0)])
    return _between(grid), sides[0], sides[1]


def _short(name: str) -> str:
    """Return a value's name with four digits at most; "other" and words stay."""
    try:
        return f"{float(name):.4g}"
    except ValueError:
        return name


def _between(edges: Sequence[float]) -> list[str]:
    """Return what bars between edges are called, with the digits that tell neighbours apart."""
    step = (edges[-1] - edges[0]) / max(len(edges) - 1, 1)
    digits = min(max(-math.floor(math.log10(step)), 0), 6) if step > 0 else 3
    text = [f"{edge:.{digits}f}" for edge in edges]
    text = ["0" if float(t) == 0 else t for t in text]
    return [f"≤ {text[0]}", *(f"{a}–{b}" for a, b in itertools.pairwise(text)), f"> {text[-1]}"]


def _below(x: float, edges: Sequence[float], sums: Sequence[float]) -> float:
    """Return the share at or below ``x``, which lies within the edges."""
    i = bisect.bisect_left(edges, x)
    if i == 0 or edges[i] == x:
        return sums[i]
    part = (x - edges[i - 1]) / (edges[i] - edges[i - 1])
    return sums[i - 1] + (sums[i] - sums[i - 1]) * part


def windows(items: Sequence[WindowBar]) -> Markup:
    """Return a device's windows as bars of rows, coloured by the worst state."""
    return charts.bars(
        [
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
        ],
        title="Rows and worst drift state by window",
    )


def coverage(counts: CountsView, waiting: int = 0) -> Markup:
    """Return what became of every message: stored, folded on the device, refused, missing."""
    stored = max(counts.received - counts.refused, 0)
    return charts.strip(
        [
            ("stored", "stored once", stored),
            ("folded", "folded into others before sending", counts.merged),
            ("waiting", "waiting on devices", waiting),
            ("refused", "refused", counts.refused),
            ("missing", "missing", counts.lost),
        ],
        title=f"{written.count(stored)} stored, {written.count(counts.lost)} missing",
    )


def trend(values: Sequence[float | None], name: str) -> Markup:
    """Return a sparkline of PSI; its upper end is at least the limit of ``warn``."""
    return charts.sparkline(
        values,
        top=0.1,
        title=f"{name}: PSI by window, newest {written.stat(values[-1] if values else None)}",
    )
