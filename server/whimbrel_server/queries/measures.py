"""The numbers that merged counts give: quality expected and realised, errors, latency."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from whimbrel_core.profile.quality.estimates import (
    ExpectedQuality,
    RealisedQuality,
    expected_of,
    realised,
)
from whimbrel_server.queries.memo import Memo
from whimbrel_server.store import aggregates

if TYPE_CHECKING:
    from collections.abc import Sequence

    from whimbrel_core.profile.baseline import Baseline
    from whimbrel_core.profile.window import Window


class Measures(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of a period. A None is not known, or does not apply."""

    rows: int = 0
    labelled_rows: int = 0
    auc_realised: float | None = None
    auc_expected: float | None = None
    accuracy_realised: float | None = None
    accuracy_expected: float | None = None
    mae_realised: float | None = None
    mae_expected: float | None = None
    rmse_realised: float | None = None
    rmse_expected: float | None = None
    error_rate: float | None = None
    latency_p50_us: float | None = None
    latency_p99_us: float | None = None


_MEASURED: Memo[Measures] = Memo(4096)
_MERGED: Memo[Window] = Memo(128)


def merged(digest: str, baseline: Baseline, found: list[aggregates.Period]) -> Window:
    """Return the counts of periods of one version together."""
    return _MERGED.get(
        (digest,),
        (period.payload for period in found),
        lambda: aggregates.total(baseline.layout, found).window(),
    )


def measured(digest: str, baseline: Baseline, found: list[aggregates.Period]) -> Measures:
    """Return the measures of periods of one version together."""
    return _MEASURED.get(
        (digest,),
        (period.payload for period in found),
        lambda: measure(aggregates.total(baseline.layout, found).window(), baseline),
    )


def measure(window: Window, baseline: Baseline) -> Measures:
    """Return the measures of merged counts."""
    promised = expected_of(window, baseline) or ExpectedQuality(rows=0)
    found = RealisedQuality(n=0)
    if window.quality is not None:
        found = realised(window.quality, binary=baseline.layout.binary)
    asked = window.ops.requests + window.ops.failed
    return Measures(
        rows=window.rows,
        labelled_rows=found.n,
        auc_realised=found.auc,
        auc_expected=promised.auc,
        accuracy_realised=found.accuracy,
        accuracy_expected=promised.accuracy,
        mae_realised=found.mae,
        mae_expected=promised.mae,
        rmse_realised=found.rmse,
        rmse_expected=promised.rmse,
        error_rate=window.ops.failed / asked if asked else None,
        latency_p50_us=latency_us(window.ops.latency, 0.5),
        latency_p99_us=latency_us(window.ops.latency, 0.99),
    )


def latency_us(cells: Sequence[int], quantile: float) -> float | None:
    """Return about the latency's ``quantile`` in µs, from counts per power of two.

    Within the cell that holds it, requests are taken as spread evenly on a logarithmic scale.
    Gates keep to the cell's upper end (`OpsCounts.latency_us`); this is what people are shown.

    >>> latency_us((0, 0, 0, 0, 0, 0, 0, 0, 100), 0.5)
    181.01933598375618
    """
    total = sum(cells)
    if not total:
        return None
    wanted, below = quantile * total, 0
    for cell, count in enumerate(cells):
        if count and below + count >= wanted:
            part = (wanted - below) / count
            # Cell 0 is below 1 µs, cell k is from 2^(k-1) to 2^k µs.
            return float(2.0 ** (cell - 1 + part)) if cell else part
        below += count
    return None
