"""The axis of time: months where there are a few of them, else evenly spaced instants (UTC)."""

from __future__ import annotations

import math
from html import escape
from typing import TYPE_CHECKING

from whimbrel_core.drawing import written

if TYPE_CHECKING:
    from collections.abc import Callable

DAY_MS = 86_400_000
_MAX_MONTHS_SPELLED = 14
_HALF_LABEL = 16
_FEW_MONTHS = 3  # fewer are better shown as days
_FEW_DAYS = 3


def draw(
    x0: float,
    x1: float,
    place: Callable[[float], float],
    y: float,
    height: float,
    *,
    rule: bool = True,
) -> list[str]:
    """Return the axis of ``x0`` … ``x1`` (ms) at ``y``, its names at the foot of the drawing."""
    left, right = place(x0), place(x1)
    out = (
        [f'<line class="axis" x1="{left:.1f}" x2="{right:.1f}" y1="{y:.1f}" y2="{y:.1f}"/>']
        if rule
        else []
    )
    for at, name in ticks(x0, x1):
        x = place(at)
        anchor = "start" if x - left < _HALF_LABEL else "middle"
        if right - x < _HALF_LABEL and at != x0:
            anchor = "end"
        out.append(
            f'<line class="axis" x1="{x:.1f}" x2="{x:.1f}" y1="{y:.1f}" y2="{y + 4:.1f}"/>'
            f'<text class="tick" x="{x:.1f}" y="{height - 6:.1f}" text-anchor="{anchor}">'
            f"{escape(name)}</text>"
        )
    return out


def ticks(x0: float, x1: float) -> list[tuple[float, str]]:
    """Return instants (ms) with their names."""
    start, end = written.when(int(x0)), written.when(int(x1))
    months = (end.year - start.year) * 12 + end.month - start.month + 1
    if months >= _FEW_MONTHS:
        every = math.ceil(months / _MAX_MONTHS_SPELLED)
        found: list[tuple[float, str]] = []
        for k in range(0, months, every):
            year, index = divmod(start.year * 12 + start.month - 1 + k, 12)
            first = start.replace(
                year=year, month=index + 1, day=1, hour=0, minute=0, second=0, microsecond=0
            )
            at = first.timestamp() * 1e3
            if x0 - DAY_MS / 2 <= at <= x1:
                year_too = not found or first.month == 1
                found.append((max(at, x0), f"{first:%b %Y}" if year_too else f"{first:%b}"))
        return found
    step = (x1 - x0) / 5
    if x1 - x0 > _FEW_DAYS * DAY_MS:
        return [(x0 + step * k, written.date(int(x0 + step * k))[:-5]) for k in range(6)]
    step = (x1 - x0) / 4
    return [(x0 + step * k, f"{written.when(int(x0 + step * k)):%d %b %H:%M}") for k in range(5)]
