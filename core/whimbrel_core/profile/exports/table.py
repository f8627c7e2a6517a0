"""Profiles as two tables: a line per feature, and a line per feature and cell.

Columns are plain lists of equal length, of one type each (None where there is no value), so that
whatever writes Parquet, CSV or JSON can take them as they are.
"""

from __future__ import annotations

import math
from itertools import pairwise
from typing import TYPE_CHECKING, TypeAlias

from whimbrel_core.profile.building.dataset import quantile

if TYPE_CHECKING:
    from collections.abc import Mapping

    from whimbrel_core.profile.building.dataset import DatasetProfile
    from whimbrel_core.profile.feature import Feature

Value: TypeAlias = "str | int | float | None"
Table: TypeAlias = "dict[str, list[Value]]"

QUANTILES = (0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99)
#: Columns of each table with their types, for writers that need them before there is a line.
SUMMARY: dict[str, type] = {
    "feature": str, "role": str, "kind": str, "unit": str, "rows": int, "missing": int,
    "infinite": int, "mean": float, "sd": float, "min": float, "max": float,
    **{f"q{round(q * 100):02d}": float for q in QUANTILES},
    "values_apart": int, "most_frequent": str, "most_frequent_rows": int, "other_rows": int,
    "start_ms": int, "end_ms": int,
}  # fmt: skip
CELLS: dict[str, type] = {
    "feature": str, "kind": str, "cell": int, "name": str, "above": float, "to": float,
    "value": float, "word": str, "rows": int, "share": float, "start_ms": int, "end_ms": int,
}  # fmt: skip


def summary(profile: DatasetProfile, more: Mapping[str, str] | None = None) -> Table:
    """Return a line per feature: counts, moments and quantiles.

    Args:
        profile: the counts.
        more: columns to put first, the same in every line.
    """
    base = profile.baseline
    found: Table = {name: [] for name in [*(more or {}), *SUMMARY]}
    for feature, counts, stats in zip(
        base.layout.features, base.window.features, base.stats, strict=True
    ):
        line: dict[str, Value] = {
            **(more or {}),
            "feature": feature.name,
            "role": feature.role,
            "kind": feature.kind,
            "unit": feature.unit,
            "rows": counts.rows,
            "missing": counts.nulls,
            "infinite": counts.pos_inf + counts.neg_inf,
            "mean": stats.mean,
            "sd": stats.sd,
            "min": stats.min,
            "max": stats.max,
            "start_ms": base.window.start_ms or None,
            "end_ms": base.window.end_ms or None,
        }
        line |= {f"q{round(q * 100):02d}": quantile(feature, counts, q) for q in QUANTILES}
        if feature.kind != "numeric":
            names, known = feature.cell_names()[:-1], counts.cells[:-1]
            most = max(range(len(known)), key=known.__getitem__, default=None)
            line["values_apart"] = len(known)
            line["most_frequent"] = None if most is None else names[most]
            line["most_frequent_rows"] = None if most is None else known[most]
            line["other_rows"] = counts.cells[-1]
        for name, column in found.items():
            column.append(line.get(name))
    return found


def cells(profile: DatasetProfile, more: Mapping[str, str] | None = None) -> Table:
    """Return a line per feature and cell: (``above``, ``to``] of numbers, a value, or a word.

    An open end is None, and so are the value and the word of "other".
    """
    window = profile.baseline.window
    found: Table = {name: [] for name in [*(more or {}), *CELLS]}
    for feature, counts in zip(profile.baseline.layout.features, window.features, strict=True):
        total = max(counts.finite, 1)
        bounds = _bounds(feature)
        for index, (name, rows) in enumerate(zip(feature.cell_names(), counts.cells, strict=True)):
            line: dict[str, Value] = {
                **(more or {}),
                "feature": feature.name,
                "kind": feature.kind,
                "cell": index,
                "name": name,
                "above": bounds[index][0],
                "to": bounds[index][1],
                "value": feature.values[index] if index < len(feature.values) else None,
                "word": feature.vocabulary[index] if index < len(feature.vocabulary) else None,
                "rows": rows,
                "share": rows / total,
                "start_ms": window.start_ms or None,
                "end_ms": window.end_ms or None,
            }
            for column_name, column in found.items():
                column.append(line.get(column_name))
    return found


def lines(table: Table) -> list[dict[str, Value]]:
    """Return a table as a dict per line."""
    names = list(table)
    return [dict(zip(names, line, strict=True)) for line in zip(*table.values(), strict=True)]


def _bounds(feature: Feature) -> list[tuple[float | None, float | None]]:
    if feature.kind != "numeric":
        return [(None, None)] * feature.cells
    ends = [-math.inf, *feature.edges, math.inf]
    return [
        (a if math.isfinite(a) else None, b if math.isfinite(b) else None)
        for a, b in pairwise(ends)
    ]
