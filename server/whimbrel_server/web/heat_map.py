"""A heat map as a value: features by time, gathered into as many columns as can be read."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from whimbrel_server.views.drift import DriftState
from whimbrel_server.web import scale

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from whimbrel_server.views.history import SeriesPoint

HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS
MAX_COLUMNS = 62
# Monday, 5 January 1970: weeks of the heat map begin on Mondays.
_MONDAY_MS = 4 * DAY_MS
_STEPS = (HOUR_MS, 6 * HOUR_MS, DAY_MS, 7 * DAY_MS, 28 * DAY_MS)


class HeatCell(msgspec.Struct, frozen=True, kw_only=True):
    """One feature over one column: the worst state, and the row-weighted mean effect."""

    state: DriftState
    psi: float | None
    rows: int


class HeatMap(msgspec.Struct, frozen=True, kw_only=True):
    """Feature × time; ``cells[i][j]`` is None where nothing was seen."""

    step_ms: int
    columns: tuple[int, ...]
    features: tuple[str, ...]
    cells: tuple[tuple[HeatCell | None, ...], ...]


def heat_map(series: Mapping[str, Sequence[SeriesPoint]], order: Sequence[str]) -> HeatMap:
    """Return windows gathered into at most `MAX_COLUMNS` columns of one length.

    The column is the shortest of hour, quarter day, day, week and four weeks that fits; windows
    longer than that are columns of their own length.
    """
    points = [p for found in series.values() for p in found]
    if not points:
        return HeatMap(step_ms=DAY_MS, columns=(), features=(), cells=())
    first, last = min(p.start_ms for p in points), max(p.start_ms for p in points)
    shortest = min(p.end_ms - p.start_ms for p in points)
    step = next(
        (s for s in _STEPS if s >= shortest and (last - first) / s < MAX_COLUMNS - 1), None
    ) or max(shortest, -(-(last - first) // (MAX_COLUMNS - 1)))
    origin = _MONDAY_MS if step >= 7 * DAY_MS else 0
    begin = (first - origin) // step * step + origin
    columns = tuple(range(begin, last + 1, step))
    names = [f for f in order if f in series] + [f for f in series if f not in order]
    return HeatMap(
        step_ms=step,
        columns=columns,
        features=tuple(names),
        cells=tuple(_cells(series[f], begin, step, len(columns)) for f in names),
    )


def _cells(
    points: Sequence[SeriesPoint], begin: int, step: int, columns: int
) -> tuple[HeatCell | None, ...]:
    gathered: list[list[SeriesPoint]] = [[] for _ in range(columns)]
    for p in points:
        gathered[(p.start_ms - begin) // step].append(p)
    cells: list[HeatCell | None] = []
    for group in gathered:
        known = [(p.psi, p.rows) for p in group if p.psi is not None]
        weight = sum(rows for _, rows in known)
        cells.append(
            HeatCell(
                state=scale.worst(p.state for p in group),
                psi=sum(psi * rows for psi, rows in known) / weight if weight else None,
                rows=sum(p.rows for p in group),
            )
            if group
            else None
        )
    return tuple(cells)
