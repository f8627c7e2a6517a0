"""Watch a stream of windows for a lasting change: a Shiryaev–Roberts e-detector.

For every component x of a feature (`components`) and every tilt δ there is a likelihood ratio of
"shifted by δ" against "shifted by at most μ₀", for windows that vary with variance v::

    g(x) = ((x − μ₀)² − (x − δ)²) / 2v        location, shares: μ₀ = .1,   δ = ±.2, ±.4
                                              scale (log sd):   μ₀ = .075, δ = ±.15, ±.3

For sub-Gaussian windows e^g has expectation at most 1 whatever the shift below μ₀, and the
Shiryaev–Roberts sum M ← (M + 1) e^g grows by at most 1 a window on average until something
changes. A feature's e-detector is the average of M over its components and tilts. An alarm at
M ≥ streams × ARL comes, without change, no more often than once in ARL windows over all streams,
however they depend on each other. (Shin, Ramdas, Rinaldo: "E-detectors: a nonparametric framework
for sequential change detection", 2023.)

A device differs from the fleet and from the reference, and its windows vary more than their rows
explain, and hang together. So the first windows (``warmup``) teach its own mean and variance:

- mean: shrunk to the signed baseline, as if devices differ from it by .2 sd;
- variance between windows: the observed one, with a prior of .1 sd worth four windows; times
  (1 + r) / (1 − r) for the lag-1 correlation r; times 1 + 2/√warmup, because it is an estimate;
- plus the sampling variance of each window's rows;
- μ₀ and δ move outwards by the standard error of the mean.

One window can add at most half of what an alarm takes: two may suffice, no single odd one does.

What one simulation gave (one seed; windows of 3,600 rows, devices that differ by .2 sd, budget
for 2,000 streams and an ARL of 720 windows, 1,000 streams for 168 windows after the warm-up
without drift, then 200 with; "missed" is within 40 windows). "wander" is the sd of a device's
windows beyond sampling error, r their correlation:

    wander   r    false alarms   +.3 sd, median (missed)   +.5 sd, median (missed)
    .05     .5       0 %              9   (.5 %)                 2   (0)
    .1      .5       0 %             32   (36 %)                 8   (0)
    .1      .9       3.3 %            -   (60 %)                14   (17 %)
    .2      .5       0 %              -   (89 %)                31   (32 %)

No alarm among 1,000 bounds the rate at .3 %, no lower. The budget is not kept where windows hang
together as at r = .9 (48 windows cannot tell it), nor by short warm-ups: over 300 windows of 300
rows in all, with an ARL of 30, 7 / 10 / 14 warm-up windows alarmed falsely in 1.1 / .7 / .3 % of
streams, where the budget allows .5 %.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from whimbrel_core.errors import ProfileError
from whimbrel_core.profile.components import Components
from whimbrel_core.profile.window import Window, require_fit

if TYPE_CHECKING:
    from whimbrel_core.profile.baseline import Baseline

Floats = NDArray[np.float64]

_SHIFT = (0.1, (-0.4, -0.2, 0.2, 0.4))
_LOG_SCALE = (0.075, (-0.3, -0.15, 0.15, 0.3))
_DEVICE_SD = 0.2  # how much devices of a fleet differ, in standard deviations of rows
_WINDOW_SD = (
    0.1  # how much a device's windows differ beyond their sampling error, before it is known
)
_WINDOW_SD_WORTH = 4.0  # windows that this prior counts for
_MAX_CORRELATION = 0.9
_FLOOR = -40.0  # log M of a stream that never shows anything; keeps float32 comfortable
_HOUR_MS = 3_600_000.0


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

    def __post_init__(self) -> None:
        """Refuse settings without meaning."""
        if self.streams < 1 or self.arl_windows < 2 or self.warmup < 2:  # noqa: PLR2004 — a variance needs two
            raise ProfileError(
                f"a detector needs a stream, an ARL and a warm-up of two windows at least; got "
                f"{self.streams}, {self.arl_windows} and {self.warmup}"
            )

    @property
    def threshold(self) -> float:
        """Natural logarithm of streams × ARL."""
        return math.log(self.streams) + math.log(self.arl_windows)


class DetectorState(msgspec.Struct, frozen=True, kw_only=True):
    """Everything a detector remembers of one device: serialise it with msgspec.

    Args:
        profile_id: of the layout.
        windows: observed windows, the warm-up included.
        start_ms: start of the first observed window.
        at_ms: start of the newest one.
        arrays: the detector's numbers, float32 little-endian, opaque.
    """

    profile_id: str
    windows: int
    start_ms: int
    at_ms: int
    arrays: bytes


class Observation(msgspec.Struct, frozen=True, kw_only=True):
    """One window as a detector sees it.

    Args:
        profile_id: of the layout.
        at_ms: start of the window.
        values: components (K,), float64 little-endian; NaN where too few rows tell.
        variances: their sampling variances (K,), likewise.
    """

    profile_id: str
    at_ms: int
    values: bytes
    variances: bytes


class Evidence(msgspec.Struct, frozen=True, kw_only=True):
    """What a detector says of one feature.

    Args:
        feature: name.
        log_e: natural logarithm of the e-detector.
        threshold: where an alarm is.
        alarm: whether it is reached.
        since_ms: about when the change began; None while nothing speaks for one.
        warming: whether the stream's own baseline is still being learnt.
        component: what speaks most: "location", "scale", "missing" or "share of <word>".
        shift: by how much that component differs from the stream's own baseline in the newest
            windows, in standard deviations of rows (scale: in logarithms of the sd).
    """

    feature: str
    log_e: float
    threshold: float
    alarm: bool
    since_ms: int | None
    warming: bool
    component: str
    shift: float


class _Arrays(NamedTuple):
    """The numbers of a state, float64."""

    seen: Floats  # (K,) warm-up windows in which the component was known
    mean: Floats  # (K,) their mean, then the stream's own baseline
    spread: Floats  # (K,) their Σ (x − mean)², then the variance between windows
    lagged: Floats  # (K,) their Σ of products of neighbours' deviations
    last: Floats  # (K,) newest deviation from the mean
    sampling: Floats  # (K,) Σ of their sampling variances
    doubt: Floats  # (K,) after the warm-up: standard error of the stream's own baseline
    recent: Floats  # (K,) exponential mean of deviations, about the last four windows
    log_m: Floats  # (K, T) logarithm of the Shiryaev–Roberts sums
    began: Floats  # (K, T) mean time of change that each sum speaks for, hours since start_ms


class Detector:
    """Watches all features of one layout; stateless itself: one `DetectorState` per device.

    Args:
        baseline: the signed one, from which every stream starts.
        settings: false-alarm budget and warm-up.
    """

    def __init__(self, baseline: Baseline, settings: DetectorSettings | None = None) -> None:
        self.layout = baseline.layout
        self.settings = settings = DetectorSettings() if settings is None else settings
        self.components = components = Components(baseline)
        scale = components.is_scale[:, np.newaxis]
        tilts = np.where(scale, _LOG_SCALE[1], _SHIFT[1])  # (K, T)
        self._margin = np.where(scale, _LOG_SCALE[0], _SHIFT[0])  # (K, 1)
        self._sign = np.sign(tilts)
        self._beyond = np.abs(tilts) - self._margin
        k = len(components.all)
        self._shapes = [(k,)] * 8 + [tilts.shape] * 2
        self._order = np.argsort(components.feature, kind="stable")
        sorted_features = components.feature[self._order]
        self._first = np.flatnonzero(np.diff(sorted_features, prepend=-1))
        self._members = np.diff(self._first, append=k)
        # Two windows may suffice for an alarm, one never does.
        self._cap = (settings.threshold + math.log(self._members.max() * tilts.shape[1])) / 2

    def start(self) -> DetectorState:
        """Return the state of a device that was never seen."""
        arrays = _Arrays(*(np.zeros(shape) for shape in self._shapes))
        arrays.log_m[:] = _FLOOR
        return DetectorState(
            profile_id=self.layout.profile_id,
            windows=0,
            start_ms=0,
            at_ms=0,
            arrays=_packed(arrays),
        )

    def observe(self, window: Window) -> Observation:
        """Reduce a window to what is tested. Raises `ProfileError` for another layout's."""
        require_fit(window, self.layout)
        values, variances = self.components.values(window)
        return Observation(
            profile_id=window.profile_id,
            at_ms=window.start_ms,
            values=values.astype("<f8").tobytes(),
            variances=variances.astype("<f8").tobytes(),
        )

    def advance(self, state: DetectorState, observation: Observation) -> DetectorState:
        """Return the state after one more window.

        Pure. A window that does not start after the newest one observed changes nothing: its
        counts are in the aggregates, but the order of a test cannot be rewritten.

        Raises:
            ProfileError: state or observation belong to another layout.
        """
        arrays = self._arrays(state)
        if observation.profile_id != self.layout.profile_id:
            raise ProfileError(
                "an observation belongs to another profile than the detector",
                code="profile.mismatch",
            )
        if state.windows and observation.at_ms <= state.at_ms:
            return state
        start_ms = state.start_ms if state.windows else observation.at_ms
        x = np.frombuffer(observation.values, "<f8")
        variance = np.frombuffer(observation.variances, "<f8")
        known = np.isfinite(x)
        x, variance = np.where(known, x, 0.0), np.where(known, variance, 0.0)
        if state.windows < self.settings.warmup:
            _learn(arrays, x, variance, known)
            if state.windows + 1 == self.settings.warmup:
                arrays = _settled(arrays)
        else:
            hours = (observation.at_ms - start_ms) / _HOUR_MS
            self._test(arrays, x, variance, known, hours)
        return DetectorState(
            profile_id=state.profile_id,
            windows=state.windows + 1,
            start_ms=start_ms,
            at_ms=observation.at_ms,
            arrays=_packed(arrays),
        )

    def evidence(self, state: DetectorState) -> tuple[Evidence, ...]:
        """Return what ``state`` says of every feature. Raises `ProfileError` for another layout's."""
        arrays = self._arrays(state)
        threshold = self.settings.threshold
        warming = state.windows < self.settings.warmup
        log_e = self._log_e(arrays.log_m)
        best = arrays.log_m.max(axis=1)
        found = []
        for index, feature in enumerate(self.layout.features):
            members = np.flatnonzero(self.components.feature == index)
            lead = int(members[best[members].argmax()])
            began = float(arrays.began[lead, int(arrays.log_m[lead].argmax())])
            speaks = not warming and float(best[lead]) > 0
            found.append(
                Evidence(
                    feature=feature.name,
                    log_e=float(log_e[index]),
                    threshold=threshold,
                    alarm=not warming and bool(log_e[index] >= threshold),
                    since_ms=state.start_ms + round(began * _HOUR_MS) if speaks else None,
                    warming=warming,
                    component=self.components.all[lead].name,
                    shift=0.0 if warming else float(arrays.recent[lead]),
                )
            )
        return tuple(found)

    def _test(
        self,
        arrays: _Arrays,
        x: Floats,
        variance: Floats,
        known: NDArray[np.bool_],
        hours: float,
    ) -> None:
        """Add one window to the sums, in place."""
        deviation = x - arrays.mean
        spread = arrays.spread + variance
        # g = ((y − μ₀)² − (y − δ)²) / 2v = (y − μ₀ − (δ − μ₀) / 2) (δ − μ₀) / v, y = ± deviation
        margin = self._margin + arrays.doubt[:, np.newaxis]
        past = deviation[:, np.newaxis] * self._sign - margin
        log_ratio = (past - self._beyond / 2) * self._beyond / spread[:, np.newaxis]
        np.minimum(log_ratio, self._cap, out=log_ratio)
        rows = known[:, np.newaxis]
        grown = np.logaddexp(0.0, arrays.log_m)
        newest = np.exp(-grown)  # the share of this window's own start in the sum
        np.add(arrays.began, (hours - arrays.began) * newest, out=arrays.began, where=rows)
        np.maximum(grown + log_ratio, _FLOOR, out=arrays.log_m, where=rows)
        np.add(arrays.recent, (deviation - arrays.recent) * 0.4, out=arrays.recent, where=known)

    def _log_e(self, log_m: Floats) -> Floats:
        """Return (F,): the logarithm of the mean over each feature's components and tilts."""
        per_component = np.logaddexp.reduce(log_m, axis=1)[self._order]
        per_feature: Floats = np.logaddexp.reduceat(per_component, self._first)
        weights: Floats = np.log(self._members * log_m.shape[1])
        return per_feature - weights

    def _arrays(self, state: DetectorState) -> _Arrays:
        sizes = [math.prod(shape) for shape in self._shapes]
        if state.profile_id != self.layout.profile_id or len(state.arrays) != 4 * sum(sizes):
            raise ProfileError(
                f"a detector's state of profile {state.profile_id[:12]}… does not fit profile "
                f"{self.layout.profile_id[:12]}…",
                hint="start a new state for every bundle version",
                code="profile.mismatch",
            )
        flat_ = np.frombuffer(state.arrays, "<f4").astype(np.float64)
        pieces = np.split(flat_, np.cumsum(sizes)[:-1])
        return _Arrays(
            *(piece.reshape(shape) for piece, shape in zip(pieces, self._shapes, strict=True))
        )


def _learn(arrays: _Arrays, x: Floats, variance: Floats, known: NDArray[np.bool_]) -> None:
    """Add one warm-up window, in place (Welford; the lag product about the running mean)."""
    arrays.seen[known] += 1
    seen = np.maximum(arrays.seen, 1)
    before = np.where(known, x - arrays.mean, 0.0)
    arrays.mean[:] += before / seen
    after = np.where(known, x - arrays.mean, 0.0)
    arrays.spread[:] += before * after
    again = known & (arrays.seen > 1)
    arrays.lagged[:] += np.where(again, after * (arrays.last - arrays.mean), 0.0)
    arrays.last[:] = np.where(known, x, arrays.last)
    arrays.sampling[:] += variance


def _settled(arrays: _Arrays) -> _Arrays:
    """Return the arrays with the stream's own mean, and variance between windows, in place of sums."""
    seen = np.maximum(arrays.seen, 1)
    free = np.maximum(seen - 1, 0)
    sampling = arrays.sampling / seen
    observed = arrays.spread / np.maximum(free, 1)
    between = (_WINDOW_SD_WORTH * _WINDOW_SD**2 + free * np.maximum(observed - sampling, 0.0)) / (
        _WINDOW_SD_WORTH + free
    )
    correlation = np.clip(
        arrays.lagged / np.maximum(free, 1) / between + 1 / seen, 0.0, _MAX_CORRELATION
    )
    long_run = between * (1 + correlation) / (1 - correlation) * (1 + 2 / np.sqrt(seen))
    error = (long_run + sampling) / seen
    weight = _DEVICE_SD**2 / (_DEVICE_SD**2 + error)
    return arrays._replace(
        mean=arrays.mean * weight, spread=long_run, doubt=np.sqrt(weight * error)
    )


def _packed(arrays: _Arrays) -> bytes:
    return np.concatenate([array.ravel() for array in arrays]).astype("<f4").tobytes()
