"""The heat map: features by time, a cell's state by colour and by letter."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

import msgspec

from whimbrel_core.drawing import canvas, time_axis

if TYPE_CHECKING:
    from collections.abc import Sequence

_NAME_CHARS = 20  # fits the margin
_LETTER = 11  # units that a letter is wide


class Cell(msgspec.Struct, frozen=True):
    """One cell; ``state`` is a class, ``mark`` the letter in it, ``level`` its shade."""

    state: str
    mark: str = ""
    label: str = ""
    level: int = 0


def draw(
    rows: Sequence[tuple[str, str]],
    columns: Sequence[int],
    cells: Sequence[Sequence[Cell]],
    *,
    title: str,
    width: int = 1120,
) -> str:
    """Return feature × time. ``rows`` are (name, address), ``columns`` starts in ms."""
    if not rows or not columns:
        return ""
    left, top, bottom, step = 150, 4, 24, 22
    height = top + step * len(rows) + bottom
    each = (width - left - 4) / len(columns)
    out = [canvas.begin(width, height, title)]
    for i, (name, address) in enumerate(rows):
        y = top + i * step
        named = (
            f'<text class="row-name" x="{left - 8}" y="{y + 15}" text-anchor="end">'
            f"{escape(canvas.shortened(name, _NAME_CHARS))}<title>{escape(name)}</title></text>"
        )
        out.append(f'<a href="{escape(address)}">{named}</a>' if address else named)
        for j, cell in enumerate(cells[i]):
            out.append(_cell(cell, left + j * each, y, each, step))
    last = len(columns) - 1
    span = columns[last] - columns[0] or time_axis.DAY_MS

    def sx(x: float) -> float:
        return left + each * last * (x - columns[0]) / span

    foot = height - bottom
    out += time_axis.draw(columns[0], columns[0] + span, sx, foot, height, rule=False)
    out.append("</svg>")
    return canvas.figure(out, "chart wide")


def _cell(cell: Cell, x: float, y: float, each: float, step: float) -> str:
    out = (
        f'<g class="cell {escape(cell.state)} l{cell.level}"><rect x="{x:.1f}" y="{y + 1}" '
        f'width="{max(each - 1.5, 0.8):.1f}" height="{step - 2}" rx="2"/>'
    )
    if cell.mark and each >= _LETTER:
        out += (
            f'<text x="{x + (each - 1.5) / 2:.1f}" y="{y + 15}" text-anchor="middle">'
            f"{escape(cell.mark)}</text>"
        )
    if cell.label:
        out += f"<title>{escape(cell.label)}</title>"
    return out + "</g>"
