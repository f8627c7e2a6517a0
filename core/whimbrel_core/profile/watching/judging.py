"""Judging the windows of devices that serve one version, many at once.

The rules are those of `whimbrel_core.profile.watching.alarms`; here they are arrays: distances of N windows
(N, F), and for the states that hang on the order of a device's windows, rounds over D devices.
One window by itself takes the same way, with N and D = 1, and gives the same bits.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from whimbrel_core.profile.drift.drifts import Drifts, FeatureDrift
from whimbrel_core.profile.drift.judge import Judge
from whimbrel_core.profile.drift.stacking import extent, stacked
from whimbrel_core.profile.flat import FlatWindow, flatten
from whimbrel_core.profile.watching.alarms import (
    ALARM,
    MARKS,
    NOTICE,
    STATES,
    WARN,
    Judged,
    Policy,
    Position,
    Shown,
    SubjectState,
)
from whimbrel_core.profile.watching.evidence import NEVER, Proofs
from whimbrel_core.profile.watching.sequential import Detector, Observation

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from whimbrel_core.profile.baseline import Baseline
    from whimbrel_core.profile.window import Window

Floats = NDArray[np.float64]
Counts = NDArray[np.int64]
Flags = NDArray[np.bool_]
# Windows that are judged together. Arrays of more leave the processor's cache, and take longer.
_AT_ONCE = 32


class Seen(NamedTuple):
    """N windows as far as the state of their devices depends on them."""

    positions: Sequence[Position]
    levels: Counts  # (N, F) index into LEVELS; −1: too few rows
    observed: Flags  # (N,) whether the detector takes the window
    values: Floats  # (N, K)
    variances: Floats  # (N, K)


class Told(NamedTuple):
    """What is shown of N windows beside their distances, as arrays (N, F): see `Shown`."""

    levels: Counts
    log_e: Floats
    alarms: Flags
    since_ms: Counts  # NEVER: no alarm
    components: Counts  # index into `DeviceJudge.components`
    shifts: Floats  # by how much that component differs from the device's own beginning


class Turn(NamedTuple):
    """A window with which some alarm of its device began, changed or ended."""

    device: int
    window: int
    before: SubjectState
    after: SubjectState


class DeviceJudge:
    """Judges the windows of devices that serve one version. Holds no state of any device."""

    def __init__(self, baseline: Baseline, policy: Policy) -> None:
        self.baseline = baseline
        self.policy = policy
        self._judge = Judge(baseline, thresholds=policy.thresholds)
        self._detector = Detector(baseline, policy.detector)
        self.components = tuple(one.name for one in self._detector.components.all)
        self.threshold = policy.detector.threshold

    def start(self) -> SubjectState:
        """Return the state of a device that sent nothing yet."""
        marks = np.tile(np.array([-1, 0, 0, -1, NEVER], "<i8"), len(self.baseline.layout.features))
        return SubjectState(Position(), self._detector.start(), marks.tobytes())

    def proofs(self, states: Sequence[SubjectState]) -> Proofs:
        """Return what the detector says of D devices in these states, as arrays (D, F)."""
        return self._detector.proofs(self._detector.stack([state.detector for state in states]))

    def fits(self, state: SubjectState) -> bool:
        """Return whether ``state`` can be carried on by this judge."""
        marks = 8 * MARKS * len(self.baseline.layout.features)
        return len(state.marks) == marks and self._detector.fits(state.detector)

    def judge(self, window: Window, position: Position) -> Judged:
        """Return what ``window`` says by itself."""
        drifts, seen = self.judge_all([flatten(window)], [position])
        observation = None
        if seen.observed[0]:
            observation = Observation(
                profile_id=window.profile_id,
                at_ms=position.start_ms,
                values=seen.values[0].tobytes(),
                variances=seen.variances[0].tobytes(),
            )
        drift = self._judge.named(Drifts(*(array[0] for array in drifts)))
        return Judged(position, window.end_ms, window.rows, drift, observation)

    def judge_all(
        self,
        windows: Sequence[FlatWindow],
        positions: Sequence[Position],
        merged: Sequence[int] = (),
    ) -> tuple[Drifts, Seen]:
        """Return what each of N windows says by itself.

        Args:
            windows: one at least.
            positions: where each stands in its device's history.
            merged: how many windows each is the sum of; none: one.

        Raises:
            ProfileError: a window belongs to another layout.
        """
        parts = [
            self._judge_some(windows[start : start + _AT_ONCE], merged[start : start + _AT_ONCE])
            for start in range(0, len(windows), _AT_ONCE)
        ]
        drifts = Drifts(*map(np.concatenate, zip(*(part[0] for part in parts), strict=True)))
        enough, values, variances = map(
            np.concatenate, zip(*(part[1:] for part in parts), strict=True)
        )
        return drifts, Seen(positions, drifts.level, enough, values, variances)

    def _judge_some(
        self, windows: Sequence[FlatWindow], merged: Sequence[int]
    ) -> tuple[Drifts, Flags, Floats, Floats]:
        cells, invalid, rows = stacked(windows, self.baseline.layout)
        many = np.array(merged, np.int64) if merged else None
        drifts = self._judge.measure(cells, invalid, rows, extent(windows), many)
        values, variances = self._detector.components.values(cells, invalid, rows)
        return drifts, rows >= self.policy.thresholds.min_rows, values, variances

    def advance(
        self, state: SubjectState, judged: Judged
    ) -> tuple[SubjectState, tuple[Shown, ...]]:
        """Return the state after a window, and what is shown of the window.

        The window must be newer than ``state.newest``; for an older one, `replay` the history.
        """
        (after,), told, _ = self.advance_all([state], self._seen([judged]), [[0]])
        return after, self.shown(judged.drift, told, 0)

    def replay(
        self, history: Iterable[Judged]
    ) -> tuple[SubjectState, list[tuple[Judged, tuple[Shown, ...]]]]:
        """Return the state after ``history`` in the order of event time, and all that is shown."""
        ordered = sorted(history, key=lambda one: one.position)
        (state,), told, _ = self.advance_all(
            [self.start()], self._seen(ordered), [list(range(len(ordered)))]
        )
        return state, [
            (judged, self.shown(judged.drift, told, n)) for n, judged in enumerate(ordered)
        ]

    def advance_all(
        self, states: Sequence[SubjectState], seen: Seen, queues: Sequence[Sequence[int]]
    ) -> tuple[list[SubjectState], Told, list[Turn]]:
        """Return the states of D devices after their windows, what is shown, and where alarms turn.

        The same as one window after the other, but in rounds: the first window of every device,
        then the second of those that have one, and so on.

        Args:
            states: of the devices.
            seen: N windows.
            queues: for each device its windows, indices into ``seen``, in the order of time, each
                newer than its state. Windows in no queue have nothing to show.
        """
        shape = seen.levels.shape
        told = Told(
            np.full(shape, -1), np.zeros(shape), np.zeros(shape, bool),
            np.full(shape, NEVER), np.zeros(shape, np.int64), np.zeros(shape),
        )  # fmt: skip
        newest = [state.newest for state in states]
        streams = self._detector.stack([state.detector for state in states])
        marks = np.frombuffer(b"".join(state.marks for state in states), "<i8")
        marks = marks.reshape(len(states), shape[1], MARKS).copy()
        turns: list[Turn] = []
        starts = np.array([position.start_ms for position in seen.positions], np.int64)
        for turn in range(max(map(len, queues), default=0)):
            devices = np.array([d for d, queue in enumerate(queues) if turn < len(queue)])
            windows = np.array([queues[d][turn] for d in devices])
            before = streams.take(devices)
            after = self._detector.advance_all(
                before, starts[windows], seen.values[windows], seen.variances[windows]
            )
            few = np.flatnonzero(~seen.observed[windows])
            after.put(few, before.take(few))
            streams.put(devices, after)
            proofs = self._detector.proofs(after)
            was, now = marks[devices], self._marked(marks[devices], seen.levels[windows], proofs)
            marks[devices] = now
            level, alarm = now[..., 0], now[..., ALARM] >= 0
            told.levels[windows] = self.told(level, alarm)
            told.log_e[windows] = proofs.log_e
            told.alarms[windows] = alarm
            told.since_ms[windows] = now[..., 4]
            told.components[windows] = proofs.component
            told.shifts[windows] = proofs.shift
            for i in np.flatnonzero((was[..., ALARM] != now[..., ALARM]).any(axis=-1)).tolist():
                d, n = int(devices[i]), int(windows[i])
                states_then = (
                    msgspec.structs.replace(states[d], marks=some[i].astype("<i8").tobytes())
                    for some in (was, now)
                )
                turns.append(Turn(d, n, *states_then))
        for d, queue in enumerate(queues):
            if queue:
                newest[d] = seen.positions[queue[-1]]
        found = [
            SubjectState(position, detector, one.tobytes())
            for position, detector, one in zip(
                newest, self._detector.unstack(streams), marks, strict=True
            )
        ]
        return found, told, turns

    @staticmethod
    def told(levels: Counts, evidence: Flags) -> Counts:
        """Return which levels people are told, as `whimbrel_core.profile.watching.alarms.told`."""
        found: Counts = np.where(evidence | (levels < WARN), levels, NOTICE)
        return found

    def shown(self, drifts: tuple[FeatureDrift, ...], told: Told, n: int) -> tuple[Shown, ...]:
        """Return what is shown of window ``n``, whose distances are ``drifts``."""
        columns = [array[n].tolist() for array in told]
        return tuple(
            Shown(
                drift,
                STATES[level + 1],
                log_e,
                self.threshold,
                alarm,
                None if since_ms == NEVER else since_ms,
                self.components[component],
                shift,
            )
            for drift, level, log_e, alarm, since_ms, component, shift in zip(
                drifts, *columns, strict=True
            )
        )

    def _seen(self, history: Sequence[Judged]) -> Seen:
        k = len(self.components)
        features = len(self.baseline.layout.features)
        levels = [[STATES.index(drift.state) - 1 for drift in one.drift] for one in history]
        values, variances = np.full((2, len(history), k), np.nan)
        for n, one in enumerate(history):
            if one.observation is not None:
                values[n] = np.frombuffer(one.observation.values, "<f8")
                variances[n] = np.frombuffer(one.observation.variances, "<f8")
        return Seen(
            [one.position for one in history],
            np.array(levels, np.int64).reshape(-1, features),
            np.array([one.observation is not None for one in history], bool),
            values,
            variances,
        )

    def _marked(self, marks: Counts, judged: Counts, proofs: Proofs) -> Counts:
        """Return the marks (D, F, 5) after windows that were ``judged`` (D, F)."""
        held, calm, strong, alarm, since = np.moveaxis(marks, -1, 0)
        # Where something speaks for a change, the change itself may be the greater effect: a device
        # that began on one side of the reference can move far, and be as far on the other.
        own = self._detector.components.levels(
            proofs.component, proofs.shift, self.policy.thresholds
        )
        speaks = proofs.since_ms != NEVER
        # An alarm that stands is not over at the first window that speaks a little against it.
        evident = proofs.alarm | ((alarm >= 0) & (proofs.log_e >= self.threshold / 2))
        apart, judged = judged, np.where(evident, np.maximum(judged, own), judged)
        # As `whimbrel_core.profile.drift.levels.settle`: up at once, down after some calm windows.
        moves = (held < 0) | (judged >= held) | (calm + 1 >= self.policy.calm_windows)
        level = np.where(moves, judged, held)
        lasting = np.where(speaks & (np.maximum(level, own) >= WARN), strong + 1, 0)
        lasts = (alarm >= 0) | (lasting >= self.policy.confirm_windows)
        due = evident & lasts & (level >= WARN)
        # An alarm begins with a change that is one, not with a device that was always far off.
        severity = np.where(due & ((alarm >= 0) | (own >= NOTICE)), level, -1)
        began = np.where(alarm >= 0, since, proofs.since_ms)
        after = np.stack(
            [
                level,
                np.where(moves, 0, calm + 1),
                lasting,
                severity,
                np.where(severity >= 0, began, NEVER),
            ],
            axis=-1,
        )
        # Too few rows say nothing and change nothing.
        found: Counts = np.where((apart < 0)[..., np.newaxis], marks, after)
        return found
