"""Histograms: cells of a profile as bars, one distribution or a current one over a reference.

A numeric feature's cells are quantiles of the reference: right for statistics, but each holds as
much as the next, so drawn as they are every distribution would look flat. `bars` makes bars of
equal width of them: mass inside a cell is spread evenly; what lies beyond the drawn range is in
the first and the last bar.
"""

from __future__ import annotations

import bisect
import math
from html import escape
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING, NamedTuple

from whimbrel_core.drawing import canvas, written

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

BARS = 24
TAIL = 0.002
_CHAR = 6.5  # units that a character is wide
_NAME_CHARS = 9


class Bars(NamedTuple):
    """What a histogram draws.

    Attributes:
        names: of the bars, for tooltips.
        sides: the reference's share per bar and, if there is one, the current share.
        ticks: (place, text), the place in bars from the left; () writes the names below the bars.
    """

    names: Sequence[str]
    sides: tuple[Sequence[float], ...]
    ticks: Sequence[tuple[float, str]] = ()


def bars(
    kind: str,
    cells: Sequence[str],
    edges: Sequence[float],
    *sides: Sequence[float],
    write: Callable[[float], str] = canvas.tick,
) -> Bars:
    """Return the bars of a feature: its cells as they are, or bars of equal width.

    Args:
        kind: of the feature, as in its layout.
        cells: names of its cells.
        edges: of a numeric feature's cells.
        sides: shares per cell: of the reference and, if there is one, the current ones.
        write: how a number is written at a tick.
    """
    if kind == "discrete":
        return Bars([_short(name) for name in cells], sides)
    if kind != "numeric" or not edges or any(len(side) != len(edges) + 1 for side in sides):
        return Bars(cells, sides)
    if len(edges) <= BARS:
        return Bars(_between(edges), sides, _cuts(edges))
    sums = [list(accumulate(side))[:-1] for side in sides]
    # The range that holds nearly all of both, so that one far outlier does not flatten the rest.
    low = next((e for e, *c in zip(edges, *sums, strict=True) if max(c) >= TAIL), edges[0])
    high = next((e for e, *c in zip(edges, *sums, strict=True) if min(c) >= 1 - TAIL), edges[-1])
    if not low < high:
        return Bars(cells, sides)
    width = (high - low) / BARS
    lines = [*(low + width * k for k in range(BARS)), high]
    regrouped = []
    for below in sums:
        at = [_below(x, edges, below) for x in lines]
        regrouped.append([at[0], *(b - a for a, b in pairwise(at)), max(1 - at[-1], 0.0)])
    ticks = [(1 + (value - low) / width, write(value)) for value in canvas.ticks(low, high)]
    return Bars(_between(lines), tuple(regrouped), ticks)


def draw(shown: Bars, *, title: str, width: int = 520, height: int = 176) -> str:
    """Return a histogram: the reference filled, the current side, if there is one, outlined."""
    names, sides = shown.names, shown.sides
    top_share = max(1e-12, *(share for side in sides for share in side)) * 1.05
    left, right, top, bottom = 44, 8, 10, 26
    each = (width - left - right) / max(len(names), 1)
    base = height - bottom

    def sy(share: float) -> float:
        return base - (base - top) * share / top_share

    out = [canvas.begin(width, height, title)]
    out += canvas.grid(
        canvas.ticks(0.0, top_share, want=3), sy, left, width - right, _whole_percent
    )
    for i, name in enumerate(names):
        x, y = left + i * each, sy(sides[0][i])
        out.append(
            f'<g class="bin"><rect class="reference" x="{x + 0.5:.1f}" y="{y:.1f}" '
            f'width="{max(each - 1, 0.6):.1f}" height="{base - y:.1f}"/>'
            f'<rect class="hit" x="{x:.1f}" y="{top}" width="{each:.1f}" height="{base - top}"/>'
            f"<title>{escape(_tooltip(name, [side[i] for side in sides]))}</title></g>"
        )
    for side in sides[1:]:
        path = " ".join(
            f"{left + i * each:.1f},{sy(share):.1f} {left + (i + 1) * each:.1f},{sy(share):.1f}"
            for i, share in enumerate(side)
        )
        end = left + each * len(side)
        out.append(f'<polyline class="current" points="{left},{base} {path} {end:.1f},{base}"/>')
    out.append(f'<line class="axis" x1="{left}" x2="{width - right}" y1="{base}" y2="{base}"/>')
    for place, text in _spaced(shown, width - left - right):
        x = left + place * each
        if shown.ticks:
            out.append(
                f'<line class="axis" x1="{x:.1f}" x2="{x:.1f}" y1="{base}" y2="{base + 4}"/>'
            )
        out.append(
            f'<text class="tick" x="{x:.1f}" y="{base + 16}" text-anchor="middle">'
            f"{escape(text)}</text>"
        )
    out.append("</svg>")
    return canvas.figure(out)


def spark(shown: Bars, *, title: str) -> str:
    """Return a small histogram without axes, for a row of a table."""
    width, height = 96.0, 22.0
    shares = shown.sides[0]
    high = max(1e-12, *shares)
    each = width / max(len(shares), 1)
    gap = 0.5 if each > 2 else 0.0  # noqa: PLR2004 - thinner bars would be all gap
    out = [canvas.begin(width, height, title).replace("<svg ", '<svg class="spark" ', 1)]
    out.append(f"<title>{escape(title)}</title>")
    for i, share in enumerate(shares):
        tall = (height - 1) * share / high
        if tall > 0:
            out.append(
                f'<rect class="reference" x="{i * each:.1f}" y="{height - tall:.1f}" '
                f'width="{each - gap:.1f}" height="{tall:.1f}"/>'
            )
    out.append("</svg>")
    return "".join(out)


def _spaced(shown: Bars, width: float) -> list[tuple[float, str]]:
    """Return the ticks, or the names below the bars' middles, as many as fit."""
    if shown.ticks:
        texts = [canvas.shortened(text, _NAME_CHARS) for _, text in shown.ticks]
        room = width / max(len(shown.names), 1)
        kept: list[tuple[float, str]] = []
        for (place, _), text in zip(shown.ticks, texts, strict=True):
            apart = (len(text) + len(kept[-1][1])) / 2 * _CHAR + 8 if kept else 0.0
            if not kept or (place - kept[-1][0]) * room >= apart:
                kept.append((place, text))
        return kept
    longest = min(max((len(name) for name in shown.names), default=1), _NAME_CHARS)
    every = max(1, math.ceil(len(shown.names) * (longest * _CHAR + 8) / width))
    return [
        (i + 0.5, canvas.shortened(name, _NAME_CHARS))
        for i, name in enumerate(shown.names)
        if i % every == 0 and name
    ]


def _tooltip(name: str, shares: Sequence[float]) -> str:
    if len(shares) == 1:
        return f"{name}: {written.percent(shares[0])}"
    return f"{name}: reference {written.percent(shares[0])}, current {written.percent(shares[1])}"


def _whole_percent(share: float) -> str:
    return f"{share * 100:.3g} %"


def _short(name: str) -> str:
    """Return a value's name with four digits at most; "other" and words stay."""
    try:
        return f"{float(name):.4g}"
    except ValueError:
        return name


def _cuts(edges: Sequence[float]) -> list[tuple[float, str]]:
    """Return a tick at every edge, between the bars that it parts."""
    return [(i + 1.0, text) for i, text in enumerate(_texts(edges))]


def _between(edges: Sequence[float]) -> list[str]:
    """Return what bars between edges are called."""
    text = _texts(edges)
    return [f"≤ {text[0]}", *(f"{a}–{b}" for a, b in pairwise(text)), f"> {text[-1]}"]


def _texts(edges: Sequence[float]) -> list[str]:
    """Return edges with the digits that tell neighbours apart."""
    step = (edges[-1] - edges[0]) / max(len(edges) - 1, 1)
    digits = min(max(-math.floor(math.log10(step)), 0), 6) if step > 0 else 3
    text = [f"{edge:.{digits}f}" for edge in edges]
    return ["0" if float(t) == 0 else t for t in text]


def _below(x: float, edges: Sequence[float], sums: Sequence[float]) -> float:
    """Return the share at or below ``x``, which lies within the edges."""
    i = bisect.bisect_left(edges, x)
    if i == 0 or edges[i] == x:
        return sums[i]
    part = (x - edges[i - 1]) / (edges[i] - edges[i - 1])
    return sums[i - 1] + (sums[i] - sums[i - 1]) * part
