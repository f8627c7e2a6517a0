"""A first recipe for a model: what its data and the model itself show, as a commented TOML file.

Every limit is a proposal that today's data keeps, with what was found beside it, so that a person
only has to move it. Values in, text out.
"""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from whimbrel_packager.gates.columns import distinct, missing
from whimbrel_packager.gates.outcome import between, number
from whimbrel_packager.quality import intervals
from whimbrel_packager.quality.metrics import METRICS

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from whimbrel_packager.frame import Frame
    from whimbrel_packager.gates.context import Context

    Array = np.ndarray[Any, Any]

_MAX_CATEGORIES = 30
_MAX_SEGMENTS = 12
_PROPOSED = ("auc", "accuracy", "calibration_error", "rmse", "r2")
_HEAD = """\
# What `whimbrel pack` is told about this model, and what has to hold before it is signed.
# Written by `whimbrel recipe init`: every limit below is a proposal that today's data keeps. Read
# it, move it, and keep this file beside the training code.
#
#     whimbrel pack --check                       judge, write nothing (for pull requests)
#     whimbrel pack --key keys/bundle.pem         judge, sign, write the bundle
"""


class Start(NamedTuple):
    """What is known when a recipe is begun.

    Attributes:
        name: of the model.
        model: path of its file, from the recipe's folder; "" when there is none yet.
        reference: path of the data, likewise.
        label: column of the label; "" for none.
        held_out: column of the mark of held-out rows; "" for none.
        positive: the positive class; "" for none.
        allow_pickle: whether the model is a pickle that may be loaded.
        aside: columns that the model does not read.
    """

    name: str
    model: str
    reference: str
    label: str = ""
    held_out: str = ""
    positive: str = ""
    allow_pickle: bool = False
    aside: tuple[str, ...] = ()


def write(start: Start, frame: Frame, context: Context | None) -> str:
    """Return the text of a recipe.

    Args:
        start: names and paths.
        frame: the reference rows without label and mark.
        context: of the model, converted and proven; None when there is no model yet.
    """
    return "\n".join(
        [
            _HEAD,
            *_identity(start),
            "",
            *_data(start),
            "",
            *_columns(frame, context),
            "",
            *_leaks(),
            "",
            *_quality(start, context),
            "",
            *_budgets(context),
            "",
            *_incumbent(context),
            "",
            *_slices(frame, context),
            "",
            *_skew(),
            "",
        ]
    )


def _identity(start: Start) -> Iterator[str]:
    yield f"name = {_text(start.name)}  # stays for ever"
    yield 'version = "0.1.0"  # SemVer of the next bundle; --version goes before it'
    if start.model:
        yield f"model = {_text(start.model)}"
    else:
        yield '# model = "model.skops"'
    yield '# description = "A sentence for people."'
    yield '# licence = "Apache-2.0"'
    if start.allow_pickle:
        yield ""
        yield "[source]"
        yield "allow_pickle = true  # loading a pickle runs whatever code is in it"


def _data(start: Start) -> Iterator[str]:
    yield "[data]"
    yield f"reference = {_text(start.reference)}"
    if start.label:
        yield f"label = {_text(start.label)}"
    else:
        yield '# label = ""  # column with the true label: without one, quality is not judged'
    if start.held_out:
        yield f"held_out = {_text(start.held_out)}"
    else:
        yield '# held_out = ""  # column that is true for the rows that the model has not seen'
    if start.positive:
        yield f"positive = {_text(start.positive)}"
    if start.aside:
        names = ", ".join(map(_text, start.aside))
        yield f"aside = [{names}]  # not read by the model; gates may look at them"


def _columns(frame: Frame, context: Context | None) -> Iterator[str]:
    yield "[gates]"
    yield '# groups = "day"  # rows of one value belong together: intervals then draw whole groups'
    yield 'undeclared = "refuse"  # the model may read only columns that are declared below'
    yield ""
    yield f"# Columns, as {frame.rows:,} rows show them. Ranges are a tenth wider than what was found."
    yield "[gates.columns]"
    names = frame.names if context is None else tuple(context.inputs)
    for name in names:
        values = frame.columns[name]
        if values.ndim > 1:
            yield f"{_key(name)} = {{}}  # an array of {values.shape[1:]} a row"
            continue
        declared, found = _column(values)
        inside = ", ".join(f"{key} = {value}" for key, value in declared.items())
        yield f"{_key(name)} = {{ {inside} }}{f'  # {found}' if found else ''}"


def _column(values: Array) -> tuple[dict[str, str], str]:
    absent = missing(values)
    known = values[~absent]
    null = float(absent.mean()) if len(values) else 0.0
    # Half as much again, and room for one in a hundred.
    most = 0.0 if null == 0 else min(1.0, math.ceil((null * 1.5 + 0.01) * 100) / 100)
    tail = {"max_null": f"{most:g}"}
    shown = f", {null:.2g} missing" if null else ""
    if values.dtype == object:
        words = sorted(set(known.tolist()))
        if len(words) > _MAX_CATEGORIES:
            return {"type": '"text"', **tail}, f"{len(words)} words{shown}"
        listed = ", ".join(map(_text, words))
        return {"type": '"text"', "categories": f"[{listed}]", "max_outside": "0.01", **tail}, (
            shown.removeprefix(", ")
        )
    finite = known[np.isfinite(known)].astype(np.float64)
    if not len(finite):
        return {"max_null": "1"}, "no values"
    if np.isin(finite, (0, 1)).all():
        return {"type": '"boolean"', **tail}, shown.removeprefix(", ")
    low, high = float(finite.min()), float(finite.max())
    whole = bool((np.floor(finite) == finite).all())
    least, largest = _wider(low, high)
    kind = '"integer"' if whole else '"number"'
    found = f"{number(low)} to {number(high)}{shown}"
    limits = {"type": kind, "min": f"{least:.12g}", "max": f"{largest:.12g}"}
    if len(finite) < len(known):
        limits["max_outside"] = "0.01"  # infinities
    return {**limits, **tail}, found


def _wider(low: float, high: float) -> tuple[float, float]:
    """Return a range a tenth wider at either end, at round numbers; zero stays an end.

    >>> _wider(0.0, 24.0), _wider(-3.2, 11.7)
    ((0.0, 27.0), (-5.0, 14.0))
    """
    spread = (high - low) or abs(high) or 1.0
    step = 10.0 ** math.floor(math.log10(spread / 10))
    least = math.floor((low - spread / 10) / step) * step
    largest = math.ceil((high + spread / 10) / step) * step
    return (0.0 if low >= 0 > least else least), (0.0 if high <= 0 < largest else largest)


def _leaks() -> Iterator[str]:
    yield "# What makes held-out figures too good to be true. All of it is looked for."
    yield "[gates.data]"
    yield "max_duplicates = 0.01  # share of held-out rows whose inputs are in a training row"
    yield "max_single_auc = 0.99  # of one column alone: above, it is the label in disguise"
    yield "max_single_r2 = 0.99"
    yield '# time = "departed_at"  # held-out rows must be later than training rows'
    yield "# ignore = []  # columns that may be constant, ids, or tell the label"


def _quality(start: Start, context: Context | None) -> Iterator[str]:
    yield "# Quality on the held-out rows: at least, or at most for errors."
    if context is None or context.predictions is None:
        why = "needs a label" if context is not None or not start.label else "needs the model"
        yield f"# [gates.quality]  # {why}"
        yield f"# one of: {', '.join(METRICS)}"
        return
    yield "[gates.quality]"
    yield '# judged_by = "interval"  # the interval\'s worse end must hold, not only the figure'
    for name in _PROPOSED:
        metric = METRICS[name]
        if metric.missing(context.predictions):
            continue
        found = intervals.of_metric(metric, context.predictions, context.resamples)
        worse = found.low if metric.better == "higher" else found.high
        if not math.isfinite(found.value):
            continue
        worse = worse if math.isfinite(worse) else found.value
        shown = f"found {number(found.value)}{between(found.ends, context.resamples.confidence)}"
        yield f"{name} = {_round(worse, up=metric.better == 'lower')}  # {shown}"
    yield "# others: " + ", ".join(
        name for name, metric in METRICS.items()
        if name not in _PROPOSED and name != "selection_rate"
        and metric.task == context.task
    )  # fmt: skip


def _round(value: float, *, up: bool) -> str:
    """Return a figure at two digits, rounded to where it still holds.

    >>> _round(0.687, up=False), _round(0.0412, up=True), _round(-0.31, up=False)
    ('0.68', '0.042', '-0.31')
    """
    if not value:
        return "0"
    step = 10.0 ** (math.floor(math.log10(abs(value))) - 1)
    steps = value / step
    whole = math.ceil(steps - 1e-9) if up else math.floor(steps + 1e-9)
    return f"{whole * step:.6g}"


def _budgets(context: Context | None) -> Iterator[str]:
    yield "# Time, memory and size on the machine that packs, with one thread."
    if context is None:
        yield "# [gates.budgets]"
        yield "# latency_us = 1000"
        yield "# memory_bytes = 67108864"
        return
    yield "[gates.budgets]"
    figures: Mapping[str, float] = context.measured.figures
    twice = ("latency_us", "latency_p99_us", "memory_bytes", "model_bytes", "bundle_bytes")
    for name in twice:
        value = figures[name]
        factor = 4 if name == "latency_p99_us" else 2  # one slow run in a hundred is not the model
        if value > 0:
            limit = float(_round(value * factor, up=True))
            yield f"{name} = {limit:.0f}  # found {number(value)}"
    yield f"# measured on {context.measured.machine}"


def _incumbent(context: Context | None) -> Iterator[str]:
    name = "auc"
    if context is not None and context.predictions is not None:
        usual = [n for n in ("auc", "accuracy", "rmse")
                 if not METRICS[n].missing(context.predictions)]  # fmt: skip
        name = usual[0] if usual else name
    yield "# Against the version in service, on the same held-out rows: not worse than by the margin,"
    yield "# with the whole 95 % interval of the difference."
    yield "# [gates.incumbent]"
    yield '# repository = "../repository"  # or bundle = "flights-1.0.0.whim"'
    yield f"# margins = {{ {name} = 0.01 }}"


def _slices(frame: Frame, context: Context | None) -> Iterator[str]:
    few = [
        name for name, values in frame.columns.items()
        if values.dtype == object
        and 1 < distinct(values[~missing(values)]) <= _MAX_SEGMENTS
    ]  # fmt: skip
    yield "# The same figure per segment, so that an average hides nobody."
    yield "# [[gates.slices]]"
    yield f"# column = {_text(few[0] if few else 'region')}"
    yield "# max_gap = 0.05  # worse than over all rows by at most this, beyond doubt"
    if context is None or context.task == "classification":
        yield "# min_rate_ratio = 0.8  # called positive as often as the most favoured, nearly"


def _skew() -> Iterator[str]:
    yield "# Against what a feature store serves."
    yield "# [gates.skew]"
    yield '# definitions = "../features/feature_store.yaml"  # Feast, or a schema file (.toml)'
    yield '# serving = "logged-features.parquet"'


def _text(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def _key(name: str) -> str:
    """Return a name as a TOML key: bare where it may be."""
    bare = name.isascii() and all(c.isalnum() or c in "_-" for c in name) and name
    return name if bare else _text(name)
