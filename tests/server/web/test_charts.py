"""Charts hold at the edges: nothing, one point, gaps, not-a-number, extremes."""

from __future__ import annotations

import math
import random
import re
from statistics import NormalDist
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from whimbrel_server.views import DriftState, HistogramView, SeriesPoint
from whimbrel_server.web import charts, draw, written
from whimbrel_server.web.model_page import DAY_MS, MAX_COLUMNS, heat_map

MONDAY = 1_362_355_200_000
values = st.one_of(st.none(), st.floats(allow_nan=True, allow_infinity=True), st.floats(-1e6, 1e6))


def parsed(drawing: str) -> ET.Element:
    """Return the drawing as XML; it must be that, and hold finite numbers alone."""
    assert not re.search(r'="-?(nan|inf)', drawing)
    return ET.fromstring(f"<x>{drawing}</x>")  # noqa: S314 - drawn by the code under test


@given(st.lists(values, max_size=40))
def test_a_sparkline_is_drawn_of_whatever_there_is(numbers: list[float | None]) -> None:
    known = [n for n in numbers if n is not None and abs(n) < 1e15]
    drawing = parsed(charts.sparkline(numbers, top=0.1, title='a "name" <b>'))
    assert (drawing.find(".//polyline") is not None) is (len(known) >= 2)


@given(st.lists(st.tuples(st.integers(0, 4_000_000_000_000), values), max_size=40))
def test_lines_are_drawn_of_whatever_there_is(points: list[tuple[int, float | None]]) -> None:
    marks = tuple(charts.Point(x, y) for x, y in sorted(points, key=lambda p: p[0]))
    drawing = parsed(charts.lines([charts.Line("a&b", marks)], title="t"))
    known = [p for p in marks if p.y is not None and abs(p.y) < 1e15]
    assert len(drawing.findall(".//circle")) == len(known)


def test_a_month_without_data_is_a_gap_in_the_line() -> None:
    ys = [0.7, 0.7, None, 0.6, 0.6]
    marks = tuple(charts.Point(i * 30 * DAY_MS, y) for i, y in enumerate(ys))
    assert (
        len(parsed(charts.lines([charts.Line("x", marks)], title="t")).findall(".//polyline")) == 2
    )


@pytest.mark.parametrize("amounts", [(0, 0, 0), (1, 0, 0), (10**9, 1, 1), (5, 5, 5), (1, 10**9, 1)])
def test_a_strip_shows_the_smallest_part_and_stays_inside(amounts: tuple[int, ...]) -> None:
    drawing = parsed(
        charts.strip([(f"c{i}", f"n{i}", a) for i, a in enumerate(amounts)], title="t")
    )
    bars = drawing.findall(".//rect")
    assert len(bars) == sum(a > 0 for a in amounts)
    if bars:
        assert all(float(b.attrib["width"]) >= 4 for b in bars)
        assert sum(float(b.attrib["width"]) for b in bars) == pytest.approx(400, abs=0.1)


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


@given(st.integers(30, 103), st.integers(0, 2**31), st.floats(-3, 3))
def test_equal_bars_of_many_cells_lose_no_mass(cells: int, seed: int, shift: float) -> None:
    dice = random.Random(seed)
    edges = tuple(sorted({dice.gauss(0, 1) for _ in range(cells)}))
    share = [dice.expovariate(1) + 1e-9 for _ in range(len(edges) + 1)]
    other = [dice.expovariate(1) * math.exp(shift * i / cells) for i in range(len(edges) + 1)]
    view = HistogramView(
        feature="f",
        kind="numeric",
        cells=tuple(str(i) for i in range(len(edges) + 1)),
        edges=edges,
        reference=tuple(s / sum(share) for s in share),
        current=tuple(o / sum(other) for o in other),
    )
    names, reference, current = draw.bars(view)
    assert len(names) == len(reference) == len(current) == draw.BARS + 2
    for side in (reference, current):
        assert min(side) > -1e-9
        assert sum(side) == pytest.approx(1.0)
    parsed(draw.histogram(view))


def test_a_normal_feature_looks_like_a_bell_and_not_flat() -> None:
    normal = NormalDist()
    edges = tuple(normal.inv_cdf((i + 1) / 80) for i in range(79))
    view = HistogramView(
        feature="f",
        kind="numeric",
        cells=("",) * 80,
        edges=edges,
        reference=(1 / 80,) * 80,
        current=(1 / 80,) * 80,
    )
    _, reference, _ = draw.bars(view)
    middle = reference[len(reference) // 2]
    assert middle > 3 * reference[2]
