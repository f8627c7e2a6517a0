"""From a page's values to charts: columns of a heat map, durations, instants, histograms."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from whimbrel_server.views.history import HistogramView, SeriesPoint
from whimbrel_server.web import draw, written
from whimbrel_server.web.heat_map import DAY_MS, MAX_COLUMNS, heat_map

if TYPE_CHECKING:
    from whimbrel_server.views.drift import DriftState

MONDAY = 1_362_355_200_000


@given(st.integers(1, 3000), st.sampled_from([300_000, 3_600_000, DAY_MS, 7 * DAY_MS, 30 * DAY_MS]))
def test_a_heat_map_never_loses_a_row_and_never_has_too_many_columns(
    count: int, length: int
) -> None:
    points = [
        SeriesPoint(
            start_ms=MONDAY + i * length,
            end_ms=MONDAY + (i + 1) * length,
            rows=10,
            psi=0.1,
            state="warn",
        )
        for i in range(count)
    ]
    found = heat_map({"a": points}, ("a",))
    assert len(found.columns) <= MAX_COLUMNS + 1
    assert sum(c.rows for c in found.cells[0] if c) == 10 * count


def test_a_column_shows_the_worst_state_and_the_weighted_mean() -> None:
    days: list[tuple[float | None, DriftState, int]] = [
        (0.0, "ok", 300),
        (0.3, "severe", 100),
        (None, "too_few", 5),
    ]
    points = [
        SeriesPoint(
            start_ms=MONDAY + i * DAY_MS, end_ms=MONDAY + (i + 1) * DAY_MS, rows=r, psi=p, state=s
        )
        for i, (p, s, r) in enumerate(days)
    ]
    far = MONDAY + 300 * DAY_MS
    points.append(SeriesPoint(start_ms=far, end_ms=far + DAY_MS, rows=1, state="ok"))
    cell = heat_map({"a": points}, ()).cells[0][0]
    assert cell is not None
    assert (cell.state, cell.rows) == ("severe", 405)
    assert cell.psi == pytest.approx(0.075)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 s"), (59.6, "1 min"), (3600, "1 h"), (93_600, "1 d 2 h"), (None, "–"), (-5, "0 s")],
)
def test_durations_have_two_units_at_most(seconds: float | None, text: str) -> None:
    assert written.duration(seconds) == text


@given(st.integers(-(10**18), 10**18))
def test_every_instant_can_be_written(ms: int) -> None:
    assert written.iso(ms)
    assert written.moment(ms)


def test_a_histogram_view_becomes_a_drawing() -> None:
    edges = tuple(i / 10 for i in range(-40, 40))
    share = (1 / (len(edges) + 1),) * (len(edges) + 1)
    view = HistogramView(
        feature="a <b>",
        kind="numeric",
        cells=tuple(str(i) for i in range(len(edges) + 1)),
        edges=edges,
        reference=share,
        current=share,
    )
    drawing = draw.histogram(view)
    assert "a &lt;b&gt;" in drawing
    assert drawing.count('class="current"') == 1
