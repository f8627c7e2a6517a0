"""Summaries of whylogs: what ``profile.view().to_pandas()`` gives, saved as a file, as a profile.

whylogs keeps a KLL sketch per column, and its summary tells ten quantiles of it, with counts, mean,
deviation and extremes; of words the most frequent, as estimates. So the profile made of it is coarse:

- cells are cut at those quantiles: 12 or fewer, where data have 103;
- a count in a cell is off by the sketch's rank error, about 1.7 % of the rows at its usual size;
- what whylogs counted cannot be counted anew: what lies between two quantiles is taken as spread
  evenly, and columns that neither differing quantiles nor frequent values tell of are left out.

It serves as a reference for data, which are counted in its cells. It never adds up with anything.
"""

from __future__ import annotations

import math
import re
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from whimbrel_core.errors import InputError
from whimbrel_core.profile.baseline import Baseline
from whimbrel_core.profile.building.dataset import DatasetProfile, described, middles
from whimbrel_core.profile.counts import FeatureCounts
from whimbrel_core.profile.feature import MAX_VALUES, MAX_VOCABULARY, MAX_WORD_CHARS, Feature
from whimbrel_core.profile.layout import MAX_FEATURES, Layout
from whimbrel_core.profile.window import Window

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from whimbrel_packager.profiles.source import Source

_MARKS = frozenset({"counts/n", "distribution/median", "distribution/n"})
_QUANTILES = {
    0.01: "q_01", 0.05: "q_05", 0.10: "q_10", 0.25: "q_25", 0.50: "median",
    0.75: "q_75", 0.90: "q_90", 0.95: "q_95", 0.99: "q_99",
}  # fmt: skip
_ITEM = re.compile(r"FrequentItem\(value='((?:[^'\\]|\\.)*)', est=([0-9.]+)")
_COVERED = 0.99  # of the rows: then the frequent items are the values
_TOP = 3.4028234663852886e38  # the largest float32


def is_summary(columns: Sequence[str]) -> bool:
    """Return whether a table is a summary of whylogs."""
    return set(columns) >= _MARKS


def summary(source: Source) -> DatasetProfile:
    """Return a summary of whylogs as a coarse profile.

    Raises:
        InputError: it has no column that could be used.
    """
    lines: list[dict[str, Any]] = []
    for piece in source.pieces(source.columns, frozenset(), lambda _far: None):
        columns = {name: list(piece[name]) for name in source.columns}
        lines += [
            dict(zip(columns, line, strict=True)) for line in zip(*columns.values(), strict=True)
        ]
    key = next(
        (n for n in ("column", "Unnamed: 0", "__index_level_0__") if n in source.columns), ""
    )
    return from_lines(
        source.name,
        {str(line[key]) if key else f"column {i}": line for i, line in enumerate(lines)},
    )


def from_lines(name: str, lines: Mapping[str, Mapping[str, Any]]) -> DatasetProfile:
    """Return a summary, a line per column, as a coarse profile. Raises `InputError`."""
    rows = max((int(_number(line.get("counts/n"))) for line in lines.values()), default=0)
    found = [(column, _column(column, line, rows)) for column, line in lines.items()]
    kept = [one for _, one in found if one is not None][:MAX_FEATURES]
    if not kept or rows < 1:
        raise InputError(
            f"{name} looks like a summary of whylogs, and none of its columns has quantiles or "
            "frequent words",
            hint="save profile.view().to_pandas() whole",
            code="input.data",
        )
    left_out = [column for column, one in found if one is None]
    layout = Layout(task="regression", features=tuple(feature for feature, _ in kept))
    window = Window(profile_id=layout.profile_id, start_ms=0, end_ms=0, rows=rows,
                    features=tuple(counts for _, counts in kept))  # fmt: skip
    baseline = Baseline(
        layout=layout,
        window=window,
        stats=tuple(described(f, counts, middles(f)) for f, counts in kept),
    )
    baseline.check()
    notes = [
        "from whylogs: cells at ten quantiles of a sketch, counts off by about 2 % of the rows"
    ]
    if left_out:
        notes.append(
            f"its summary does not tell their distribution, left out: {', '.join(left_out[:12])}"
        )
    return DatasetProfile(name=name, baseline=baseline, notes=tuple(notes), coarse=True)


def _column(name: str, line: Mapping[str, Any], rows: int) -> tuple[Feature, FeatureCounts] | None:
    numbers = int(_number(line.get("distribution/n")))
    words = int(_number(line.get("types/string")))
    if (
        numbers
        and numbers >= words
        and math.isfinite(_number(line.get("distribution/median"), math.nan))
    ):
        n = min(numbers, rows)
        return _values(name, line, n, rows) or _numeric(name, line, n, rows)
    return _categorical(name, line, min(words, rows), rows)


def _values(
    name: str, line: Mapping[str, Any], n: int, rows: int
) -> tuple[Feature, FeatureCounts] | None:
    """Return a column of a few numbers, whose frequent items are all of them; else None."""
    counted: dict[float, int] = {}
    for text, count in _items(line.get("frequent_items/frequent_strings")).items():
        try:
            counted[float(np.float32(text))] = count
        except ValueError:
            return None
    if not counted or len(counted) > MAX_VALUES or sum(counted.values()) < _COVERED * n:
        return None
    values = sorted(value for value in counted if math.isfinite(value))
    cells, left = [], n
    for value in values:
        cells.append(min(counted[value], left))
        left -= cells[-1]
    mean = sum(v * c for v, c in zip(values, cells, strict=True)) / max(n - left, 1)
    squares = sum((v - mean) ** 2 * c for v, c in zip(values, cells, strict=True))
    feature = Feature(name=name, kind="discrete", role="input", tensor=name, values=tuple(values),
                      centre=mean, scale=math.sqrt(squares / max(n - left, 1)) or 1.0)  # fmt: skip
    return feature, FeatureCounts(
        cells=(*cells, left), nulls=rows - n, squares=squares, min=values[0], max=values[-1]
    )


def _numeric(
    name: str, line: Mapping[str, Any], n: int, rows: int
) -> tuple[Feature, FeatureCounts] | None:
    low, high = (_number(line.get(f"distribution/{end}"), math.nan) for end in ("min", "max"))
    if not (-_TOP <= low <= high <= _TOP):
        return None
    known = [
        (q, float(np.float32(value)))
        for q, column in _QUANTILES.items()
        if low < (value := _number(line.get(f"distribution/{column}"), math.nan)) < high
    ]
    if len({value for _, value in known}) < len(_QUANTILES):
        return None  # how much is at a value that is two quantiles at once, they do not tell
    below = float(np.nextafter(np.float32(low), np.float32(-np.inf)))
    edges = [below, *(value for _, value in known), float(np.float32(high))]
    if sorted(set(edges)) != edges:
        return None
    at = [0, *(round(n * q) for q, _ in known), n]
    cells = [0, *(b - a for a, b in pairwise(at)), 0]
    mean = _number(line.get("distribution/mean"), (low + high) / 2)
    sd = _number(line.get("distribution/stddev"), 0.0)
    sd = sd if math.isfinite(sd) and sd > 0 else 0.0
    feature = Feature(name=name, kind="numeric", role="input", tensor=name, edges=tuple(edges),
                      centre=mean, scale=sd or 1.0)  # fmt: skip
    return feature, FeatureCounts(
        cells=tuple(int(cell) for cell in cells), nulls=rows - n, total=0.0, squares=n * sd * sd,
        min=low, max=high,
    )  # fmt: skip


def _categorical(
    name: str, line: Mapping[str, Any], n: int, rows: int
) -> tuple[Feature, FeatureCounts] | None:
    items = line.get("frequent_items/frequent_strings")
    found = _items(items)
    if not n or not found:
        return None
    ranked = sorted(found.items(), key=lambda one: (-one[1], one[0]))[:MAX_VOCABULARY]
    cells, left = [], n
    for _, count in ranked:
        cells.append(min(count, left))
        left -= cells[-1]
    feature = Feature(name=name, kind="categorical", role="input", tensor=name,
                      vocabulary=tuple(word for word, _ in ranked))  # fmt: skip
    return feature, FeatureCounts(cells=(*cells, left), nulls=rows - n)


def _items(listed: Any) -> dict[str, int]:  # noqa: ANN401 - a list of whylogs' items, or its text
    """Return estimated counts by word."""
    if isinstance(listed, str):
        pairs = [(word, float(count)) for word, count in _ITEM.findall(listed)]
    else:
        pairs = []
        for one in listed if isinstance(listed, (list, tuple, np.ndarray)) else ():
            value = one.get("value") if isinstance(one, dict) else getattr(one, "value", None)
            count = one.get("est") if isinstance(one, dict) else getattr(one, "est", None)
            if isinstance(value, str) and count is not None:
                pairs.append((value, float(count)))
    return {
        word: round(count) for word, count in pairs if len(word) <= MAX_WORD_CHARS and count >= 1
    }


def _number(value: Any, otherwise: float = 0.0) -> float:  # noqa: ANN401 - of any column
    try:
        found = float(value)
    except (TypeError, ValueError):
        return otherwise
    return otherwise if math.isnan(found) else found
