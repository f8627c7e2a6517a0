"""Published models, how their versions do in the field, and the words that they lack."""

from __future__ import annotations

import msgspec

from whimbrel_server.views.drift import DriftState


class VersionView(msgspec.Struct, frozen=True, kw_only=True):
    """One published version of a model, and how it does in the field."""

    version: str
    release: int
    digest: str
    path: str
    length: int = 0
    profile_id: str = ""
    published_ms: int | None = None
    trusted: bool = True
    problem: str = ""
    task: str = ""
    classes: tuple[str, ...] = ()
    device_classes: tuple[str, ...] = ()
    description: str = ""
    devices_serving: tuple[str, ...] = ()
    rows: int = 0
    labelled_rows: int = 0
    state: DriftState = "too_few"
    metrics: dict[str, float] = {}
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


class ModelView(msgspec.Struct, frozen=True, kw_only=True):
    """One model: its versions, newest release first."""

    name: str
    versions: tuple[VersionView, ...] = ()
    latest: str = ""


class WordView(msgspec.Struct, frozen=True, kw_only=True):
    """A word that a category's vocabulary lacks, and how many devices have met it."""

    feature: str
    word: str
    devices: int
    first_ms: int


class WordsView(msgspec.Struct, frozen=True, kw_only=True):
    """New words of one version: those that can be read, and how many cannot yet, by feature.

    ``needed``: devices that must have met a word before it can be read; 0: devices tell none.
    """

    version: str
    needed: int
    words: tuple[WordView, ...] = ()
    sealed: dict[str, int] = {}
