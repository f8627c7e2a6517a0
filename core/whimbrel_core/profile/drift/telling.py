"""A drift report in plain sentences: what a person reads first, in a terminal and on a page."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from whimbrel_core.drawing import written

if TYPE_CHECKING:
    from collections.abc import Sequence

    from whimbrel_core.profile.drift.report import DriftReport, FeatureReport

TOLD = frozenset({"missing", "unknown", "out_of_range"})  # by the sentence of the feature itself
_NAMED = 3
_SHARE = 5e-4  # shares that differ by less read the same
_UNSEEN = 0.005  # a larger share of values that were never seen is worth a word
_SHIFT = 0.02  # of a standard deviation: means that differ by less read the same
_SCALE = 1.03  # deviations whose ratio is less read the same


def summary(report: DriftReport) -> str:
    """Return what the report says in two or three sentences."""
    compared = [one for one in report.features if not one.problem]
    few = [one for one in compared if one.state == "too_few"]
    sentences = []
    if compared and len(few) == len(compared):
        sentences.append(
            f"Too few rows to judge: {written.count(report.current.rows)}, where "
            f"{report.thresholds.min_rows} are needed."
        )
    elif compared:
        sentences.append(_drifted(report, compared))
    gone = [one for one in report.features if one.problem == "gone"]
    other = [one for one in report.features if one.problem == "type"]
    new = [one for one in report.features if one.problem == "new"]
    for found, one, many in (
        (gone, "is gone", "are gone"),
        (other, "holds another type of values", "hold another type of values"),
        (new, "is new", "are new"),
    ):
        if found:
            names = _names([f.feature for f in found])
            word = "Column" if len(found) == 1 else "Columns"
            sentences.append(f"{word} {names} {one if len(found) == 1 else many}.")
    weak = [one for one in report.slices if one.state in {"warn", "severe"}]
    if weak:
        rest = f", and {len(weak) - 1} more slices moved" if len(weak) > 1 else ""
        sentences.append(f"In {weak[0].name} {weak[0].feature} has drifted{rest}.")
    places = [place for _, place in report.subjects if place.alarm and place.level == "device"]
    if places:
        count = len(places)
        sentences.append(
            f"{count} device{'' if count == 1 else 's'} raised an alarm: "
            f"{_names([place.subject for place in places])}."
        )
    serious = [
        one.message
        for one in report.remarks
        if one.state in {"warn", "severe"} and one.kind not in TOLD
    ]
    if serious:
        sentences.append(f"Data quality: {serious[0]}.")
    return " ".join(sentences) or "There is nothing to compare."


def _drifted(report: DriftReport, compared: Sequence[FeatureReport]) -> str:
    moved = [one for one in compared if one.state in {"warn", "severe"}]
    slight = [one for one in compared if one.state == "notice"]
    rows = written.count(report.current.rows)
    features = f"{len(compared)} feature{'' if len(compared) == 1 else 's'}"
    if not moved:
        said = f"None of {features} has drifted over {rows} rows"
        return said + (
            f"; {_names([o.feature for o in slight])} moved a little." if slight else "."
        )
    most = moved[0]
    told = changed(most)
    said = f"{len(moved)} of {features} {'has' if len(moved) == 1 else 'have'} drifted"
    names = f": {most.feature}" if len(moved) == 1 else f", {most.feature} most"
    said += f"{names} ({told})" if told else names
    if slight:
        said += f"; {len(slight)} more moved a little"
    return said + "."


def changed(one: FeatureReport) -> str:
    """Return what of a feature changed, the most telling first: ``mean 12.1 → 15.3``; "" for nothing."""
    if one.problem:
        return one.detail
    if one.state == "ok":
        return ""  # what moved is within the ordinary
    parts = []
    if one.kind == "categorical" or (one.kind == "discrete" and one.moved is not None):
        parts += _of_values(one)
    else:
        parts += _of_numbers(one)
    if _apart(one.null_rate, one.reference_null_rate):
        parts.append(
            f"missing {written.percent(one.reference_null_rate)} → {written.percent(one.null_rate)}"
        )
    more = (one.unseen_rate or 0.0) - (one.reference_unseen_rate or 0.0)
    if more >= _UNSEEN:
        what = "beyond the reference's range" if one.kind == "numeric" else "never seen before"
        parts.append(f"{written.percent(one.unseen_rate)} {what}")
    return ", ".join(parts)


def _of_values(one: FeatureReport) -> list[str]:
    if one.moved is None or abs(one.moved[1] - one.moved[2]) < _SHARE:
        return []
    name, before, now = one.moved
    if name == "other" and one.unseen_rate is not None:
        return []  # told as values that were never seen
    return [f"{name or '(empty)'} {written.percent(before)} → {written.percent(now)}"]


def _of_numbers(one: FeatureReport) -> list[str]:
    if one.mean is None or one.reference_mean is None:
        return []
    sd = one.reference_sd or 0.0
    parts = []
    if abs(one.mean - one.reference_mean) > _SHIFT * sd:
        a, b = (number(value, one.unit) for value in (one.reference_mean, one.mean))
        parts.append(f"mean {a} → {b}")
    if one.sd is not None and sd and not 1 / _SCALE < one.sd / sd < _SCALE:
        parts.append(f"sd {number(sd)} → {number(one.sd)}")
    return parts


def number(value: float | None, unit: str | None = None) -> str:
    """Return a value of a feature with the digits that count; a time as its day.

    >>> number(0.123456), number(1234567.0), number(None), number(-2.5)
    ('0.1235', '1,234,567', '–', '−2.5')
    """
    if value is None or not math.isfinite(value):
        return written.NOTHING
    if unit == written.DAYS:
        return written.day(value)
    if abs(value) >= 10_000:  # noqa: PLR2004 - from here no decimals count
        text = f"{value:,.0f}" if abs(value) < 1e15 else f"{value:.3g}"  # noqa: PLR2004 - whole in a float
    else:
        text = f"{value:.4g}"
    return text.replace("-", "−") if value < 0 else text


def _apart(a: float | None, b: float | None) -> bool:
    return a is not None and b is not None and abs(a - b) >= _SHARE


def _names(names: Sequence[str]) -> str:
    if len(names) <= _NAMED:
        return ", ".join(names[:-1]) + (" and " if len(names) > 1 else "") + names[-1]
    return f"{', '.join(names[:_NAMED])} and {len(names) - _NAMED} more"
