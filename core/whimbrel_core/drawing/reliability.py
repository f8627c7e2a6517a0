"""The reliability curve: how often a score came true, against what it said.

Murphy and Winkler, "Reliability of subjective probability forecasts of precipitation and
temperature" (1977). On the diagonal a score of .3 comes true three times in ten.
"""

from __future__ import annotations

import math
from html import escape
from typing import TYPE_CHECKING, NamedTuple

from whimbrel_core.drawing import canvas, written

if TYPE_CHECKING:
    from collections.abc import Sequence

_Z = 1.96  # of a two-sided interval of 95 %
_ZOOM = 0.62  # a curve that ends below this is drawn over half of the range


class ScoreBin(NamedTuple):
    """One bin of scores: their mean, and how many claims came true of how many."""

    mean: float
    true: int
    rows: int

    @property
    def observed(self) -> float:
        """Share of claims that came true."""
        return self.true / self.rows

    @property
    def interval(self) -> tuple[float, float]:
        """Wilson's interval of that share, 95 %.

        >>> tuple(round(end, 3) for end in ScoreBin(0.2, 8, 40).interval)
        (0.105, 0.348)
        """
        n, p = self.rows, self.observed
        middle = (p + _Z**2 / (2 * n)) / (1 + _Z**2 / n)
        half = _Z / (1 + _Z**2 / n) * math.sqrt(p * (1 - p) / n + _Z**2 / (4 * n * n))
        # At the ends rounding must not part the interval from its share.
        return max(min(middle - half, p), 0.0), min(max(middle + half, p), 1.0)


def draw(
    sides: Sequence[Sequence[ScoreBin]], *, title: str, width: int = 520, height: int = 340
) -> str:
    """Return the curve over the diagonal, with the rows per bin at the foot.

    Args:
        sides: bins of one model, or of a reference and a current one; empty bins are left out.
        title: what it is.
        width: of the drawing.
        height: of the drawing.
    """
    sides = [[one for one in side if one.rows] for side in sides]
    found = [one for side in sides for one in side]
    if not found:
        return ""
    left, right, top, bottom, foot = 44, 12, 10, 40, 44
    base = height - bottom
    floor = base - foot - 8  # of the curve; the rows stand below it
    highest = max(max(one.mean, one.interval[1]) for one in found)
    lowest = min(min(one.mean, one.interval[0]) for one in found)
    y1 = 1.0 if highest > _ZOOM else max(math.ceil(highest * 10) / 10, 0.1)
    y0 = math.floor(lowest * 10) / 10 if lowest > 1 - _ZOOM and y1 == 1.0 else 0.0

    def sx(x: float) -> float:
        return left + (width - left - right) * (x - y0) / (y1 - y0)

    def sy(y: float) -> float:
        return floor - (floor - top) * (y - y0) / (y1 - y0)

    out = [canvas.begin(width, height, title)]
    out += canvas.grid(canvas.ticks(y0, y1), sy, left, width - right)
    for value in canvas.ticks(y0, y1):
        out.append(
            f'<line class="axis" x1="{sx(value):.1f}" x2="{sx(value):.1f}" y1="{base}" '
            f'y2="{base + 4}"/><text class="tick" x="{sx(value):.1f}" y="{base + 16}" '
            f'text-anchor="middle">{canvas.tick(value)}</text>'
        )
    out.append(
        f'<line class="diagonal" x1="{sx(y0):.1f}" y1="{sy(y0):.1f}" x2="{sx(y1):.1f}" '
        f'y2="{sy(y1):.1f}"/>'
        f'<line class="axis" x1="{left}" x2="{width - right}" y1="{base}" y2="{base}"/>'
        f'<text class="tick" x="{width - right}" y="{base + 31}" text-anchor="end">'
        "mean score of the bin</text>"
    )
    most = max(one.rows for one in found)
    for side, style in zip(sides, ("s1",) if len(sides) == 1 else ("s0", "s1"), strict=False):
        last = side is sides[-1]
        path = " ".join(f"{sx(one.mean):.1f},{sy(one.observed):.1f}" for one in side)
        out.append(f'<polyline class="line thin {style}" points="{path}"/>')
        for one in side:
            x, (low, high) = sx(one.mean), one.interval
            out.append(
                f'<g class="bin"><line class="whisker {style}" x1="{x:.1f}" x2="{x:.1f}" '
                f'y1="{sy(low):.1f}" y2="{sy(high):.1f}"/><circle class="dot {style}" '
                f'cx="{x:.1f}" cy="{sy(one.observed):.1f}" r="3.2"/>'
            )
            if last:
                tall = max(foot * one.rows / most, 1.0)
                out.append(
                    f'<rect class="reference" x="{x - 3:.1f}" y="{base - tall:.1f}" width="6" '
                    f'height="{tall:.1f}"/>'
                )
            label = (
                f"score {written.stat(one.mean)}: came true {written.percent(one.observed)} of "
                f"{written.count(one.rows)} times (95 %: {written.percent(low)} to "
                f"{written.percent(high)})"
            )
            out.append(f"<title>{escape(label)}</title></g>")
    out.append("</svg>")
    return canvas.figure(out)
