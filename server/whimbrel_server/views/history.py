"""What a chart is drawn from: a series over time, a distribution."""

from __future__ import annotations

import msgspec

from whimbrel_server.views.drift import DriftState


class SeriesPoint(msgspec.Struct, frozen=True, kw_only=True):
    """One point in time of a series; what is not known, or not asked for, is None."""

    start_ms: int
    end_ms: int
    rows: int
    version: str = ""
    state: DriftState | None = None
    psi: float | None = None
    w1_sd: float | None = None
    log_e: float | None = None
    mean: float | None = None
    null_rate: float | None = None
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


class HistogramView(msgspec.Struct, frozen=True, kw_only=True):
    """A feature's distribution: reference against current, as fractions of finite values.

    ``cells`` names each bar. Numeric features also carry ``edges``: bar i is
    (edges[i-1], edges[i]]; the first and the last bar are open.
    """

    feature: str
    kind: str
    cells: tuple[str, ...]
    reference: tuple[float, ...]
    current: tuple[float, ...]
    edges: tuple[float, ...] = ()
    unit: str | None = None
    reference_null_rate: float = 0.0
    current_null_rate: float = 0.0
    rows: int = 0
