"""Lines over time, and the small line without axes."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

import msgspec

from whimbrel_core.drawing import canvas, time_axis, written

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_MANY_DOTS = 60  # dots of full size would touch
_DASH = '<span class="faint">–</span>'


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
    """A line across that means something (``warn`` at .1)."""

    value: float
    state: str
    label: str


def spark(values: Sequence[float | None], *, top: float | None = None, title: str = "") -> str:
    """Return a small line without axes; ``top`` fixes the upper end so that rows compare."""
    width, height = 96.0, 22.0
    found = [v for v in values if canvas.known(v)]
    if len(found) < 2:  # noqa: PLR2004 - a line needs two points
        return _DASH
    high = max(*found, top or 0.0) or 1.0
    step = (width - 4) / (len(values) - 1)
    points = [
        (2 + i * step, height - 2 - (height - 4) * (max(v, 0.0) / high))
        for i, v in enumerate(values)
        if canvas.known(v)
    ]
    line = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    x, y = points[-1]
    return (
        f'<svg class="spark" viewBox="0 0 {width:.0f} {height:.0f}" width="{width:.0f}" '
        f'height="{height:.0f}" role="img" aria-label="{escape(title)}"><title>{escape(title)}</title>'
        f'<polyline class="line s1" points="{line}"/><circle class="dot s1" cx="{x:.1f}" '
        f'cy="{y:.1f}" r="2.2"/></svg>'
    )


def over_time(
    series: Sequence[Line],
    *,
    title: str,
    limits: Sequence[Limit] = (),
    floor: float | None = None,
    ceiling: float | None = None,
    width: int = 560,
    height: int = 280,
    write: Callable[[float], str] = written.stat,
) -> str:
    """Return lines over time (``x`` in ms) with labelled axes; "" when there is no point."""
    points = [p for s in series for p in s.points if canvas.known(p.y)]
    if not points:
        return ""
    left, right, top, bottom = 46, 14, 12, 26
    x0, x1 = min(p.x for p in points), max(p.x for p in points)
    if x1 == x0:
        x0, x1 = x0 - time_axis.DAY_MS, x1 + time_axis.DAY_MS
    values = [p.y for p in points if p.y is not None]
    # A limit far above everything would flatten the lines; it is drawn once they come near.
    near = [m for m in limits if m.value <= 4 * max(values)] or list(limits[:1])
    y0 = min(values) if floor is None else floor
    y1 = max([*values, *(m.value for m in near)]) if ceiling is None else ceiling
    below, above = canvas.padded(y0, y1, 0.08)
    if floor is None:
        y0 = below
    if ceiling is None or y1 <= y0:
        y1 = above

    def sx(x: float) -> float:
        return left + (width - left - right) * (x - x0) / (x1 - x0)

    def sy(y: float) -> float:
        return height - bottom - (height - top - bottom) * (min(max(y, y0), y1) - y0) / (y1 - y0)

    out = [canvas.begin(width, height, title)]
    out += canvas.grid(canvas.ticks(y0, y1), sy, left, width - right)
    out += time_axis.draw(x0, x1, sx, height - bottom, height)
    for mark in near:
        y = sy(mark.value)
        out.append(
            f'<line class="limit {escape(mark.state)}" x1="{left}" x2="{width - right}" '
            f'y1="{y:.1f}" y2="{y:.1f}"/><text class="limit-label {escape(mark.state)}" '
            f'x="{width - right}" y="{y - 4:.1f}" text-anchor="end">{escape(mark.label)}</text>'
        )
    for one in series:
        out += _line(one, sx, sy, write)
    out.append("</svg>")
    return canvas.figure(out)


def _line(
    one: Line,
    sx: Callable[[float], float],
    sy: Callable[[float], float],
    write: Callable[[float], str],
) -> list[str]:
    dash = " dashed" if one.dashed else ""
    out = []
    for run in _runs(one.points):
        path = " ".join(f"{sx(p.x):.1f},{sy(p.y or 0.0):.1f}" for p in run)
        out.append(f'<polyline class="line {escape(one.style)}{dash}" points="{path}"/>')
    radius = 2.6 if len(one.points) <= _MANY_DOTS else 1.4
    hollow = " hollow" if one.dashed else ""
    for p in one.points:
        if canvas.known(p.y):
            label = p.label or f"{one.name}: {write(p.y)}"
            out.append(
                f'<circle class="dot {escape(one.style)}{hollow}" cx="{sx(p.x):.1f}" '
                f'cy="{sy(p.y):.1f}" r="{radius}"><title>{escape(label)}</title></circle>'
            )
    return out


def _runs(points: Sequence[Point]) -> list[list[Point]]:
    """Split at gaps, so that a month without data is a gap and not a guess."""
    runs: list[list[Point]] = [[]]
    for p in points:
        if not canvas.known(p.y):
            runs.append([])
        else:
            runs[-1].append(p)
    return [run for run in runs if len(run) > 1]
