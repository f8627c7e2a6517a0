"""Slices: the same figure per declared segment, so that an average hides nobody.

A gap fails a gate only when it is larger than its limit *and* beyond doubt (its interval excludes
zero): among many segments some lie low by chance. A segment with too few rows is named, and not
judged: silence about it would be as misleading as a figure.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import msgspec
import numpy as np

from whimbrel_core.errors import ConfigError
from whimbrel_packager.gates.columns import missing
from whimbrel_packager.gates.outcome import Outcome, Part, between, named, number, refused, unjudged
from whimbrel_packager.quality import intervals
from whimbrel_packager.quality.metrics import METRICS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from whimbrel_packager.gates.context import Context
    from whimbrel_packager.quality.intervals import Resamples
    from whimbrel_packager.quality.metrics import Metric
    from whimbrel_packager.quality.predictions import Predictions

    Array = np.ndarray[Any, Any]

KIND = "slices"
MAX_SEGMENTS = 64
OTHER, NULL = "(other)", "(missing)"


class Slice(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One column whose values, or bins of them, are segments.

    Args:
        column: of the reference data; the model need not read it.
        bins: ascending edges for a column of numbers: a segment is from one up to below the next.
        metric: figure to compare; "" takes auc, accuracy or rmse, whichever the model has.
        min_rows: held-out rows that a segment needs to be judged.
        max_gap: by how much a segment may be worse than all rows.
        floor: limit of the figure in every segment (at most, for errors); None for none.
        min_rate_ratio: least share called positive in a segment over that of the segment where it
            is largest: .8 is the four-fifths rule (29 CFR 1607.4 D).
    """

    column: str
    bins: tuple[float, ...] = ()
    metric: str = ""
    min_rows: int = 100
    max_gap: float | None = None
    floor: float | None = None
    min_rate_ratio: float | None = None

    def __post_init__(self) -> None:
        """Refuse unknown figures, and a slice that asks for nothing."""
        where = f"gates.slices ({self.column})"
        if self.metric and self.metric not in METRICS:
            raise ConfigError(f"{where}: there is no figure {self.metric!r}",
                              hint=f"one of {', '.join(METRICS)}")  # fmt: skip
        if self.max_gap is None and self.floor is None and self.min_rate_ratio is None:
            raise ConfigError(f"{where} asks for nothing",
                              hint="give max_gap, floor or min_rate_ratio")  # fmt: skip
        if list(self.bins) != sorted(set(self.bins)):
            raise ConfigError(f"{where}: bins must be ascending")


class _Segment(NamedTuple):
    name: str
    rows: Array


class _Segments(NamedTuple):
    """The segments of one column, with what is known of the rows; those of too few rows apart."""

    column: str
    predictions: Predictions
    resamples: Resamples
    enough: Sequence[_Segment]
    few: Sequence[_Segment]


def judge(declared: Sequence[Slice], context: Context) -> Iterator[Outcome]:
    """Yield an outcome per limit of a declared slice."""
    for one in declared:
        title = f"slices.{one.column}"
        predictions = context.predictions
        if one.column not in context.frame.columns:
            yield refused(title, KIND, f"the data has no column {one.column!r}")
            continue
        if predictions is None:
            yield refused(title, KIND, "there are no labels to measure it with (data.label)")
            continue
        metric = METRICS[one.metric] if one.metric else _usual(predictions)
        lacking = metric.missing(predictions)
        values = context.frame.columns[one.column][context.held_out]
        if one.bins and values.dtype == object:
            lacking = f"{one.column!r} holds words, and bins are declared"
        if lacking:
            yield refused(title, KIND, lacking)
            continue
        found = _segments(one, values)
        enough = [s for s in found if int(s.rows.sum()) >= one.min_rows]
        few = [s for s in found if int(s.rows.sum()) < one.min_rows]
        if not enough:
            message = f"every segment has too few rows: {one.min_rows} are needed"
            yield unjudged(title, KIND, message, len(values))
            continue
        segments = _Segments(one.column, predictions, context.resamples, enough, few)
        if one.max_gap is not None:
            yield _gap(segments, metric, one.max_gap)
        if one.floor is not None:
            yield _floor(segments, metric, one.floor)
        if one.min_rate_ratio is not None:
            yield _rates(segments, one.min_rate_ratio)


def _usual(predictions: Predictions) -> Metric:
    if predictions.task == "regression":
        return METRICS["rmse"]
    return METRICS["accuracy" if predictions.ranking is None else "auc"]


def _segments(one: Slice, values: Array) -> list[_Segment]:
    absent = missing(values)
    found: list[_Segment] = []
    if one.bins:
        index = np.searchsorted(np.array(one.bins, np.float64), values.astype(np.float64), "right")
        edges = [-math.inf, *one.bins, math.inf]
        for i in range(len(edges) - 1):
            low, high = edges[i], edges[i + 1]
            name = (
                f"below {number(high)}" if i == 0
                else f"{number(low)} and above" if math.isinf(high)
                else f"{number(low)} to {number(high)}"
            )  # fmt: skip
            found.append(_Segment(name, (index == i) & ~absent))
    else:
        words = np.array([_word(v) for v in values.tolist()], dtype=object)
        kinds, counts = np.unique(words[~absent].astype(str), return_counts=True)
        order = np.argsort(-counts, kind="stable")
        for i in order[:MAX_SEGMENTS]:
            found.append(_Segment(str(kinds[i]), (words == kinds[i]) & ~absent))  # noqa: PERF401 - reads better so
        rest = set(kinds[order[MAX_SEGMENTS:]].tolist())
        found.append(_Segment(OTHER, np.array([w in rest for w in words.tolist()]) & ~absent))
    found.append(_Segment(NULL, absent))
    return [segment for segment in found if segment.rows.any()]


def _word(value: object) -> str:
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def _gap(segments: _Segments, metric: Metric, most: float) -> Outcome:
    predictions, resamples = segments.predictions, segments.resamples
    sign = -1 if metric.better == "higher" else 1
    parts = []
    for segment in segments.enough:
        found = intervals.of_gap(metric, predictions, segment.rows, resamples).turned(sign)
        sure = found.ends is not None and found.low > 0
        parts.append(
            Part(
                segment.name,
                int(segment.rows.sum()),
                found.value,
                found.ends,
                held=not (found.value > most and sure),
                judged=math.isfinite(found.value),
            )
        )

    def sentence(worst: Part) -> str:
        return (
            f"{metric.what} in {segments.column} {worst.name} is worse than over all rows by "
            f"{_figure(worst)}{between(worst.interval, resamples.confidence)}"
        )

    return _worst("gap", segments, parts, most, rule="at most", sentence=sentence)


def _floor(segments: _Segments, metric: Metric, floor: float) -> Outcome:
    resamples = segments.resamples
    parts = []
    for segment in segments.enough:
        rows = np.flatnonzero(segment.rows)
        found = intervals.of_metric(
            metric, segments.predictions.take(rows), resamples.take(segment.rows)
        )
        known = math.isfinite(found.value)
        held = not known or metric.holds(found.value, floor)
        parts.append(Part(segment.name, len(rows), found.value, found.ends, held, known))

    def sentence(worst: Part) -> str:
        return (
            f"{metric.what} in {segments.column} {worst.name} is {_figure(worst)}"
            f"{between(worst.interval, resamples.confidence)}"
        )

    return _worst("floor", segments, parts, floor, rule=metric.rule, sentence=sentence)


def _rates(segments: _Segments, least: float) -> Outcome:
    metric, predictions = METRICS["selection_rate"], segments.predictions
    title = f"slices.{segments.column}.rates"
    lacking = metric.missing(predictions)
    if lacking:
        return refused(title, KIND, lacking)
    per_row = metric.rows(predictions)
    rates = [float(metric.finish(per_row[s.rows].sum(axis=0))) for s in segments.enough]
    top = int(np.argmax(rates))
    if not rates[top]:
        return unjudged(title, KIND, "no row of any segment is called positive", predictions.rows)
    best = segments.enough[top]
    of_best = per_row * best.rows[:, None]

    def ratio(sums: Array) -> Array:
        with np.errstate(divide="ignore", invalid="ignore"):
            found: Array = metric.finish(sums[..., :2]) / metric.finish(sums[..., 2:])
        return found

    parts = []
    for segment in segments.enough:
        both = np.concatenate([per_row * segment.rows[:, None], of_best], axis=1)
        found = segments.resamples.interval(both, ratio)
        sure = found.ends is not None and found.high < 1
        held = not (found.value < least and sure)
        rows = int(segment.rows.sum())
        parts.append(Part(segment.name, rows, found.value, found.ends, held))

    def sentence(worst: Part) -> str:
        return (
            f"{segments.column} {worst.name} is called positive {_figure(worst)} times as often "
            f"as {best.name}{between(worst.interval, segments.resamples.confidence)}"
        )

    return _worst("rates", segments, parts, least, rule="at least", sentence=sentence)


def _worst(
    what: str,
    segments: _Segments,
    parts: Sequence[Part],
    threshold: float,
    *,
    rule: Literal["at least", "at most"],
    sentence: Callable[[Part], str],
) -> Outcome:
    """Return the outcome of all segments: as its worst one is, that was judged."""
    title, rows = f"slices.{segments.column}.{what}", segments.predictions.rows
    sign = -1 if rule == "at most" else 1
    judged = sorted(
        (part for part in parts if part.judged), key=lambda part: (part.held, sign * _value(part))
    )
    unknown = [part for part in parts if not part.judged]
    small = [Part(s.name, int(s.rows.sum()), judged=False) for s in segments.few]
    silent = [f"{part.name} ({part.rows})" for part in (*unknown, *small)]
    note = f"; too few rows to judge: {named(silent, 3)}" if silent else ""
    if not judged:
        return unjudged(title, KIND, f"no segment can be judged{note}", rows)
    worst = judged[0]
    return Outcome(
        name=title,
        kind=KIND,
        held=worst.held,
        measured=worst.measured,
        rule=rule,
        threshold=threshold,
        interval=worst.interval,
        rows=rows,
        message=f"{sentence(worst)}, {rule} {number(threshold)} is asked for; "
        f"{len(judged)} segments judged{note}",
        parts=(*judged, *unknown, *small),
    )


def _value(part: Part) -> float:
    return math.nan if part.measured is None else part.measured


def _figure(part: Part) -> str:
    return number(_value(part))
