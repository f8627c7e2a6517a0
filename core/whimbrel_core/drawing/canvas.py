"""The canvas: how a drawing begins and ends, grid lines, and which numbers can be drawn."""

from __future__ import annotations

import math
from html import escape
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import TypeGuard

_BEYOND = 1e15
_THOUSANDS = 1000
_FINEST = 1e-300  # narrower ranges cannot be parted in float64


def begin(width: float, height: float, title: str) -> str:
    """Return the opening tag of a drawing of ``width`` × ``height`` units."""
    return (
        f'<svg viewBox="0 0 {width:g} {height:g}" width="{width:g}" height="{height:g}" role="img" '
        f'aria-label="{escape(title)}">'
    )


def figure(parts: Sequence[str], style: str = "chart") -> str:
    """Return the parts of a drawing in a box that scrolls where a screen is too narrow."""
    # tabindex: it scrolls by keyboard too.
    return f'<div class="{style}" tabindex="0">' + "".join(parts) + "</div>"


def known(value: float | None) -> TypeGuard[float]:
    """Return whether a value can be drawn: there, a number, and not beyond all measure."""
    return value is not None and math.isfinite(value) and abs(value) < _BEYOND


def ticks(low: float, high: float, want: int = 4) -> list[float]:
    """Return about ``want`` round numbers between two others.

    >>> ticks(0, 1), ticks(3, 3), ticks(-7, 12, 3)
    ([0.0, 0.25, 0.5, 0.75, 1.0], [3], [0.0, 10.0])
    """
    span = high - low
    if span < _FINEST:
        return [low]
    rough = span / want
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(m * power for m in (1, 2, 2.5, 5, 10) if m * power >= rough)
    first = math.ceil(low / step - 1e-9)
    return [k * step for k in range(first, math.floor(high / step + 1e-9) + 1)]


def padded(low: float, high: float, share: float) -> tuple[float, float]:
    """Return a range with a margin on either side, never so narrow that nothing fits into it.

    >>> padded(0.0, 10.0, 0.1), padded(5.0, 5.0, 0.1), padded(0.0, 0.0, 0.1)
    ((-1.0, 11.0), (4.5, 5.5), (-0.1, 0.1))
    """
    largest = max(abs(low), abs(high))
    span = high - low if high - low > largest * 1e-9 else largest
    margin = (span if span > _FINEST else 1.0) * share
    return low - margin, high + margin


def tick(value: float) -> str:
    """Return what is written at a tick.

    >>> tick(0.30000000000000004), tick(12500.0)
    ('0.3', '12,500')
    """
    return f"{value:,.0f}" if abs(value) >= _THOUSANDS else f"{value:.4g}"


def shortened(text: str, chars: int) -> str:
    """Return a text that is at most so long, cut with an ellipsis."""
    return text if len(text) <= chars else text[: chars - 1] + "…"


def grid(
    at: Sequence[float],
    place: Callable[[float], float],
    left: float,
    right: float,
    write: Callable[[float], str] = tick,
) -> list[str]:
    """Return horizontal lines with their numbers at the left."""
    out = []
    for value in at:
        y = place(value)
        out.append(
            f'<line class="grid" x1="{left:g}" x2="{right:g}" y1="{y:.1f}" y2="{y:.1f}"/>'
            f'<text class="tick" x="{left - 7:g}" y="{y + 3.5:.1f}" text-anchor="end">'
            f"{write(value)}</text>"
        )
    return out
