"""What is found by looking at all devices together: shared drift, and devices unlike the rest."""

from __future__ import annotations

import msgspec

from whimbrel_server.views.alerts import Severity
from whimbrel_server.views.drift import DriftState


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
