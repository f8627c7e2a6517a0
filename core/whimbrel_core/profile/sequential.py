"""Watch a stream of windows for a lasting change: a Shiryaev–Roberts e-detector."""

from __future__ import annotations

import msgspec

from whimbrel_core.profile.baseline import Baseline
from whimbrel_core.profile.window import Window


class DetectorSettings(msgspec.Struct, frozen=True, kw_only=True):
    """How often an alarm may be false, and from how much history it is judged.

    Args:
        streams: device × feature streams that share the false-alarm budget.
        arl_windows: mean number of windows between false alarms of the whole fleet (30 days).
        warmup: windows from which a stream's own baseline is learnt.
    """

    streams: int = 1
    arl_windows: int = 720
    warmup: int = 48


class DetectorState(msgspec.Struct, frozen=True, kw_only=True):
    """Everything a detector remembers of one device: serialise it with msgspec.

    Args:
        profile_id: of the layout.
        windows: observed windows, the warm-up included.
        at_ms: start of the newest observed window.
        arrays: the detector's numbers, float64 little-endian; opaque.
    """

    profile_id: str
    windows: int = 0
    at_ms: int = 0
    arrays: bytes = b""


class Evidence(msgspec.Struct, frozen=True, kw_only=True):
    """What a detector says of one feature.

    Args:
        feature: name.
        log_e: natural logarithm of the e-detector; an alarm is at ``threshold``.
        threshold: log(streams × ARL).
        alarm: whether the threshold is reached.
        since_ms: start of the window at which the change probably began; None before any sign.
        warming: whether the stream's own baseline is still being learnt.
        component: what changed most: "location", "scale", "missing" or "share of <word>".
    """

    feature: str
    log_e: float
    threshold: float
    alarm: bool
    since_ms: int | None
    warming: bool
    component: str


class Observation(msgspec.Struct, frozen=True, kw_only=True):
    """One window as a detector sees it. ``values`` and ``rows`` are opaque arrays."""

    profile_id: str
    at_ms: int
    values: bytes
    rows: bytes


class Detector:
    """Watches all features of one layout; stateless itself, one `DetectorState` per device."""

    def __init__(self, baseline: Baseline, settings: DetectorSettings = DetectorSettings()) -> None:  # noqa: B008 — frozen
        raise NotImplementedError

    def start(self) -> DetectorState:
        """Return the state of a device that was never seen."""
        raise NotImplementedError

    def observe(self, window: Window) -> Observation:
        """Reduce a window to what is tested: location, scale, shares and missing values."""
        raise NotImplementedError

    def advance(self, state: DetectorState, observation: Observation) -> DetectorState:
        """Return the state after one more window. Pure; windows older than the state are ignored."""
        raise NotImplementedError

    def evidence(self, state: DetectorState) -> tuple[Evidence, ...]:
        """Return what ``state`` says of every feature."""
        raise NotImplementedError
