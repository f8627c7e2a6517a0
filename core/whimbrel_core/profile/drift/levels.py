"""How much a drift matters: levels, and how one is left again.

Effect sizes are on the scale of the population stability index. A pure shift of a normal feature
by δ standard deviations has PSI ≈ δ², so the matching Wasserstein thresholds are about the roots:
.1 (the shift that the sequential test treats as none), .3 and .5 sd.
"""

from __future__ import annotations

from typing import Literal

import msgspec

State = Literal["too_few", "ok", "notice", "warn", "severe"]
LEVELS: tuple[State, ...] = ("ok", "notice", "warn", "severe")


class Thresholds(msgspec.Struct, frozen=True, kw_only=True):
    """What counts as evidence and as an effect.

    Args:
        min_rows: fewer rows than this are judged "too_few".
        q: false discovery rate over the features of one window (Benjamini–Hochberg).
        psi: debiased PSI for notice, warn, severe.
        w1_sd: Wasserstein-1 distance in baseline standard deviations, for the same.
        rate: shift of the share of missing (or never seen) values, for the same.
        noise: variance of what was added to each count before a window left its device
            (`whimbrel_core.profile.privacy.noise`); 0 for exact counts.
    """

    min_rows: int = 100
    q: float = 0.05
    psi: tuple[float, float, float] = (0.02, 0.1, 0.25)
    w1_sd: tuple[float, float, float] = (0.1, 0.3, 0.5)
    rate: tuple[float, float, float] = (0.02, 0.1, 0.25)
    noise: float = 0.0


class Held(msgspec.Struct, frozen=True, kw_only=True):
    """A level with a memory: up at once, down only after ``calm`` windows below it.

    Args:
        level: the level that is shown.
        calm: windows in a row that were judged lower.
    """

    level: State = "too_few"
    calm: int = 0


def settle(held: Held, judged: State, *, calm_windows: int = 3) -> Held:
    """Return what to show after a window was ``judged``.

    Up at once; down, to the level judged last, after ``calm_windows`` lower ones in a row. Too few
    rows say nothing and change nothing.
    """
    if judged == "too_few":
        return held
    if held.level == "too_few" or LEVELS.index(judged) >= LEVELS.index(held.level):
        return Held(level=judged)
    if held.calm + 1 >= calm_windows:
        return Held(level=judged)
    return Held(level=held.level, calm=held.calm + 1)
