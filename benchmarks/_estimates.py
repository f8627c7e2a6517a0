"""Estimates without labels beside what came true and what a peer estimated: one measure a line."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from whimbrel_core.profile.counting.accumulator import Accumulator
from whimbrel_core.profile.quality.estimates import expected_of
from whimbrel_core.profile.window import decode, encode

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from whimbrel_core.profile.baseline import Baseline
    from whimbrel_core.profile.quality.estimates import ExpectedQuality


class Line(NamedTuple):
    """One measure over all chunks."""

    data: str
    measure: str
    chunks: int
    realised: tuple[float, float]  # smallest, largest
    ours: float  # mean absolute error
    theirs: float
    their_name: str


def line(
    data: str,
    measure: str,
    *,
    true: Sequence[float],
    ours: Sequence[float | None],
    theirs: Sequence[float],
    name: str,
) -> Line:
    """Return how far off both were over all chunks."""
    real = np.array(true, float)
    return Line(
        data,
        measure,
        len(real),
        (float(real.min()), float(real.max())),
        float(np.abs(np.array(ours, float) - real).mean()),
        float(np.abs(np.array(theirs) - real).mean()),
        name,
    )


def promised(baseline: Baseline, columns: Mapping[str, NDArray[Any]]) -> ExpectedQuality:
    """Return what is expected of rows that a device counted and sent; words are objects."""
    accumulator = Accumulator(baseline)
    accumulator.update(
        {
            name: values if values.dtype == object else values.astype(np.float32)
            for name, values in columns.items()
        }
    )
    found = expected_of(decode(encode(accumulator.window(0, 1))), baseline)
    if found is None:
        raise AssertionError("the baseline promises nothing")
    return found


def table(lines: Sequence[Line], targets: Mapping[str, float]) -> str:
    """Return the lines as a table."""
    rows = [
        "mean absolute error of quality estimated without labels, over all chunks",
        f"{'':<40}{'chunks':>7}{'realised from … to':>22}{'ours':>10}{'target':>9}{'NannyML':>18}",
    ]
    for one in lines:
        digits = 4 if one.realised[1] <= 1 else 2 if one.realised[1] <= 100 else 1
        span = f"{one.realised[0]:,.{digits}f} … {one.realised[1]:,.{digits}f}"
        target = targets.get(one.measure)
        rows.append(
            f"{one.data + ', ' + one.measure:<40}{one.chunks:>7}{span:>22}{one.ours:>10.4g}"
            f"{'' if target is None else f'{target:g}':>9}"
            f"{f'{one.theirs:.4g} ({one.their_name})':>18}"
        )
    return "\n".join(rows)
