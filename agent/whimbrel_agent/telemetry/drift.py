"""The device's own drift alarm: closed windows against the signed baseline, without a network.

An alarm is raised when a feature's level rises to warn or severe, and again when it is over, and
not for every window in between (levels are left only after several calm windows).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from whimbrel_core.profile.levels import LEVELS, Held, State, Thresholds, settle

if TYPE_CHECKING:
    from whimbrel_core.bundle.manifest import DriftPolicy
    from whimbrel_core.profile.baseline import Baseline
    from whimbrel_core.profile.distances import FeatureDrift, Judge
    from whimbrel_core.profile.window import Window

ALARMING = frozenset({"warn", "severe"})


class LevelChange(NamedTuple):
    """A feature's alarm begins, grows, shrinks or ends."""

    feature: str
    before: State
    now: State
    drift: FeatureDrift


class DriftWatch:
    """Levels of one model's features over its windows.

    Args:
        baseline: to compare with.
        policy: the bundle's thresholds.
    """

    def __init__(self, baseline: Baseline, policy: DriftPolicy) -> None:
        self._baseline = baseline
        usual = Thresholds()
        self._thresholds = Thresholds(
            min_rows=policy.min_rows,
            psi=(min(usual.psi[0], policy.warn_psi), policy.warn_psi, policy.severe_psi),
        )
        self._judge: Judge | None = None
        self._held: dict[str, Held] = {}

    def judge(self, window: Window) -> tuple[FeatureDrift, ...]:
        """Return how far each feature of ``window`` is from the baseline."""
        if self._judge is None:
            # Not needed before the first window ends, so not at a cold start either.
            from whimbrel_core.profile.distances import Judge

            self._judge = Judge(self._baseline, thresholds=self._thresholds)
        return self._judge.judge(window)

    def observe(self, window: Window) -> list[LevelChange]:
        """Take a closed window in and return the alarms that it changes."""
        changes = []
        for drift in self.judge(window):
            before = self._held.get(drift.feature, Held())
            after = settle(before, drift.state)
            self._held[drift.feature] = after
            alarms = ALARMING & {before.level, after.level}
            if before.level != after.level and alarms:
                changes.append(LevelChange(drift.feature, before.level, after.level, drift))
        return changes

    @property
    def level(self) -> State:
        """The highest level that is held now."""
        levels = [held.level for held in self._held.values() if held.level != "too_few"]
        return max(levels, key=LEVELS.index) if levels else "too_few"
