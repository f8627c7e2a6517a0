"""Spans: named figures with their intervals, one below the other, against a limit."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING, NamedTuple

from whimbrel_core.drawing import canvas

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_NAME_CHARS = 24
_CHAR = 7.2  # units that a character of a name is wide


class Span(NamedTuple):
    """One figure: where it is, from where to where it may be, and how it is to be seen.

    Attributes:
        name: at the left.
        value: the figure; None writes ``note`` alone.
        interval: its ends; None draws the dot alone.
        state: a tone: "ok", "notice", "warn", "severe", "none".
        note: at the right.
    """

    name: str
    value: float | None
    interval: tuple[float, float] | None = None
    state: str = "none"
    note: str = ""


def draw(
    items: Sequence[Span],
    *,
    title: str,
    limit: float | None = None,
    limit_label: str = "",
    zero: bool = False,
    width: int = 640,
    write: Callable[[float], str] = canvas.tick,
) -> str:
    """Return the spans; ``limit`` is a line across, ``zero`` keeps zero in sight and marks it."""
    drawn = [one for one in items if canvas.known(one.value)]
    if not drawn:
        return ""
    ends = [end for one in drawn for end in (*(one.interval or ()), one.value) if canvas.known(end)]
    marks = [*([limit] if canvas.known(limit) else []), *([0.0] if zero else [])]
    low, high = canvas.padded(min([*ends, *marks]), max([*ends, *marks]), 0.06)
    longest = min(max(len(one.name) for one in items), _NAME_CHARS)
    left, right, top, bottom, step = 16 + longest * _CHAR, 110, 16, 24, 21
    base = top + step * len(items)

    def sx(value: float) -> float:
        return left + (width - left - right) * (value - low) / (high - low)

    out = [canvas.begin(width, base + bottom, title)]
    out += [
        f'<line class="grid" x1="{sx(value):.1f}" x2="{sx(value):.1f}" y1="{top}" '
        f'y2="{base}"/><text class="tick" x="{sx(value):.1f}" y="{base + 15}" '
        f'text-anchor="middle">{write(value)}</text>'
        for value in canvas.ticks(low, high, want=5)
    ]
    if zero:
        out.append(
            f'<line class="axis" x1="{sx(0.0):.1f}" x2="{sx(0.0):.1f}" y1="{top}" y2="{base}"/>'
        )
    if canvas.known(limit):
        x = sx(limit)
        anchor = "end" if x > (left + width - right) / 2 else "start"
        out.append(
            f'<line class="limit severe" x1="{x:.1f}" x2="{x:.1f}" y1="{top - 4}" y2="{base}"/>'
            f'<text class="limit-label severe" x="{x + (-5 if anchor == "end" else 5):.1f}" '
            f'y="{top - 5}" text-anchor="{anchor}">{escape(limit_label)}</text>'
        )
    for i, one in enumerate(items):
        out.append(_row(one, top + i * step + step / 2, sx, left, width))
    out.append("</svg>")
    return canvas.figure(out)


def _row(one: Span, y: float, sx: Callable[[float], float], left: float, width: float) -> str:
    tooltip = f"{one.name}: {one.note}"
    row = (
        f'<g class="span {escape(one.state)}"><text class="row-name" x="{left - 9:.1f}" y="{y + 4:.1f}" '
        f'text-anchor="end">{escape(canvas.shortened(one.name, _NAME_CHARS))}</text>'
    )
    if one.interval is not None and all(canvas.known(end) for end in one.interval):
        low, high = one.interval
        row += (
            f'<line class="whisker" x1="{sx(low):.1f}" x2="{sx(high):.1f}" y1="{y:.1f}" '
            f'y2="{y:.1f}"/>'
        )
    if canvas.known(one.value):
        x = sx(one.value)
        # What does not hold is a square, so that it is not told by hue alone.
        row += (
            f'<rect class="dot" x="{x - 4:.1f}" y="{y - 4:.1f}" width="8" height="8"/>'
            if one.state == "severe"
            else f'<circle class="dot" cx="{x:.1f}" cy="{y:.1f}" r="4"/>'
        )
    return row + (
        f'<text class="tick" x="{width - 4}" y="{y + 4:.1f}" text-anchor="end">{escape(one.note)}'
        f"</text><title>{escape(tooltip)}</title></g>"
    )
