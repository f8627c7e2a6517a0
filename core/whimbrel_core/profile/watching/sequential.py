"""Watch a stream of windows for a lasting change: a Shiryaev–Roberts e-detector.

A device differs from the fleet and from the reference, and its windows vary more than their rows
explain, and hang together. So each stream is compared with its own beginning: the first windows
(``warmup``) teach its mean, the variance between its windows and their correlation (`warmup`).
Then every window multiplies, for each component of a feature (`components`), a few sums of
likelihood ratios of "something has changed" against "nothing has, but for less than a margin"
(`ratios`). The e-detector of a feature is the average of its sums.

If a ratio has expectation 1 at most whatever the shift below the margin, a sum grows by 1 a window
at most on average until something changes, and an alarm at M ≥ streams × ARL comes, without change,
no more often than once in ARL windows over all streams, however they depend on each other. (Shin,
Ramdas, Rinaldo: "E-detectors: a nonparametric framework for sequential change detection", 2023.)

How well that holds, and what is found how soon, is measured by ``benchmarks/false_alarms.py``.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import msgspec
import numpy as np
from numpy.typing import NDArray

from whimbrel_core.errors import ProfileError
from whimbrel_core.profile.drift.stacking import stacked
from whimbrel_core.profile.flat import flatten
from whimbrel_core.profile.watching.components import Components
from whimbrel_core.profile.watching.evidence import NEVER, Evidence, Proofs
from whimbrel_core.profile.watching.ratios import SUMS, Limits, Sizes, step
from whimbrel_core.profile.watching.streams import Numbers, Sight, Streams, Times
from whimbrel_core.profile.watching.warmup import learn, settle

if TYPE_CHECKING:
    from collections.abc import Sequence

    from whimbrel_core.profile.baseline import Baseline
    from whimbrel_core.profile.window import Window

Floats = NDArray[np.float64]
Counts = NDArray[np.int64]

# Margin, tilt and jump: in standard deviations of rows; of scales, in logarithms of the sd.
_SIZES = (0.05, 0.3, 0.5)
_SCALE_SIZES = (0.04, 0.2, 0.4)
_HOUR_MS = 3_600_000.0
_NOTHING = 1e-17  # an e-value that says nothing: of a stream that is still being learnt


class DetectorSettings(msgspec.Struct, frozen=True, kw_only=True):
    """How often an alarm may be false, and from how much history it is judged.

    Args:
        streams: device × feature streams that share the false-alarm budget.
        arl_windows: mean number of windows between false alarms of the whole fleet (30 days).
        warmup: windows from which a stream's own baseline is learnt.
        period_s: usual time from one window to the next; 0: unknown, windows follow each other.
            After a longer one a device has wandered farther.
    """

    streams: int = 1
    arl_windows: int = 720
    warmup: int = 48
    period_s: int = 0

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
        sizes = np.where(components.is_scale, *np.array([_SCALE_SIZES, _SIZES])[:, :, np.newaxis])
        self._sizes = Sizes(*sizes)
        k = len(components.all)
        self._size = len(Numbers._fields) * k
        self._order = np.argsort(components.feature, kind="stable")
        sorted_features = components.feature[self._order]
        self._first = np.flatnonzero(np.diff(sorted_features, prepend=-1))
        self._members = np.diff(self._first, append=k)
        # (F, most) components of each feature, the first one again where it has fewer.
        places = np.arange(self._members.max())
        places = np.where(places < self._members[:, np.newaxis], places, 0)
        self._table = self._order[self._first[:, np.newaxis] + places]
        self._limits = Limits.of(settings.threshold, int(self._members.max()) * SUMS)

    def start(self) -> DetectorState:
        """Return the state of a device that was never seen."""
        never = np.zeros(1, np.int64)
        return self.unstack(Streams(never, never, never, np.zeros((1, self._size), np.float32)))[0]

    def observe(self, window: Window) -> Observation:
        """Reduce a window to what is tested. Raises `ProfileError` for another layout's."""
        values, variances = self.components.values(*stacked([flatten(window)], self.layout))
        return Observation(
            profile_id=window.profile_id,
            at_ms=window.start_ms,
            values=values.astype("<f8").tobytes(),
            variances=variances.astype("<f8").tobytes(),
        )

    def fits(self, state: DetectorState) -> bool:
        """Return whether ``state`` is of this layout, and of this form."""
        same = state.profile_id == self.layout.profile_id
        return same and len(state.arrays) == 4 * self._size

    def stack(self, states: Sequence[DetectorState]) -> Streams:
        """Return ``states`` side by side. Raises `ProfileError` for another layout's."""
        size = self._size
        for state in states:
            if not self.fits(state):
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
            sight = Sight(values[rows], variances[rows], known[rows])
            if learns:
                before = Numbers.of(numbers[rows])
                learn(before, sight)
                numbers[rows] = before.packed()
                learnt = rows[streams.windows[rows] + 1 == self.settings.warmup]
                if len(learnt):
                    settled = settle(Numbers.of(numbers[learnt]), self.components.sorts)
                    numbers[learnt] = settled.packed()
            else:
                times = Times(
                    (at_ms[rows] - start_ms[rows]) / _HOUR_MS,
                    self._periods(at_ms[rows] - streams.at_ms[rows]),
                )
                before = Numbers.of(numbers[rows])
                numbers[rows] = step(before, self._sizes, self._limits, sight, times).packed()
        return Streams(
            streams.windows + fresh,
            np.where(fresh, start_ms, streams.start_ms),
            np.where(fresh, at_ms, streams.at_ms),
            numbers,
        )

    def _periods(self, elapsed_ms: Counts) -> Floats:
        """Return how many usual periods have passed, 1 at least."""
        if not self.settings.period_s:
            return np.ones(len(elapsed_ms))
        periods: Floats = np.rint(elapsed_ms / (1000 * self.settings.period_s))
        return np.maximum(periods, 1.0)

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
        numbers = Numbers.of(streams.numbers)
        warmed = (streams.windows >= self.settings.warmup)[:, np.newaxis]
        sums = np.where(warmed, numbers.up + numbers.down + numbers.jump, 0.0)  # (D, K)
        shared = np.add.reduceat(sums[:, self._order], self._first, axis=-1)
        log_e = np.log(np.maximum(shared / (self._members * SUMS), _NOTHING))
        places = sums[:, self._table].argmax(axis=-1)  # (D, F)
        lead = self._table[np.arange(len(self._table)), places]
        hours = np.take_along_axis(numbers.began, lead, axis=-1)
        since = streams.start_ms[:, np.newaxis] + np.rint(hours * _HOUR_MS).astype(np.int64)
        speaks = np.take_along_axis(sums, lead, axis=-1) > SUMS
        return Proofs(
            log_e,
            log_e >= self.settings.threshold,
            np.where(speaks, since, NEVER),
            lead,
            np.where(warmed, np.take_along_axis(numbers.level, lead, axis=-1), 0.0),
        )
