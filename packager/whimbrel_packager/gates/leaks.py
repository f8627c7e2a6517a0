"""What makes held-out figures too good to be true: rows, labels and times that leak.

A column that tells the label alone is found by predicting with it: its values are put into bins
(words as they are), each bin's mean label is learned on half of the rows, and judged on the others.
So a column with a value of its own per row cannot seem to know what it only remembers, and a
relation need not be monotone to be seen.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec
import numpy as np

from whimbrel_packager.gates.columns import distinct, missing
from whimbrel_packager.gates.outcome import (
    Outcome,
    Part,
    limit,
    named,
    number,
    refused,
    unjudged,
)
from whimbrel_packager.quality.metrics import auc

if TYPE_CHECKING:
    from collections.abc import Iterator

    from whimbrel_packager.frame import Frame
    from whimbrel_packager.gates.context import Context

    Array = np.ndarray[Any, Any]

KIND = "data"
_BINS = 64
_MAX_CLASSES = 32
_ID_SHARE = 0.99
_MIN_ROWS = 50  # fewer rows are too few to call a column an id, or a relation a leak
_PARTS = 8
_SEED, _HALF = 1, 0.5
_FEW, _MANY = 1000, 40_000


class Leaks(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the reference data must not have. All is looked for unless it is set to 1 or ignored.

    Args:
        max_duplicates: share of held-out rows whose inputs also occur in a training row.
        max_single_auc: area under the ROC curve that one column may have alone (classification).
        max_single_r2: share of the variance that one column may explain alone (regression).
        time: column with the time of a row; held-out rows must be later than training rows.
        max_earlier: share of held-out rows that may be earlier than the last training row.
        ignore: columns that may tell the label, be constant, or look like an id.
    """

    max_duplicates: float = 0.01
    max_single_auc: float = 0.99
    max_single_r2: float = 0.99
    time: str = ""
    max_earlier: float = 0.0
    ignore: tuple[str, ...] = ()


def judge(declared: Leaks, context: Context) -> Iterator[Outcome]:
    """Yield an outcome per kind of leak."""
    inputs = context.frame.select(tuple(context.inputs), what="the model")
    # An image or a sequence is no single column.
    arrays = [name for name, values in inputs.columns.items() if values.ndim > 1]
    looked = inputs.without([*declared.ignore, *arrays])
    if context.split:
        yield _duplicates(declared, inputs, context.held_out)
    if context.labels is None:
        yield unjudged("data.label_leak", KIND, "there are no labels that could leak")
    else:
        yield _copies(looked, context.labels, context.task)
        yield _alone(declared, looked, context.labels, context.task)
    yield _constant(looked)
    yield _ids(looked)
    if declared.time:
        yield _time(declared, context)


def _duplicates(declared: Leaks, inputs: Frame, held_out: Array) -> Outcome:
    keys = row_keys(inputs)
    again = np.isin(keys[held_out], keys[~held_out])
    share = float(again.mean())
    return limit(
        "data.duplicates", KIND, share, declared.max_duplicates, rows=len(again), unit="share",
        message=f"{int(again.sum())} of {len(again)} held-out rows ({share:.2%}) have the inputs of "
        "a training row",
    )  # fmt: skip


def row_keys(frame: Frame) -> Array:
    """Return (n,) uint64: equal for equal rows, and for others with a chance of n² / 2⁶⁴."""
    keys = np.zeros(frame.rows, dtype=np.uint64)
    for column in frame.columns.values():
        if column.dtype == object:
            known: dict[object, int] = {}
            codes = [known.setdefault(value, len(known)) for value in column.tolist()]
            bits = np.array(codes, dtype=np.uint64)
        else:
            # Minus zero is zero, and every NaN the same.
            numbers = column.reshape(frame.rows, -1).astype(np.float64) + 0.0
            numbers[np.isnan(numbers)] = np.nan
            bits = numbers.view(np.uint64)
        for part in bits.reshape(frame.rows, -1).T:
            keys = _mixed(keys ^ part)
    return keys


def _mixed(keys: Array) -> Array:
    """Spread what differs over all 64 bits (SplitMix64: Steele, Lea, Flood, OOPSLA 2014)."""
    keys = keys + np.uint64(0x9E3779B97F4A7C15)
    keys = (keys ^ (keys >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    keys = (keys ^ (keys >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed: Array = keys ^ (keys >> np.uint64(31))
    return mixed


def _copies(inputs: Frame, labels: Array, task: str) -> Outcome:
    """Find columns that are the label under another name."""
    if task == "regression":
        y = labels.astype(np.float64)
        found = [name for name, values in inputs.columns.items() if _on_a_line(values, y)]
    else:
        of = np.unique(labels.astype(str), return_inverse=True)[1]
        found = [name for name, values in inputs.columns.items() if _renamed(values, of)]
    return limit(
        "data.label_copy", KIND, len(found), 0, rows=inputs.rows,
        message=f"{named(found)} {'is' if len(found) == 1 else 'are'} the label itself, value for "
        "value" if found else "no column is the label under another name",
        parts=[Part(name, inputs.rows, 1.0, held=False) for name in found[:_PARTS]],
    )  # fmt: skip


def _on_a_line(values: Array, y: Array) -> bool:
    """Return whether a straight line goes through all points: another unit is another name."""
    if values.dtype == object or not np.isfinite(values).all():
        return False
    x = values.astype(np.float64)
    spread = x.std() * y.std()
    return bool(spread > 0 and abs(((x - x.mean()) * (y - y.mean())).mean() / spread) > 1 - 1e-9)


def _renamed(values: Array, of: Array) -> bool:
    """Return whether values and classes (n, as numbers) stand for each other, one for one."""
    classes = int(of.max(initial=0)) + 1
    some = values[:_FEW]
    if distinct(some[~missing(some)]) > classes:
        return False  # as of most columns: they need not be sorted
    codes = _codes(values, exact=True)
    pairs = len(np.unique(codes * classes + of))
    return classes > 1 and pairs == classes == len(np.unique(codes))


class Alone(NamedTuple):
    """How well one column tells the label by itself: AUC or R², and on how many rows."""

    name: str
    figure: float


def _alone(declared: Leaks, inputs: Frame, labels: Array, task: str) -> Outcome:
    most = declared.max_single_auc if task == "classification" else declared.max_single_r2
    figure = "AUC" if task == "classification" else "R²"
    if inputs.rows < _MIN_ROWS:
        message = f"{inputs.rows} rows are too few to tell, {_MIN_ROWS} are needed"
        return unjudged("data.label_leak", KIND, message, inputs.rows)
    found = strongest(inputs, labels, task)
    if not found:
        return unjudged("data.label_leak", KIND, "no column can be judged alone", inputs.rows)
    best = found[0]
    return limit(
        "data.label_leak", KIND, best.figure, most, rows=inputs.rows,
        message=f"{best.name!r} alone predicts the label with {figure} {number(best.figure)}, the "
        f"most of {len(found)} columns",
        parts=[
            Part(one.name, inputs.rows, one.figure, held=one.figure <= most)
            for one in found[:_PARTS]
        ],
    )  # fmt: skip


def strongest(inputs: Frame, labels: Array, task: str) -> list[Alone]:
    """Return what every column can tell of the label alone, the strongest first.

    Of very many rows a sample will do: what is nearly perfect shows in it.
    """
    if inputs.rows > _MANY:
        rows = np.random.default_rng(_SEED).choice(inputs.rows, _MANY, replace=False)
        inputs, labels = inputs.take(rows), labels[rows]
    if task == "classification":
        names, of = np.unique(labels.astype(str), return_inverse=True)
        counts = np.bincount(of)
        common = np.argsort(-counts, kind="stable")[: min(_MAX_CLASSES, len(names))]
        # One of two classes is all there is to know.
        targets = [(of == i).astype(np.float64) for i in common[: len(common) - (len(names) == 2)]]  # noqa: PLR2004
    else:
        targets = [labels.astype(np.float64)]
    # At random, but the same each time: every second row would be fooled by what alternates.
    learn = np.random.default_rng(_SEED).random(inputs.rows) < _HALF
    found = []
    for name, values in inputs.columns.items():
        codes = _codes(values, exact=False)
        figures = [_figure(values, codes, target, learn, task) for target in targets]
        known = [figure for figure in figures if np.isfinite(figure)]
        if known:
            found.append(Alone(name, max(known)))
    return sorted(found, key=lambda one: (-one.figure, one.name))


def _figure(values: Array, codes: Array, target: Array, learn: Array, task: str) -> float:
    count = int(codes.max(initial=0)) + 1
    rows = np.bincount(codes[learn], minlength=count)
    sums = np.bincount(codes[learn], target[learn], minlength=count)
    overall = target[learn].mean()
    # A bin of one row knows little: each is drawn to the overall mean by one more.
    score = ((sums + overall) / (rows + 1))[codes[~learn]]
    truth = target[~learn]
    if task == "regression":
        total = ((truth - truth.mean()) ** 2).sum()
        return 1 - float(((score - truth) ** 2).sum() / total) if total else float("nan")
    by_bins = auc(score, truth > 0)
    if values.dtype == object:
        return by_bins
    # Bins are coarse; what is monotone is seen more sharply as it is.
    present = ~missing(values)
    plain = auc(values[present].astype(np.float64), target[present] > 0)
    return float(np.nanmax([by_bins, plain, 1 - plain])) if np.isfinite(by_bins) else plain


def _codes(values: Array, *, exact: bool) -> Array:
    """Return (n,) int64: a value's number, or with ``exact`` false that of its quantile bin."""
    absent = missing(values)
    codes = np.zeros(len(values), dtype=np.int64)
    known = values[~absent]
    if values.dtype == object:
        codes[~absent] = np.unique(known.astype(str), return_inverse=True)[1] + 1
        return codes
    different, index = np.unique(known, return_inverse=True)
    if not exact and len(different) > _BINS:
        edges = np.unique(np.quantile(known, np.linspace(0, 1, _BINS + 1)[1:-1], method="lower"))
        index = np.searchsorted(edges, known, "left")
    codes[~absent] = index + 1
    return codes


def _constant(inputs: Frame) -> Outcome:
    found = [
        name for name, values in inputs.columns.items()
        if inputs.rows > 1 and distinct(values[~missing(values)]) + bool(missing(values).any()) <= 1
    ]  # fmt: skip
    return limit(
        "data.constant", KIND, len(found), 0, rows=inputs.rows,
        message=f"{named(found)} {'has' if len(found) == 1 else 'have'} one value in every row"
        if found else "no column has one value in every row",
    )  # fmt: skip


def _ids(inputs: Frame) -> Outcome:
    if inputs.rows < _MIN_ROWS:
        message = f"{inputs.rows} rows are too few to tell, {_MIN_ROWS} are needed"
        return unjudged("data.ids", KIND, message, inputs.rows)
    found = [name for name, values in inputs.columns.items() if _is_id(values)]
    return limit(
        "data.ids", KIND, len(found), 0, rows=inputs.rows,
        message=f"{named(found)} {'has' if len(found) == 1 else 'have'} another value in nearly every "
        "row, as an id has" if found else "no column looks like an id",
    )  # fmt: skip


def _is_id(values: Array) -> bool:
    """Return whether words or whole numbers are nearly all different; measurements always are."""
    known = values[~missing(values)]
    whole = values.dtype == object or bool(
        np.isfinite(known).all() and (np.floor(known) == known).all()
    )
    return whole and len(known) >= _MIN_ROWS and distinct(known) >= _ID_SHARE * len(known)


def _time(declared: Leaks, context: Context) -> Outcome:
    name = "data.time"
    if declared.time not in context.frame.columns:
        return refused(name, KIND, f"the data has no column {declared.time!r}, which is the time")
    if not context.split:
        return unjudged(name, KIND, "no rows are named as held out")
    times = context.frame.columns[declared.time]
    present = ~missing(times)
    # ISO 8601 of one form sorts as text.
    comparable = times.astype(str) if times.dtype == object else times
    training = comparable[present & ~context.held_out]
    held_out = comparable[present & context.held_out]
    if not len(training) or not len(held_out):
        return unjudged(name, KIND, "no training or no held-out row has a time")
    last = np.sort(training)[-1]
    share = float((held_out < last).mean())
    return limit(
        name, KIND, share, declared.max_earlier, rows=len(held_out), unit="share",
        message=f"{share:.2%} of the held-out rows are earlier than the last training row",
    )  # fmt: skip
