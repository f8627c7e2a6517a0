"""The newest judgement of a subject: its features, what its data lacks, what it costs."""

from __future__ import annotations

from typing import Literal

import msgspec

DriftState = Literal["too_few", "ok", "notice", "warn", "severe"]
Level = Literal["device", "cohort", "fleet"]
Reading = Literal["harmless", "costly", "better", "unclear"]


class LossView(msgspec.Struct, frozen=True, kw_only=True):
    """Expected quality of drifted windows beside the reference's own.

    ``loss`` is how much worse it is expected to be (AUC, accuracy: a difference; MAE, RMSE: a
    share of the error); ``se`` the standard error of current − reference.
    """

    measure: str
    reference: float
    current: float
    se: float
    loss: float
    reading: Reading
    rows: int
    sentence: str = ""


class FindingView(msgspec.Struct, frozen=True, kw_only=True):
    """What is wrong with the data of a window: in a ``share`` of the rows, ``usual`` in the reference.

    ``feature`` is "" for the whole window.
    """

    feature: str
    kind: str
    share: float
    usual: float
    level: DriftState
    message: str


class FeatureView(msgspec.Struct, frozen=True, kw_only=True):
    """One feature of a judged profile: evidence, effect, and the state that needs both."""

    feature: str
    role: Literal["input", "output"]
    state: DriftState
    kind: str = ""
    unit: str | None = None
    psi: float | None = None
    psi_debiased: float | None = None
    js: float | None = None
    ks: float | None = None
    w1_sd: float | None = None
    p_value: float | None = None
    log_e: float | None = None
    alarm: bool = False
    since_ms: int | None = None
    null_rate: float | None = None
    reference_null_rate: float | None = None


class DriftView(msgspec.Struct, frozen=True, kw_only=True):
    """The newest judgement of one subject (a device, a cohort ``key=value``, or ``fleet``).

    ``losses`` are of the windows since an alarm began, or else of the newest window; ``findings`` are
    about the data of the newest window of a device.
    """

    level: Level
    subject: str
    name: str
    version: str
    window_start_ms: int
    window_end_ms: int
    rows: int
    features: tuple[FeatureView, ...] = ()
    worst: DriftState = "too_few"
    against: Literal["baseline", "peers"] = "baseline"
    losses: tuple[LossView, ...] = ()
    findings: tuple[FindingView, ...] = ()
