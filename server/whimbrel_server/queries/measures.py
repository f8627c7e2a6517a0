"""The numbers that merged counts give: quality expected and realised, errors, latency."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from whimbrel_core.profile.quality import expected, realised

if TYPE_CHECKING:
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
    error_rate: float | None = None
    latency_p50_us: float | None = None
    latency_p99_us: float | None = None


def measure(window: Window, baseline: Baseline) -> Measures:
    """Return the measures of merged counts."""
    promised_auc = promised_accuracy = None
    if window.score_cells is not None and baseline.calibration is not None:
        promised = expected(window.score_cells, baseline.calibration)
        promised_auc, promised_accuracy = promised.auc, promised.accuracy
    auc = accuracy = None
    labelled = 0
    if window.quality is not None:
        found = realised(window.quality, binary=baseline.layout.binary)
        auc, accuracy, labelled = found.auc, found.accuracy, found.n
    asked = window.ops.requests + window.ops.failed
    return Measures(
        rows=window.rows,
        labelled_rows=labelled,
        auc_realised=auc,
        auc_expected=promised_auc,
        accuracy_realised=accuracy,
        accuracy_expected=promised_accuracy,
        error_rate=window.ops.failed / asked if asked else None,
        latency_p50_us=window.ops.latency_us(0.5),
        latency_p99_us=window.ops.latency_us(0.99),
    )
