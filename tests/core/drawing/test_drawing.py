"""Drawings hold at the edges: nothing, one point, gaps, not-a-number, extremes, hostile names."""

from __future__ import annotations

import math
import random
import re
from statistics import NormalDist
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from whimbrel_core.drawing import (
    bars,
    canvas,
    heatmap,
    histogram,
    lines,
    reliability,
    spans,
    theme,
    written,
)

DAY_MS = 86_400_000
HOSTILE = "<script>\"&'</script>"
values = st.one_of(st.none(), st.floats(allow_nan=True, allow_infinity=True), st.floats(-1e6, 1e6))


def parsed(drawing: str) -> ET.Element:
    """Return the drawing as XML; it must be that, and hold finite numbers alone."""
    assert not re.search(r'="-?(nan|inf)', drawing)
    assert "<script" not in drawing
    return ET.fromstring(f"<x>{drawing}</x>")  # noqa: S314 - drawn by the code under test


@given(st.lists(values, max_size=40))
def test_a_sparkline_is_drawn_of_whatever_there_is(numbers: list[float | None]) -> None:
    found = [n for n in numbers if n is not None and abs(n) < 1e15]
    drawing = parsed(lines.spark(numbers, top=0.1, title=HOSTILE))
    assert (drawing.find(".//polyline") is not None) is (len(found) >= 2)


@given(st.lists(st.tuples(st.integers(0, 4_000_000_000_000), values), max_size=40))
def test_lines_are_drawn_of_whatever_there_is(points: list[tuple[int, float | None]]) -> None:
    marks = tuple(lines.Point(x, y) for x, y in sorted(points, key=lambda p: p[0]))
    drawing = parsed(lines.over_time([lines.Line(HOSTILE, marks)], title=HOSTILE))
    found = [p for p in marks if p.y is not None and abs(p.y) < 1e15]
    assert len(drawing.findall(".//circle")) == len(found)


def test_a_month_without_data_is_a_gap_in_the_line() -> None:
    ys = [0.7, 0.7, None, 0.6, 0.6]
    marks = tuple(lines.Point(i * 30 * DAY_MS, y) for i, y in enumerate(ys))
    drawing = parsed(lines.over_time([lines.Line("x", marks)], title="t"))
    assert len(drawing.findall(".//polyline")) == 2


@pytest.mark.parametrize("days", [0, 2, 20, 100, 4000])
def test_time_is_written_at_every_scale(days: int) -> None:
    marks = (lines.Point(1.37e12, 1.0), lines.Point(1.37e12 + days * DAY_MS, 2.0))
    limits = (lines.Limit(1.5, "warn", HOSTILE),)
    drawing = parsed(lines.over_time([lines.Line("x", marks)], title="t", limits=limits))
    assert len(drawing.findall(".//text[@class='tick']")) >= 5


@pytest.mark.parametrize("amounts", [(0, 0, 0), (1, 0, 0), (10**9, 1, 1), (5, 5, 5), (1, 10**9, 1)])
def test_a_strip_shows_the_smallest_part_and_stays_inside(amounts: tuple[int, ...]) -> None:
    drawing = parsed(bars.strip([(f"c{i}", f"n{i}", a) for i, a in enumerate(amounts)], title="t"))
    found = drawing.findall(".//rect")
    assert len(found) == sum(a > 0 for a in amounts)
    if found:
        assert all(float(b.attrib["width"]) >= 4 for b in found)
        assert sum(float(b.attrib["width"]) for b in found) == pytest.approx(400, abs=0.1)


@given(st.integers(30, 103), st.integers(0, 2**31), st.floats(-3, 3))
def test_equal_bars_of_many_cells_lose_no_mass(cells: int, seed: int, shift: float) -> None:
    dice = random.Random(seed)
    edges = tuple(sorted({dice.gauss(0, 1) for _ in range(cells)}))
    share = [dice.expovariate(1) + 1e-9 for _ in range(len(edges) + 1)]
    other = [dice.expovariate(1) * math.exp(shift * i / cells) for i in range(len(edges) + 1)]
    shown = histogram.bars(
        "numeric",
        tuple(str(i) for i in range(len(edges) + 1)),
        edges,
        tuple(s / sum(share) for s in share),
        tuple(o / sum(other) for o in other),
    )
    assert len(shown.names) == histogram.BARS + 2
    for side in shown.sides:
        assert len(side) == len(shown.names)
        assert min(side) > -1e-9
        assert sum(side) == pytest.approx(1.0)
    assert all(0 <= place <= len(shown.names) for place, _ in shown.ticks)
    parsed(histogram.draw(shown, title="t"))
    parsed(histogram.spark(shown, title=HOSTILE))


def test_a_normal_feature_looks_like_a_bell_and_not_flat() -> None:
    normal = NormalDist()
    edges = tuple(normal.inv_cdf((i + 1) / 80) for i in range(79))
    (side,) = histogram.bars("numeric", ("",) * 80, edges, (1 / 80,) * 80).sides
    assert side[len(side) // 2] > 3 * side[2]


@pytest.mark.parametrize(
    ("kind", "cells", "edges"),
    [
        ("categorical", (HOSTILE, "b", "other"), ()),
        ("discrete", ("0.30000001", "1", "other"), ()),
        ("numeric", ("any",), ()),
        ("numeric", ("≤ 1", "(1, 2]", "> 2"), (1.0, 2.0)),
        ("numeric", ("≤ 1", "> 1"), (1.0,)),
    ],
    ids=["words", "values", "one cell", "few cells", "one edge"],
)
def test_few_cells_are_drawn_as_they_are(
    kind: str, cells: tuple[str, ...], edges: tuple[float, ...]
) -> None:
    share = tuple(1 / len(cells) for _ in cells)
    shown = histogram.bars(kind, cells, edges, share, share)
    drawing = parsed(histogram.draw(shown, title=HOSTILE))
    assert len(drawing.findall(".//rect[@class='reference']")) == len(cells)
    assert len(drawing.findall(".//polyline[@class='current']")) == 1
    alone = parsed(histogram.draw(histogram.bars(kind, cells, edges, share), title=HOSTILE))
    assert not alone.findall(".//polyline")


def test_ticks_that_would_touch_are_left_out() -> None:
    crowded = histogram.Bars(["a"] * 50, ((0.02,) * 50,), [(i, f"{i}00,000") for i in range(50)])
    few = parsed(histogram.draw(crowded, title="t")).findall(".//text[@text-anchor='middle']")
    places = [float(text.attrib["x"]) for text in few]
    assert 3 <= len(places) <= 10
    assert min(b - a for a, b in zip(places, places[1:])) > 45  # noqa: B905, RUF007 - Python 3.10


def test_named_bars_show_every_name_and_the_current_share() -> None:
    items = [bars.Named(HOSTILE, 0.5, 0.25), bars.Named("", 0.0, 0.75), bars.Named("b", 0.5)]
    drawing = parsed(bars.named(items, title=HOSTILE))
    assert len(drawing.findall(".//rect[@class='reference']")) == 3
    assert len(drawing.findall(".//path[@class='current']")) == 2
    assert "(empty): 0.0 %, now 75.0 %" in {t.text for t in drawing.findall(".//title")}
    assert bars.named([], title="t") == ""


@given(
    st.lists(st.tuples(st.floats(0, 1), st.integers(0, 1000), st.integers(0, 1000)), max_size=20),
    st.booleans(),
)
def test_a_reliability_curve_keeps_inside_whatever_came_true(
    counts: list[tuple[float, int, int]], twice: bool
) -> None:
    side = [reliability.ScoreBin(mean, min(a, b), max(a, b)) for mean, a, b in counts]
    drawn = reliability.draw([side, side] if twice else [side], title=HOSTILE)
    seen = [one for one in side if one.rows]
    if not seen:
        assert drawn == ""
        return
    drawing = parsed(drawn)
    dots = drawing.findall(".//circle")
    assert len(dots) == len(seen) * (2 if twice else 1)
    for one in seen:
        low, high = one.interval
        assert 0 <= low <= one.observed <= high <= 1
    for dot in dots:
        assert 43 <= float(dot.attrib["cx"]) <= 509
        assert 9 <= float(dot.attrib["cy"]) <= 249


@given(
    st.lists(st.tuples(values, st.none() | st.tuples(values, values)), max_size=20),
    values,
    st.booleans(),
)
def test_spans_are_drawn_of_whatever_was_measured(
    rows: list[tuple[float | None, tuple[float, float] | None]], limit: float | None, zero: bool
) -> None:
    items = [spans.Span(HOSTILE, value, ends, "severe" if value else "ok") for value, ends in rows]
    drawn = spans.draw(items, title=HOSTILE, limit=limit, limit_label=HOSTILE, zero=zero)
    assert bool(drawn) is any(canvas.known(one.value) for one in items)
    if drawn:
        parsed(drawn)


def test_a_heat_map_says_states_by_letter_and_links_its_rows() -> None:
    row = [heatmap.Cell("severe", "S", HOSTILE, 7), heatmap.Cell("absent")]
    drawing = parsed(
        heatmap.draw([(HOSTILE, "?f=<"), ("b", "")], [0, DAY_MS], [row, row], title=HOSTILE)
    )
    assert [a.attrib["href"] for a in drawing.findall(".//a")] == ["?f=<"]
    assert [t.text for t in drawing.findall(".//g/text")] == ["S", "S"]
    assert heatmap.draw([], [], [], title="t") == ""


def test_bars_over_time_mark_what_needs_a_look_by_shape() -> None:
    items = [(0.0, 1.0, 10.0, "ok", "a"), (1.0, 2.0, 10.0, "severe", HOSTILE)]
    drawing = parsed(bars.over_time(items, title="t"))
    assert [len(g.findall("rect")) for g in drawing.findall(".//g")] == [1, 2]
    assert bars.over_time([], title="t") == ""


def test_every_colour_of_light_is_there_in_dark() -> None:
    text = theme.stylesheet()
    light, dark = (
        set(re.findall(r"(--[\w-]+):", part))
        for part in text.split("@media screen and (prefers-color-scheme: dark)", 2)[:2]
    )
    assert light - dark == {"--sans", "--mono"}
    used = set(re.findall(r"var\((--[\w-]+)\)", text))
    assert used <= light | {"--tone", "--tone-bg", "--tone-solid"}


def test_a_style_within_an_element_reaches_nothing_else_and_follows_the_notebook() -> None:
    css = (
        ":root { --a: 1; } /* .x {} */ p, .a:is(.b, .c) d > e { color: red; } "
        "@media screen and (prefers-color-scheme: dark) { :root { --a: 2; } .f { top: 0; } } "
        "@font-face { src: url(x); } html { left: 0; }"
    )
    found = theme.within(".w", css)
    assert found.startswith(".w{--a: 1;}.w p,.w .a:is(.b, .c) d > e{color: red;}")
    assert "@media screen and (prefers-color-scheme: dark){.w{--a: 2;}.w .f{top: 0;}}" in found
    assert "url" not in found
    assert ".w{left: 0;}" in found
    light, dark = (found.partition(f"body.vscode-{name} .w")[2] for name in ("light", "dark"))
    assert "--a: 1;" in light.partition("}")[0]
    assert "--a: 2;" in dark.partition("}")[0]


def test_a_style_without_dark_rules_does_not_ask_for_the_theme() -> None:
    assert theme.within(".w", "p { top: 0; }") == ".w p{top: 0;}"


def test_bars_of_times_are_marked_by_days() -> None:
    cells = 40
    edges = [20_454.0 + i for i in range(cells - 1)]
    shown = histogram.bars("numeric", [""] * cells, edges, [1 / cells] * cells, write=written.day)
    assert [text for _, text in shown.ticks][:1] == ["5 Jan 2026"] or "2026" in shown.ticks[0][1]
