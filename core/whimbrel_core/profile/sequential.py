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
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from whimbrel_core.errors import ProfileError
from whimbrel_core.profile.components import Components
from whimbrel_core.profile.distances import stacked
from whimbrel_core.profile.flat import flatten

if TYPE_CHECKING:
    from collections.abc import Sequence

    from whimbrel_core.profile.baseline import Baseline
    from whimbrel_core.profile.window import Window

Floats = NDArray[np.float64]
Counts = NDArray[np.int64]
Flags = NDArray[np.bool_]

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
NEVER = -(1 << 62)  # a time that is none


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


class Streams(NamedTuple):
    """The states of D devices side by side, for `Detector.advance_all`."""

    windows: Counts  # (D,)
    start_ms: Counts  # (D,)
    at_ms: Counts  # (D,)
    numbers: NDArray[np.float32]  # (D, S) everything of `_Arrays`, one after the other

    def take(self, rows: NDArray[np.intp]) -> Streams:
        """Return a copy of some devices' states."""
        return Streams(
            self.windows[rows], self.start_ms[rows], self.at_ms[rows], self.numbers[rows]
        )

    def put(self, rows: NDArray[np.intp], streams: Streams) -> None:
        """Replace some devices' states, in place."""
        self.windows[rows] = streams.windows
        self.start_ms[rows] = streams.start_ms
        self.at_ms[rows] = streams.at_ms
        self.numbers[rows] = streams.numbers


class Proofs(NamedTuple):
    """What a detector says of D devices, as arrays (D, F): see `Evidence`."""

    log_e: Floats
    alarm: Flags
    since_ms: Counts  # NEVER while nothing speaks for a change
    component: Counts  # index into `Components.all`
    shift: Floats


class _Arrays(NamedTuple):
    """The numbers of D states, float64."""

    seen: Floats  # (D, K) warm-up windows in which the component was known
    mean: Floats  # (D, K) their mean, then the stream's own baseline
    spread: Floats  # (D, K) their Σ (x − mean)², then the variance between windows
    lagged: Floats  # (D, K) their Σ of products of neighbours' deviations
    last: Floats  # (D, K) newest deviation from the mean
    sampling: Floats  # (D, K) Σ of their sampling variances
    doubt: Floats  # (D, K) after the warm-up: standard error of the stream's own baseline
    recent: Floats  # (D, K) exponential mean of deviations, about the last four windows
    log_m: Floats  # (D, K, T) logarithm of the Shiryaev–Roberts sums
    began: Floats  # (D, K, T) mean time of change that each sum speaks for, hours since start_ms


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
        self._splits = np.cumsum([math.prod(shape) for shape in self._shapes])
        self._order = np.argsort(components.feature, kind="stable")
        sorted_features = components.feature[self._order]
        self._first = np.flatnonzero(np.diff(sorted_features, prepend=-1))
        self._members = np.diff(self._first, append=k)
        # (F, most) components of each feature, the first one again where it has fewer.
        places = np.arange(self._members.max())
        places = np.where(places < self._members[:, np.newaxis], places, 0)
        self._table = self._order[self._first[:, np.newaxis] + places]
        # Two windows may suffice for an alarm, one never does.
        self._cap = (settings.threshold + math.log(self._members.max() * tilts.shape[1])) / 2

    def start(self) -> DetectorState:
        """Return the state of a device that was never seen."""
        numbers = np.zeros((1, int(self._splits[-1])), np.float32)
        self._split(numbers).log_m[:] = _FLOOR
        never = np.zeros(1, np.int64)
        return self.unstack(Streams(never, never, never, numbers))[0]

    def observe(self, window: Window) -> Observation:
        """Reduce a window to what is tested. Raises `ProfileError` for another layout's."""
        values, variances = self.components.values(*stacked([flatten(window)], self.layout))
        return Observation(
            profile_id=window.profile_id,
            at_ms=window.start_ms,
            values=values.astype("<f8").tobytes(),
            variances=variances.astype("<f8").tobytes(),
        )

    def stack(self, states: Sequence[DetectorState]) -> Streams:
        """Return ``states`` side by side. Raises `ProfileError` for another layout's."""
        size = int(self._splits[-1])
        for state in states:
            if state.profile_id != self.layout.profile_id or len(state.arrays) != 4 * size:
                raise ProfileError(
                    f"a detector's state of profile {state.profile_id[:12]}… does not fit profile "
                    f"{self.layout.profile_id[:12]}…",
                    hint="start a new state for every bundle version",
                    code="profile.mismatch",
                )
        numbers = np.frombuffer(bytearray().join(state.arrays for state in states), "<f4")
        return Streams(
            np.array([state.windows for state in states], np.int64),
            np.array([state.start_ms for state in states], np.int64),
            np.array([state.at_ms for state in states], np.int64),
            numbers.reshape(len(states), size),
        )

    def unstack(self, streams: Streams) -> list[DetectorState]:
        """Return the state of every device."""
        return [
            DetectorState(
                profile_id=self.layout.profile_id,
                windows=windows,
                start_ms=start_ms,
                at_ms=at_ms,
                arrays=numbers.tobytes(),
            )
            for windows, start_ms, at_ms, numbers in zip(
                streams.windows.tolist(),
                streams.start_ms.tolist(),
                streams.at_ms.tolist(),
                streams.numbers.astype("<f4", copy=False),
                strict=True,
            )
        ]

    def advance(self, state: DetectorState, observation: Observation) -> DetectorState:
        """Return the state after one more window.

        Pure. A window that does not start after the newest one observed changes nothing: its
        counts are in the aggregates, but the order of a test cannot be rewritten.

        Raises:
            ProfileError: state or observation belong to another layout.
        """
        if observation.profile_id != self.layout.profile_id:
            raise ProfileError(
                "an observation belongs to another profile than the detector",
                code="profile.mismatch",
            )
        streams = self.advance_all(
            self.stack([state]),
            np.array([observation.at_ms], np.int64),
            np.frombuffer(observation.values, "<f8")[np.newaxis],
            np.frombuffer(observation.variances, "<f8")[np.newaxis],
        )
        return self.unstack(streams)[0]

    def advance_all(
        self, streams: Streams, at_ms: Counts, values: Floats, variances: Floats
    ) -> Streams:
        """Return the states of D devices after one more window of each: `advance`, at once.

        The same bits as one by one: numbers are rounded to float32 after every window.

        Args:
            streams: the states.
            at_ms: (D,) starts of the windows.
            values: (D, K) their components; NaN where too few rows tell.
            variances: (D, K) their sampling variances.
        """
        fresh = (streams.windows == 0) | (at_ms > streams.at_ms)
        learning = streams.windows < self.settings.warmup
        start_ms = np.where(streams.windows > 0, streams.start_ms, at_ms)
        known = np.isfinite(values)
        values, variances = np.where(known, values, 0.0), np.where(known, variances, 0.0)
        numbers = streams.numbers.copy()
        for chosen, learns in ((fresh & learning, True), (fresh & ~learning, False)):
            rows = np.flatnonzero(chosen)
            if not len(rows):
                continue
            flat = numbers[rows].astype(np.float64)
            arrays = self._split(flat)
            seen = (values[rows], variances[rows], known[rows])
            if learns:
                _learn(arrays, *seen)
                _settle(arrays, np.flatnonzero(streams.windows[rows] + 1 == self.settings.warmup))
            else:
                self._test(arrays, *seen, (at_ms[rows] - start_ms[rows]) / _HOUR_MS)
            numbers[rows] = flat
        return Streams(
            streams.windows + fresh,
            np.where(fresh, start_ms, streams.start_ms),
            np.where(fresh, at_ms, streams.at_ms),
            numbers,
        )

    def evidence(self, state: DetectorState) -> tuple[Evidence, ...]:
        """Return what ``state`` says of every feature. Raises `ProfileError` for another layout's."""
        proofs = self.proofs(self.stack([state]))
        log_e, alarm, since_ms, component, shift = (array[0].tolist() for array in proofs)
        return tuple(
            Evidence(
                feature=feature.name,
                log_e=log_e[index],
                threshold=self.settings.threshold,
                alarm=alarm[index],
                since_ms=None if since_ms[index] == NEVER else since_ms[index],
                warming=state.windows < self.settings.warmup,
                component=self.components.all[component[index]].name,
                shift=shift[index],
            )
            for index, feature in enumerate(self.layout.features)
        )

    def proofs(self, streams: Streams) -> Proofs:
        """Return what the states of D devices say of every feature: `evidence`, at once."""
        arrays = self._split(streams.numbers.astype(np.float64))
        warmed = (streams.windows >= self.settings.warmup)[:, np.newaxis]
        log_e = self._log_e(arrays.log_m)
        tilt = arrays.log_m.argmax(axis=-1)[..., np.newaxis]  # (D, K, 1)
        best = np.take_along_axis(arrays.log_m, tilt, axis=-1)[..., 0]  # (D, K)
        began = np.take_along_axis(arrays.began, tilt, axis=-1)[..., 0]
        places = best[:, self._table].argmax(axis=-1)  # (D, F)
        lead = self._table[np.arange(len(self._table)), places]
        hours = np.take_along_axis(began, lead, axis=-1)
        since = streams.start_ms[:, np.newaxis] + np.rint(hours * _HOUR_MS).astype(np.int64)
        speaks = warmed & (np.take_along_axis(best, lead, axis=-1) > 0)
        return Proofs(
            log_e,
            warmed & (log_e >= self.settings.threshold),
            np.where(speaks, since, NEVER),
            lead,
            np.where(warmed, np.take_along_axis(arrays.recent, lead, axis=-1), 0.0),
        )

    def _test(
        self, arrays: _Arrays, x: Floats, variance: Floats, known: Flags, hours: Floats
    ) -> None:
        """Add one window of each device to the sums, in place; ``hours`` (D,) since its first."""
        deviation = x - arrays.mean
        spread = arrays.spread + variance
        # g = ((y − μ₀)² − (y − δ)²) / 2v = (y − μ₀ − (δ − μ₀) / 2) (δ − μ₀) / v, y = ± deviation
        margin = self._margin + arrays.doubt[..., np.newaxis]
        past = deviation[..., np.newaxis] * self._sign - margin
        log_ratio = (past - self._beyond / 2) * self._beyond / spread[..., np.newaxis]
        np.minimum(log_ratio, self._cap, out=log_ratio)
        rows = known[..., np.newaxis]
        grown = np.logaddexp(0.0, arrays.log_m)
        newest = np.exp(-grown)  # the share of this window's own start in the sum
        age = hours[:, np.newaxis, np.newaxis] - arrays.began
        np.add(arrays.began, age * newest, out=arrays.began, where=rows)
        np.maximum(grown + log_ratio, _FLOOR, out=arrays.log_m, where=rows)
        np.add(arrays.recent, (deviation - arrays.recent) * 0.4, out=arrays.recent, where=known)

    def _log_e(self, log_m: Floats) -> Floats:
        """Return (D, F): the logarithm of the mean over each feature's components and tilts."""
        per_component = np.logaddexp.reduce(log_m, axis=-1)[:, self._order]
        per_feature: Floats = np.logaddexp.reduceat(per_component, self._first, axis=-1)
        weights: Floats = np.log(self._members * log_m.shape[-1])
        return per_feature - weights

    def _split(self, numbers: NDArray[Any]) -> _Arrays:
        """Return views into ``numbers`` (D, S)."""
        ends: list[int] = self._splits.tolist()
        return _Arrays(
            *(
                numbers[:, start:end].reshape(len(numbers), *shape)
                for start, end, shape in zip([0, *ends], ends, self._shapes, strict=False)
            )
        )


def _learn(arrays: _Arrays, x: Floats, variance: Floats, known: Flags) -> None:
    """Add a warm-up window of each device, in place (Welford; the lag product about the mean)."""
    arrays.seen[:] += known
    seen = np.maximum(arrays.seen, 1)
    before = np.where(known, x - arrays.mean, 0.0)
    arrays.mean[:] += before / seen
    after = np.where(known, x - arrays.mean, 0.0)
    arrays.spread[:] += before * after
    again = known & (arrays.seen > 1)
    arrays.lagged[:] += np.where(again, after * (arrays.last - arrays.mean), 0.0)
    arrays.last[:] = np.where(known, x, arrays.last)
    arrays.sampling[:] += variance


def _settle(arrays: _Arrays, rows: NDArray[np.intp]) -> None:
    """Put the streams' own mean, and variance between windows, in place of sums, for ``rows``."""
    if not len(rows):
        return
    seen = np.maximum(arrays.seen[rows], 1)
    free = np.maximum(seen - 1, 0)
    sampling = arrays.sampling[rows] / seen
    observed = arrays.spread[rows] / np.maximum(free, 1)
    between = (_WINDOW_SD_WORTH * _WINDOW_SD**2 + free * np.maximum(observed - sampling, 0.0)) / (
        _WINDOW_SD_WORTH + free
    )
    lagged = arrays.lagged[rows] / np.maximum(free, 1) / between
    correlation = np.clip(lagged + 1 / seen, 0.0, _MAX_CORRELATION)
    long_run = between * (1 + correlation) / (1 - correlation) * (1 + 2 / np.sqrt(seen))
    error = (long_run + sampling) / seen
    weight = _DEVICE_SD**2 / (_DEVICE_SD**2 + error)
    arrays.mean[rows] *= weight
    arrays.spread[rows] = long_run
    arrays.doubt[rows] = np.sqrt(weight * error)
