"""Bars: over time, side by side in one strip, and one below the other by name."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING, NamedTuple

from whimbrel_core.drawing import canvas, time_axis, written

if TYPE_CHECKING:
    from collections.abc import Sequence

_NAME_CHARS = 20
_CHAR = 7.2  # units that a character of a name is wide
_EMPTY = "(empty)"
_THIN = 2.4  # thinner bars would be all gap


class Named(NamedTuple):
    """A named bar: its share in the reference and, to compare, the current one."""

    name: str
    reference: float
    current: float | None = None
    rest: bool = False  # stands for all that is not named


def over_time(
    items: Sequence[tuple[float, float, float, str, str]],
    *,
    title: str,
    width: int = 760,
    height: int = 130,
) -> str:
    """Return bars over time: (start ms, end ms, height, state, tooltip); gaps stay gaps."""
    if not items:
        return ""
    left, right, top, bottom = 46, 8, 8, 26
    x0, x1 = min(i[0] for i in items), max(i[1] for i in items)
    high = max(*(i[2] for i in items), 1.0)
    base = height - bottom

    def sx(x: float) -> float:
        return left + (width - left - right) * (x - x0) / max(x1 - x0, 1)

    def sy(y: float) -> float:
        return base - (base - top) * y / high

    out = [canvas.begin(width, height, title)]
    out += canvas.grid(canvas.ticks(0.0, high, want=2), sy, left, width - right)
    for start, end, value, state, label in items:
        tall = max(base - sy(value), 1.5)
        x, wide = sx(start), max(sx(end) - sx(start), 1.0)
        gap = 0.8 if wide > _THIN else 0.0
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
    out += time_axis.draw(x0, x1, sx, base, height)
    out.append("</svg>")
    return canvas.figure(out)


def strip(parts: Sequence[tuple[str, str, float]], *, title: str) -> str:
    """Return one horizontal bar of ``(class, name, amount)`` parts; "" when all are zero."""
    total = sum(amount for _, _, amount in parts)
    if total <= 0:
        return ""
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
    return "".join(out)


def named(items: Sequence[Named], *, title: str, width: int = 520) -> str:
    """Return a bar per name, scaled to the largest share; a current share is a mark on it."""
    if not items:
        return ""
    longest = min(max(len(one.name or _EMPTY) for one in items), _NAME_CHARS)
    left, right, step = 16 + longest * _CHAR, 58, 21
    high = max(*(max(i.reference, i.current or 0.0) for i in items), 1e-12)
    span = width - left - right
    out = [canvas.begin(width, step * len(items) + 2, title)]
    for i, item in enumerate(items):
        y = 1 + i * step
        name = item.name or _EMPTY
        label = f"{name}: {written.percent(item.reference)}"
        if item.current is not None:
            label += f", now {written.percent(item.current)}"
        style = "reference rest" if item.rest else "reference"
        out.append(
            f'<g class="bin"><text class="row-name" x="{left - 9:.1f}" y="{y + 14.5}" '
            f'text-anchor="end">{escape(canvas.shortened(name, _NAME_CHARS))}</text>'
            f'<rect class="{style}" x="{left:.1f}" y="{y + 3}" '
            f'width="{max(span * item.reference / high, 0.6):.1f}" height="{step - 6}" rx="1.5"/>'
        )
        if item.current is not None:
            x = left + span * item.current / high
            out.append(
                f'<path class="current" d="M{left:.1f},{y + 2} H{x:.1f} V{y + step - 2} H{left:.1f}"/>'
            )
        shown = item.reference if item.current is None else item.current
        out.append(
            f'<text class="tick" x="{width - 4}" y="{y + 14.5}" text-anchor="end">'
            f"{written.percent(shown)}</text>"
            f'<rect class="hit" x="0" y="{y}" width="{width}" height="{step}"/>'
            f"<title>{escape(label)}</title></g>"
        )
    out.append("</svg>")
    return canvas.figure(out)
