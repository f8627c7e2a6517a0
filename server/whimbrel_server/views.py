"""What the fleet server tells people and programs: frozen views, and the specs they send.

The REST interface, the dashboard and the command line all speak in these; the store's rows and
the wire's messages stay inside. Times are integer milliseconds since 1970 UTC, fields are only
ever added, with defaults. A None says "not known" or "too little data", never zero.
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from whimbrel_core.wire.assignment import Probation
from whimbrel_core.wire.messages import Phase

DriftState = Literal["too_few", "ok", "notice", "warn", "severe"]
Level = Literal["device", "cohort", "fleet"]
AlertKind = Literal["drift", "outlier", "data", "quality", "device", "rollout", "retraining"]
Severity = Literal["notice", "warn", "severe"]
AlertState = Literal["open", "acknowledged", "closed"]
Reading = Literal["harmless", "costly", "better", "unclear"]
GateState = Literal["waiting", "passed", "failed"]
WaveState = Literal["pending", "assigning", "judging", "passed", "failed", "rolled_back"]
RolloutState = Literal[
    "running", "paused", "completed", "rolling_back", "rolled_back", "aborted", "failed"
]


class SlotView(msgspec.Struct, frozen=True, kw_only=True):
    """One slot of a device: what it serves, and what it was asked to serve."""

    slot: str
    phase: Phase
    name: str = ""
    version: str = ""
    digest: str = ""
    release: int = 0
    wanted_digest: str = ""
    wanted_version: str = ""
    committed: bool = False
    error_code: str = ""
    error: str = ""


class DeviceView(msgspec.Struct, frozen=True, kw_only=True):
    """One device. ``worst_state`` is the worst drift state of its newest judged windows.

    ``outbox_rows`` is how many of the rows that waited on the device when it last told
    (``outbox_at_ms``) have not been committed here since.
    """

    device: str
    labels: dict[str, str] = {}
    online: bool = False
    last_seen_ms: int | None = None
    enrolled_ms: int | None = None
    agent_version: str = ""
    revision_desired: int = 0
    revision_seen: int = 0
    epoch: str = ""
    outbox_rows: int = 0
    outbox_at_ms: int | None = None
    clock: str = "unsynced"
    slots: tuple[SlotView, ...] = ()
    quarantined: tuple[str, ...] = ()
    memory_available_bytes: int = 0
    disk_free_bytes: int = 0
    bytes_downloaded: int = 0
    dropped_windows: int = 0
    last_error: str = ""
    worst_state: DriftState = "too_few"
    worst_feature: str = ""
    windows_received: int = 0
    rows_received: int = 0
    last_window_end_ms: int | None = None


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


class AlertView(msgspec.Struct, frozen=True, kw_only=True):
    """Something a person should know. ``at_ms`` is event time, ``raised_ms`` the wall clock.

    ``loss``: what a drift is expected to cost so far, where that can be expected.
    """

    id: int
    at_ms: int
    raised_ms: int
    kind: AlertKind
    severity: Severity
    message: str
    device: str = ""
    model: str = ""
    version: str = ""
    feature: str = ""
    evidence: dict[str, Any] = {}
    state: AlertState = "open"
    acknowledged_by: str = ""
    updated_ms: int = 0
    loss: LossView | None = None
    scope: str = ""
    under: str = ""
    cause: str = ""


class DriftingView(msgspec.Struct, frozen=True, kw_only=True):
    """A device of a finding. Without an ``alarm`` of its own it is known beside the others (e-BH)."""

    device: str
    level: DriftState
    log_e: float
    alarm: bool
    since_ms: int | None = None
    psi: float | None = None


class GatheredView(msgspec.Struct, frozen=True, kw_only=True):
    """A cohort in which drifting devices gather beyond chance."""

    cohort: str
    drifting: int
    devices: int


class RollupView(msgspec.Struct, frozen=True, kw_only=True):
    """The drift of one feature of one version: on how many devices, where, since when.

    ``scope``: ``fleet``, or the cohort that holds all who drift; ``devices``: how many those are.
    ``drifting``: those who drift, of which on average ``q`` at most do not. ``psi``, ``w1_sd``: of
    the scope's merged counts; ``fleet_psi`` of the fleet's, now and before. ``hidden``: those show
    nothing. ``average``: they have an effect that lasts. ``alert``: one alert stands for all.
    """

    model: str
    version: str
    feature: str
    severity: Severity
    scope: str
    devices: int
    count: int
    drifting: tuple[DriftingView, ...]
    alarmed: int
    gathered: tuple[GatheredView, ...]
    since_ms: int | None
    what: str
    log_e: float
    threshold: float
    psi: float | None
    w1_sd: float | None
    fleet_psi: float | None
    fleet_psi_before: float | None
    average: bool
    hidden: bool
    alert: bool
    message: str
    updated_ms: int
    q: float


class OutlierView(msgspec.Struct, frozen=True, kw_only=True):
    """A device that is unlike its peers: beyond how far they differ from each other.

    ``shift`` and ``spread`` are in reference standard deviations, ``z`` in spreads; ``psi`` and
    ``w1_sd`` are distances from the rest. ``peers``: ``fleet`` or the cohort, ``devices`` of them.
    """

    model: str
    version: str
    device: str
    feature: str
    what: str
    shift: float
    spread: float
    z: float
    psi: float | None
    w1_sd: float | None
    severity: Severity
    peers: str
    devices: int
    since_ms: int
    periods: int
    message: str


class GroupsView(msgspec.Struct, frozen=True, kw_only=True):
    """What is found by looking at all devices together."""

    rollups: tuple[RollupView, ...] = ()
    outliers: tuple[OutlierView, ...] = ()


class GateView(msgspec.Struct, frozen=True, kw_only=True):
    """One gate of a wave: its value, its limit, and a sentence that says both."""

    name: str
    state: GateState
    sentence: str
    value: float | None = None
    limit: float | None = None


class WaveView(msgspec.Struct, frozen=True, kw_only=True):
    """One wave of a rollout."""

    index: int
    devices: tuple[str, ...]
    state: WaveState = "pending"
    started_ms: int | None = None
    finished_ms: int | None = None
    gates: tuple[GateView, ...] = ()


class RolloutView(msgspec.Struct, frozen=True, kw_only=True):
    """A rollout: which version moves to which devices, and how far it has come."""

    id: int
    slot: str
    model: str
    version: str
    digest: str
    state: RolloutState
    from_versions: dict[str, str] = {}
    wave: int = 0
    waves: tuple[WaveView, ...] = ()
    created_ms: int = 0
    updated_ms: int = 0
    actor: str = ""
    reason: str = ""


class EventView(msgspec.Struct, frozen=True, kw_only=True):
    """Something that happened on a device, as it told."""

    at_ms: int
    device: str
    kind: str
    slot: str = ""
    digest: str = ""
    detail: dict[str, str] = {}
    received_ms: int = 0


class CountsView(msgspec.Struct, frozen=True, kw_only=True):
    """Bookkeeping of one device's telemetry.

    ``received`` = committed messages (windows and events), ``windows`` and ``rows`` of them;
    ``merged`` = windows that were folded into others on the device before sending;
    ``duplicate`` = arrived again and ignored; ``refused`` = unusable, recorded and acknowledged;
    ``unreadable`` = nothing in it could be trusted, counted only;
    ``lost`` = sequence numbers below the highest that never came (they may still).
    """

    device: str
    received: int = 0
    windows: int = 0
    rows: int = 0
    merged: int = 0
    duplicate: int = 0
    refused: int = 0
    unreadable: int = 0
    lost: int = 0
    bytes: int = 0


class AuditView(msgspec.Struct, frozen=True, kw_only=True):
    """Who did what, when."""

    at_ms: int
    actor: str
    action: str
    subject: str
    detail: dict[str, Any] = {}


class HealthView(msgspec.Struct, frozen=True, kw_only=True):
    """Whether the parts of the server work. ``ok`` is their conjunction."""

    ok: bool
    version: str
    broker_connected: bool
    repository_ok: bool
    store_ok: bool
    uptime_s: float
    windows_received: int = 0
    windows_per_s: float = 0.0
    judged_behind: int = 0
    problems: tuple[str, ...] = ()


class RepositoryView(msgspec.Struct, frozen=True, kw_only=True):
    """The repository's metadata: names of files."""

    metadata: tuple[str, ...]


class UploadView(msgspec.Struct, frozen=True, kw_only=True):
    """How much of a file is here: ``received`` bytes; ``complete`` when they have its digest."""

    digest: str
    received: int
    complete: bool


class AcceptedView(msgspec.Struct, frozen=True, kw_only=True):
    """Metadata that was taken in; not ``fresh``: it was there already, and nothing was changed."""

    name: str
    fresh: bool
    added: tuple[str, ...] = ()


class MqttView(msgspec.Struct, frozen=True, kw_only=True):
    """Where devices find the broker."""

    host: str
    port: int
    tls: bool


class Enrolment(msgspec.Struct, frozen=True, kw_only=True):
    """What a device needs to join: certificate, trust anchors and addresses."""

    device: str
    cert_pem: str
    ca_pem: str
    root_json: str
    mqtt: MqttView
    repository_url: str
    labels: dict[str, str] = {}


class Wave(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Devices that move together: named, or by labels, or a percentage of those not yet moved.

    ``labels`` and ``percent`` together take that percentage of the devices with the labels.
    A wave of nothing at all (no names, no labels, no percent) takes every remaining device.
    """

    devices: tuple[str, ...] = ()
    labels: dict[str, str] = {}
    percent: float | None = None


class Gates(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a wave must show before the next one starts. A None is not judged.

    Args:
        min_rows: rows served with the new version, per device.
        min_windows: windows received with the new version, per device.
        max_error_rate: failed / (answered + failed) requests, all devices of the wave.
        max_latency_ratio: median latency against the version that was replaced.
        max_output_state: worst drift state allowed on the new version's outputs.
        min_auc: realised AUC over the joined labels of the wave's devices.
        max_auc_drop: AUC may be at most this much below the incumbent's on the same devices.
        labels: joined labels per wave that the quality gates wait for.
        soak_windows: windows each device must have sent after all other gates passed.
    """

    min_rows: int = 100
    min_windows: int = 1
    max_error_rate: float | None = 0.02
    max_latency_ratio: float | None = None
    max_output_state: DriftState | None = None
    min_auc: float | None = None
    max_auc_drop: float | None = None
    labels: int = 0
    soak_windows: int = 0


class RolloutSpec(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A rollout as an operator asks for it. No waves: one wave of every enrolled device."""

    slot: str
    model: str
    version: str
    waves: tuple[Wave, ...] = ()
    gates: Gates = Gates()
    probation: Probation = Probation()
    deadline_s: float = 7 * 86_400.0
