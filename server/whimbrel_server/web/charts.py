"""Charts as SVG text, drawn on the server.

Colour comes from classes alone (`static/whimbrel.css`), so one drawing serves light and dark and
the content security policy can forbid inline style. Every mark that carries a state also carries
a letter or a shape, and every point has a ``<title>``: a tooltip without a script. The numbers
behind a chart are shown by the page in a table; a chart never is the only place of a value.
"""

from __future__ import annotations

import math
from html import escape
from typing import TYPE_CHECKING, TypeGuard

import msgspec
from markupsafe import Markup

from whimbrel_server.web import written

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

DAY_MS = 86_400_000
_MAX_MONTHS_SPELLED = 14
_BEYOND = 1e15


class Point(msgspec.Struct, frozen=True):
    """One value of a line. ``label`` is its tooltip."""

    x: float
    y: float | None
    label: str = ""


class Line(msgspec.Struct, frozen=True):
    """One line: ``style`` is a class (``s1``…``s6``), ``dashed`` marks an estimate."""

    name: str
    points: tuple[Point, ...]
    style: str = "s1"
    dashed: bool = False


class Limit(msgspec.Struct, frozen=True):
    """A horizontal line that means something (``warn`` at .1)."""

    value: float
    state: str
    label: str


class Cell(msgspec.Struct, frozen=True):
    """One cell of a heat map; ``state`` is a class and ``mark`` the letter in it."""

    state: str
    mark: str = ""
    label: str = ""
    level: int = 0


def sparkline(
    values: Sequence[float | None], *, top: float | None = None, title: str = ""
) -> Markup:
    """Return a small line without axes; ``top`` fixes the upper end so that rows compare."""
    width, height = 96.0, 22.0
    known = [v for v in values if _known(v)]
    if len(known) < 2:  # noqa: PLR2004 - a line needs two points
        return Markup('<span class="faint">–</span>')
    high = max(*known, top or 0.0) or 1.0
    step = (width - 4) / (len(values) - 1)
    points = [
        (2 + i * step, height - 2 - (height - 4) * (max(v, 0.0) / high))
        for i, v in enumerate(values)
        if _known(v)
    ]
    line = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    x, y = points[-1]
    return Markup(  # noqa: S704 - numbers and one escaped title
        f'<svg class="spark" viewBox="0 0 {width:.0f} {height:.0f}" width="{width:.0f}" '
        f'height="{height:.0f}" role="img" aria-label="{escape(title)}"><title>{escape(title)}</title>'
        f'<polyline class="line s1" points="{line}"/><circle class="dot s1" cx="{x:.1f}" '
        f'cy="{y:.1f}" r="2.2"/></svg>'
    )


def lines(  # noqa: C901 - axes, limits, lines, dots: one drawing from back to front
    series: Sequence[Line],
    *,
    title: str,
    limits: Sequence[Limit] = (),
    floor: float | None = None,
    ceiling: float | None = None,
    width: int = 560,
    height: int = 280,
    write: Callable[[float], str] = written.stat,
) -> Markup:
    """Return lines over time (``x`` in ms) with labelled axes and direct labels at their ends."""
    points = [p for s in series for p in s.points if _known(p.y)]
    if not points:
        return Markup("")
    left, right, top, bottom = 46, 14, 12, 26
    x0, x1 = min(p.x for p in points), max(p.x for p in points)
    if x1 == x0:
        x0, x1 = x0 - DAY_MS, x1 + DAY_MS
    values = [p.y for p in points if p.y is not None]
    # A limit far above everything would flatten the lines; it is drawn once they come near.
    near = [m for m in limits if m.value <= 4 * max(values)] or list(limits[:1])
    y0 = min(values) if floor is None else floor
    y1 = max([*values, *(m.value for m in near)]) if ceiling is None else ceiling
    pad = (y1 - y0 or abs(y1) or 1.0) * 0.08
    if floor is None:
        y0 -= pad
    if ceiling is None:
        y1 += pad
    ticks = _ticks(y0, y1)

    def sx(x: float) -> float:
        return left + (width - left - right) * (x - x0) / (x1 - x0)

    def sy(y: float) -> float:
        return height - bottom - (height - top - bottom) * (min(max(y, y0), y1) - y0) / (y1 - y0)

    out = [_open(width, height, title)]
    for tick in ticks:
        y = sy(tick)
        out.append(
            f'<line class="grid" x1="{left}" x2="{width - right}" y1="{y:.1f}" y2="{y:.1f}"/>'
            f'<text class="tick" x="{left - 8}" y="{y + 3.5:.1f}" text-anchor="end">{_tick(tick)}</text>'
        )
    out.extend(_time_axis(x0, x1, sx, height - bottom, height))
    for mark in near:
        y = sy(mark.value)
        out.append(
            f'<line class="limit {escape(mark.state)}" x1="{left}" x2="{width - right}" '
            f'y1="{y:.1f}" y2="{y:.1f}"/><text class="limit-label {escape(mark.state)}" '
            f'x="{width - right}" y="{y - 4:.1f}" text-anchor="end">{escape(mark.label)}</text>'
        )
    for one in series:
        dash = " dashed" if one.dashed else ""
        for run in _runs(one.points):
            path = " ".join(f"{sx(p.x):.1f},{sy(p.y or 0.0):.1f}" for p in run)
            out.append(f'<polyline class="line {escape(one.style)}{dash}" points="{path}"/>')
        radius = 2.6 if len(one.points) <= 60 else 1.4  # noqa: PLR2004 - dots would touch
        for p in one.points:
            if _known(p.y):
                label = p.label or f"{one.name}: {write(p.y)}"
                hollow = " hollow" if one.dashed else ""
                out.append(
                    f'<circle class="dot {escape(one.style)}{hollow}" cx="{sx(p.x):.1f}" '
                    f'cy="{sy(p.y):.1f}" r="{radius}"><title>{escape(label)}</title></circle>'
                )
    out.append("</svg>")
    return _figure(out)


def heatmap(
    rows: Sequence[tuple[str, str]],
    columns: Sequence[int],
    cells: Sequence[Sequence[Cell]],
    *,
    title: str,
    width: int = 1120,
) -> Markup:
    """Return feature × time. ``rows`` are (name, address), ``columns`` starts in ms."""
    if not rows or not columns:
        return Markup("")
    left, top, bottom, step = 150, 4, 24, 22
    height = top + step * len(rows) + bottom
    each = (width - left - 4) / len(columns)
    out = [_open(width, height, title)]
    for i, (name, address) in enumerate(rows):
        y = top + i * step
        shown = name if len(name) <= 20 else name[:19] + "…"  # noqa: PLR2004 - fits the margin
        named = (
            f'<text class="row-name" x="{left - 8}" y="{y + 15}" text-anchor="end">'
            f"{escape(shown)}<title>{escape(name)}</title></text>"
        )
        out.append(f'<a href="{escape(address)}">{named}</a>' if address else named)
        for j, cell in enumerate(cells[i]):
            x = left + j * each
            out.append(
                f'<g class="cell {escape(cell.state)} l{cell.level}"><rect x="{x:.1f}" y="{y + 1}" '
                f'width="{max(each - 1.5, 0.8):.1f}" height="{step - 2}" rx="2"/>'
            )
            if cell.mark and each >= 11:  # noqa: PLR2004 - a letter's width
                out.append(
                    f'<text x="{x + (each - 1.5) / 2:.1f}" y="{y + 15}" text-anchor="middle">'
                    f"{escape(cell.mark)}</text>"
                )
            if cell.label:
                out.append(f"<title>{escape(cell.label)}</title>")
            out.append("</g>")
    last = len(columns) - 1
    span = columns[last] - columns[0] or DAY_MS

    def sx(x: float) -> float:
        return left + each * last * (x - columns[0]) / span

    out.extend(_time_axis(columns[0], columns[0] + span, sx, height - bottom, height, rule=False))
    out.append("</svg>")
    return _figure(out, "chart wide")


def overlay(
    names: Sequence[str],
    reference: Sequence[float],
    current: Sequence[float],
    *,
    title: str,
    ticks: Sequence[str] = (),
    width: int = 520,
    height: int = 190,
) -> Markup:
    """Return two histograms over the same cells: the reference filled, the current outlined.

    ``ticks`` are written at the bars' left ends; without them the names, below the bars.
    """
    total = max([*reference, *current, 1e-12])
    left, right, top, bottom = 44, 8, 10, 40
    each = (width - left - right) / max(len(names), 1)
    base = height - bottom
    out = [_open(width, height, title)]
    for tick in _ticks(0.0, total * 1.05, want=3):
        y = base - (base - top) * tick / (total * 1.05)
        out.append(
            f'<line class="grid" x1="{left}" x2="{width - right}" y1="{y:.1f}" y2="{y:.1f}"/>'
            f'<text class="tick" x="{left - 7}" y="{y + 3.5:.1f}" text-anchor="end">'
            f"{tick * 100:.0f} %</text>"
        )
    longest = min(max((len(n) for n in ticks or names), default=1), 9)
    every = max(1, math.ceil(len(names) * (longest * 6.5 + 8) / (width - left - right)))
    outline = []
    for i, (name, ref, cur) in enumerate(zip(names, reference, current, strict=True)):
        x = left + i * each
        tall, now = ((base - top) * v / (total * 1.05) for v in (ref, cur))
        label = f"{name}: reference {written.percent(ref)}, current {written.percent(cur)}"
        out.append(
            f'<g class="bin"><rect class="reference" x="{x + 0.5:.1f}" y="{base - tall:.1f}" '
            f'width="{max(each - 1, 0.6):.1f}" height="{tall:.1f}"/>'
            f'<rect class="hit" x="{x:.1f}" y="{top}" width="{each:.1f}" height="{base - top}"/>'
            f"<title>{escape(label)}</title></g>"
        )
        outline.append(f"{x:.1f},{base - now:.1f} {x + each:.1f},{base - now:.1f}")
        text = ticks[i] if ticks else name
        if i % every == bool(ticks) and text:
            shown = text if len(text) <= 9 else text[:8] + "…"  # noqa: PLR2004 - beside its neighbour
            at = x if ticks else x + each / 2
            out.append(
                f'<text class="tick" x="{at:.1f}" y="{base + 15}" text-anchor="middle">'
                f"{escape(shown)}</text>"
            )
    end = left + each * len(names)
    out.append(
        f'<polyline class="current" points="{left},{base} {" ".join(outline)} {end:.1f},{base}"/>'
        f'<line class="axis" x1="{left}" x2="{width - right}" y1="{base}" y2="{base}"/></svg>'
    )
    return _figure(out)


def bars(
    items: Sequence[tuple[float, float, float, str, str]],
    *,
    title: str,
    width: int = 760,
    height: int = 130,
) -> Markup:
    """Return bars over time: (start ms, end ms, height, state, tooltip); gaps stay gaps."""
    if not items:
        return Markup("")
    left, right, top, bottom = 46, 8, 8, 26
    x0, x1 = min(i[0] for i in items), max(i[1] for i in items)
    high = max(*(i[2] for i in items), 1.0)
    base = height - bottom

    def sx(x: float) -> float:
        return left + (width - left - right) * (x - x0) / max(x1 - x0, 1)

    out = [_open(width, height, title)]
    for tick in _ticks(0.0, high, want=2):
        y = base - (base - top) * tick / high
        out.append(
            f'<line class="grid" x1="{left}" x2="{width - right}" y1="{y:.1f}" y2="{y:.1f}"/>'
            f'<text class="tick" x="{left - 7}" y="{y + 3.5:.1f}" text-anchor="end">{_tick(tick)}</text>'
        )
    for start, end, value, state, label in items:
        tall = max((base - top) * value / high, 1.5)
        x, wide = sx(start), max(sx(end) - sx(start), 1.0)
        gap = 0.8 if wide > 2.4 else 0.0  # noqa: PLR2004 - thinner bars would be all gap
        out.append(
            f'<g class="bar {escape(state)}"><rect x="{x:.1f}" y="{base - tall:.1f}" '
            f'width="{wide - gap:.1f}" height="{tall:.1f}"/>'
        )
        # A foot below the axis for what needs a look, so that it is not told by hue alone.
        if state in {"warn", "severe"}:
            deep = 5 if state == "severe" else 2.5
            out.append(
                f'<rect x="{x:.1f}" y="{base + 1}" width="{wide - gap:.1f}" height="{deep}"/>'
            )
        out.append(f"<title>{escape(label)}</title></g>")
    out.extend(_time_axis(x0, x1, sx, base, height))
    out.append("</svg>")
    return _figure(out)


def strip(parts: Sequence[tuple[str, str, float]], *, title: str) -> Markup:
    """Return one horizontal bar of ``(class, name, amount)`` parts; nothing when all are zero."""
    total = sum(amount for _, _, amount in parts)
    if total <= 0:
        return Markup("")
    out = [
        (
            f'<svg class="strip" viewBox="0 0 400 10" preserveAspectRatio="none" role="img" '
            f'aria-label="{escape(title)}"><title>{escape(title)}</title>'
        )
    ]
    # Something that happened once in a million still has to be seen: the widest part gives way.
    wide = [max(400 * amount / total, 4.0) if amount > 0 else 0.0 for _, _, amount in parts]
    wide[wide.index(max(wide))] -= sum(wide) - 400
    x = 0.0
    for (style, name, amount), width in zip(parts, wide, strict=True):
        if width > 0:
            out.append(
                f'<rect class="{escape(style)}" x="{x:.2f}" y="0" width="{width:.2f}" height="10">'
                f"<title>{escape(name)}: {written.count(amount)}</title></rect>"
            )
        x += width
    out.append("</svg>")
    return Markup("".join(out))  # noqa: S704 - names are escaped above


def _open(width: int, height: int, title: str) -> str:
    return (
        f'<svg viewBox="0 0 {width} {height}" width="{width}" height="{height}" role="img" '
        f'aria-label="{escape(title)}">'
    )


def _figure(parts: Sequence[str], style: str = "chart") -> Markup:
    # tabindex: a drawing wider than a phone scrolls by keyboard too.
    return Markup(f'<div class="{style}" tabindex="0">' + "".join(parts) + "</div>")  # noqa: S704 - escaped where made


def _known(value: float | None) -> TypeGuard[float]:
    """Whether a value can be drawn: there, a number, and not beyond all measure."""
    return value is not None and math.isfinite(value) and abs(value) < _BEYOND


def _runs(points: Sequence[Point]) -> list[list[Point]]:
    """Split at gaps, so that a month without data is a gap and not a guess."""
    runs: list[list[Point]] = [[]]
    for p in points:
        if not _known(p.y):
            runs.append([])
        else:
            runs[-1].append(p)
    return [run for run in runs if len(run) > 1]


def _ticks(low: float, high: float, want: int = 4) -> list[float]:
    span = high - low
    if span <= 0:
        return [low]
    rough = span / want
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(m * power for m in (1, 2, 2.5, 5, 10) if m * power >= rough)
    first = math.ceil(low / step - 1e-9)
    return [k * step for k in range(first, math.floor(high / step + 1e-9) + 1)]


def _tick(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"  # noqa: PLR2004 - thousands


def _time_axis(
    x0: float,
    x1: float,
    sx: Callable[[float], float],
    y: float,
    height: float,
    *,
    rule: bool = True,
) -> list[str]:
    out = (
        [f'<line class="axis" x1="{sx(x0):.1f}" x2="{sx(x1):.1f}" y1="{y:.1f}" y2="{y:.1f}"/>']
        if rule
        else []
    )
    for at, name in _time_ticks(x0, x1):
        anchor = "start" if sx(at) - sx(x0) < 16 else "middle"  # noqa: PLR2004 - half a label
        if sx(x1) - sx(at) < 16 and at != x0:  # noqa: PLR2004 - half a label
            anchor = "end"
        out.append(
            f'<line class="axis" x1="{sx(at):.1f}" x2="{sx(at):.1f}" y1="{y:.1f}" y2="{y + 4:.1f}"/>'
            f'<text class="tick" x="{sx(at):.1f}" y="{height - 6:.1f}" text-anchor="{anchor}">'
            f"{escape(name)}</text>"
        )
    return out


def _time_ticks(x0: float, x1: float) -> list[tuple[float, str]]:
    """Return month starts when there are a few of them, else up to six evenly spaced instants."""
    start, end = written.when(int(x0)), written.when(int(x1))
    months = (end.year - start.year) * 12 + end.month - start.month + 1
    if months >= 3:  # noqa: PLR2004 - fewer are better shown as days
        every = math.ceil(months / _MAX_MONTHS_SPELLED)
        ticks: list[tuple[float, str]] = []
        for k in range(0, months, every):
            year, index = divmod(start.year * 12 + start.month - 1 + k, 12)
            first = start.replace(
                year=year, month=index + 1, day=1, hour=0, minute=0, second=0, microsecond=0
            )
            at = first.timestamp() * 1e3
            if x0 - 12 * 3_600_000 <= at <= x1:
                year_too = not ticks or first.month == 1
                ticks.append((max(at, x0), f"{first:%b %Y}" if year_too else f"{first:%b}"))
        return ticks
    if x1 - x0 > 3 * DAY_MS:
        return [
            (x0 + (x1 - x0) * k / 5, written.date(int(x0 + (x1 - x0) * k / 5))[:-5])
            for k in range(6)
        ]
    return [
        (x0 + (x1 - x0) * k / 4, f"{written.when(int(x0 + (x1 - x0) * k / 4)):%d %b %H:%M}")
        for k in range(5)
    ]
