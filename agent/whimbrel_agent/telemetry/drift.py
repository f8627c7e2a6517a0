"""The device's own drift alarms: closed windows against the signed baseline, without a network.

The rules are the server's, in the same code (`whimbrel_core.profile.watching.judging`): an alarm needs
evidence over time, against the device's own beginning, and an effect. What differs is what a device
can know: its false-alarm budget is shared by its own features alone, and a window that is older
than the newest one judged is left out, because no history is kept to replay.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import msgspec

if TYPE_CHECKING:
    from whimbrel_agent.telemetry.watchfile import WatchFile
    from whimbrel_core.bundle.manifest import DriftPolicy
    from whimbrel_core.profile.baseline import Baseline
    from whimbrel_core.profile.drift.drifts import FeatureDrift
    from whimbrel_core.profile.drift.levels import State
    from whimbrel_core.profile.watching.alarms import SubjectState
    from whimbrel_core.profile.watching.judging import DeviceJudge
    from whimbrel_core.profile.window import Window


class LevelChange(NamedTuple):
    """A feature's alarm begins, grows, shrinks or ends.

    ``evidence``: what was found, as in an alert of the server.
    """

    feature: str
    before: State
    now: State
    evidence: dict[str, object]

    def detail(self) -> dict[str, str]:
        """Return the change as the detail of an event."""
        found = {"feature": self.feature, "before": self.before, "now": self.now}
        for key in ("psi", "w1_sd", "log_e", "threshold", "shift"):
            number = self.evidence.get(key)
            found[key] = f"{number:.4f}" if isinstance(number, float) else ""
        since_ms = self.evidence.get("since_ms")
        found["since_ms"] = "" if since_ms is None else str(since_ms)
        found["what"] = str(self.evidence.get("what", ""))
        return found


class DriftWatch:
    """Judges the windows of one version, in the order of their time.

    Args:
        baseline: to compare with.
        policy: the bundle's thresholds.
        file: remembers where the judgement stands; None: only this object does.
    """

    def __init__(
        self, baseline: Baseline, policy: DriftPolicy, file: WatchFile[SubjectState] | None = None
    ) -> None:
        self._baseline = baseline
        self._policy = policy
        self._file = file
        self._judge: DeviceJudge | None = None
        self._state: SubjectState | None = None

    def judge(self, window: Window) -> tuple[FeatureDrift, ...]:
        """Return how far each feature of ``window`` is from the baseline."""
        from whimbrel_core.profile.watching.alarms import Position

        return self._rules().judge(window, Position()).drift

    def observe(self, window: Window, window_id: str = "") -> list[LevelChange]:
        """Take a closed window in and return the alarms that it changes."""
        from whimbrel_core.profile.watching.alarms import Position, changes

        rules = self._rules()
        position = Position(window.start_ms, window_id)
        before = self._newest() or rules.start()
        if position <= before.newest:
            return []
        after, shown = rules.advance(before, rules.judge(window, position))
        self._state = after
        if self._file is not None:
            self._file.save(after)
        was = {
            said.drift.feature: one.alarm for said, one in zip(shown, before.features, strict=True)
        }
        return [
            LevelChange(one.feature, was[one.feature] or "ok", one.severity or "ok", one.evidence)
            for one in changes(before, after, shown, window.end_ms)
        ]

    @property
    def level(self) -> State:
        """The highest level that is told now: without evidence a notice at most."""
        state = self._state or self._newest()
        if state is None:
            return "too_few"
        from whimbrel_core.profile.watching.alarms import told, worst_of

        return worst_of(
            told(one.held.level, evidence=one.alarm is not None) for one in state.features
        )

    def _newest(self) -> SubjectState | None:
        """Return the state to go on from: another process of the same slot may have gone further.

        During a handover two do, and each judges the windows that it closes.
        """
        stored = None if self._file is None else self._file.load()
        if stored is not None and not self._rules().fits(stored):
            stored = None
        if self._state is None or (stored is not None and stored.newest > self._state.newest):
            self._state = stored
        return self._state

    def _rules(self) -> DeviceJudge:
        if self._judge is None:
            # Not needed before the first window ends, so not at a cold start either.
            from whimbrel_core.profile.watching.alarms import policy_for
            from whimbrel_core.profile.watching.judging import DeviceJudge

            streams = len(self._baseline.layout.features)
            # Noise is put on what leaves the device; here the counts are exact.
            exact = msgspec.structs.replace(self._policy, noise_epsilon=0.0)
            self._judge = DeviceJudge(self._baseline, policy_for(exact, streams=streams))
        return self._judge


def form() -> type[SubjectState]:
    """Return what a `WatchFile` of drift keeps."""
    from whimbrel_core.profile.watching.alarms import SubjectState

    return SubjectState
