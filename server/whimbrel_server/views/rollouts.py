"""A rollout as an operator asks for it, and how far it has come."""

from __future__ import annotations

from typing import Literal

import msgspec

from whimbrel_core.wire.assignment import Probation
from whimbrel_server.views.drift import DriftState

GateState = Literal["waiting", "passed", "failed"]
WaveState = Literal["pending", "assigning", "judging", "passed", "failed", "rolled_back"]
RolloutState = Literal[
    "running", "paused", "completed", "rolling_back", "rolled_back", "aborted", "failed"
]


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
