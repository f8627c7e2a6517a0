"""Compare a window with a reference: how far, and how sure."""

from __future__ import annotations

from typing import Literal

import msgspec

from whimbrel_core.profile.baseline import Baseline
from whimbrel_core.profile.layout import Role
from whimbrel_core.profile.levels import State, Thresholds
from whimbrel_core.profile.window import Window


class FeatureDrift(msgspec.Struct, frozen=True, kw_only=True):
    """How one feature of a window differs from the reference. Distances are None without rows.

    Args:
        feature: name.
        role: input or output.
        rows: finite values of the window.
        p_value: of Pearson's X² on coarse bins, corrected for the finite reference.
        psi: population stability index on deciles (or words), debiased, at least 0.
        js: Jensen–Shannon distance on the same bins, base 2, 0 to 1.
        ks: Kolmogorov–Smirnov distance; None for categories.
        w1_sd: Wasserstein-1 distance in baseline standard deviations; None for categories.
        null_rate: share of missing or infinite values in the window.
        null_shift: that share less the reference's.
        null_p_value: of the two-proportion test of it.
        other_shift: share of never-seen words or values less the reference's; 0 for numeric.
        significant: whether evidence holds at the false discovery rate over all features.
        state: "too_few", or the effect's level where there is evidence, else "ok".
    """

    feature: str
    role: Role
    rows: int
    p_value: float | None
    psi: float | None
    js: float | None
    ks: float | None
    w1_sd: float | None
    null_rate: float
    null_shift: float
    null_p_value: float
    other_shift: float
    significant: bool
    state: State


class Judge:
    """Judges windows against one reference; made once, used for many windows.

    Args:
        baseline: gives the cells and their means.
        reference: counts to compare with instead of the baseline's (a cohort, an earlier period).
        thresholds: what counts as evidence and effect.
    """

    def __init__(
        self,
        baseline: Baseline,
        reference: Window | None = None,
        thresholds: Thresholds = Thresholds(),  # noqa: B008 — frozen
    ) -> None:
        raise NotImplementedError

    def judge(self, window: Window) -> tuple[FeatureDrift, ...]:
        """Return the drift of every feature, in the layout's order. Raises `ProfileError`."""
        raise NotImplementedError


def compare(baseline: Baseline, window: Window) -> tuple[FeatureDrift, ...]:
    """Judge one ``window`` against ``baseline`` with the usual thresholds."""
    return Judge(baseline).judge(window)
