"""What is measured of a window's drift, as arrays and by name, and what thresholds make of it.

A drift is told only when there are both effect and evidence. Evidence alone calls a shift of .03
standard deviations in a window of 50,000 rows a drift; effect alone calls every small window one.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from whimbrel_core.profile.drift.discoveries import benjamini_hochberg
from whimbrel_core.profile.drift.levels import LEVELS, State
from whimbrel_core.profile.feature import Role

if TYPE_CHECKING:
    from collections.abc import Sequence

    from whimbrel_core.profile.drift.levels import Thresholds

Floats = NDArray[np.float64]
Counts = NDArray[np.int64]
Flags = NDArray[np.bool_]

_STATES: tuple[State, ...] = ("too_few", *LEVELS)


class FeatureDrift(msgspec.Struct, frozen=True, kw_only=True):
    """How one feature of a window differs from the reference. Distances are None without rows.

    Args:
        feature: name.
        role: input or output.
        rows: finite values (or words) of the window.
        p_value: evidence that the distribution changed: Pearson's X² on coarse bins; for values
            and words twice the smaller of it and of the test of never-seen ones.
        psi: population stability index on deciles (or words), debiased, at least 0.
        js: Jensen–Shannon distance on the same bins, base 2, 0 to 1.
        ks: Kolmogorov–Smirnov distance; None for words.
        w1_sd: Wasserstein-1 distance in baseline standard deviations; None for words.
        null_rate: share of missing or infinite values in the window.
        null_shift: that share less the reference's.
        null_p_value: of the two-proportion test of it.
        other_shift: share of never-seen values or words less the reference's; 0 for numeric.
        significant: whether evidence holds at the false discovery rate over all features.
        state: "too_few", or the effect's level where there is evidence of it, else "ok".
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


class Drifts(NamedTuple):
    """What a judge measures of N windows, as arrays (N, F). NaN: does not apply."""

    rows: Counts
    p_value: Floats
    psi: Floats
    js: Floats
    ks: Floats
    w1_sd: Floats
    null_rate: Floats
    null_shift: Floats
    null_p_value: Floats
    other_shift: Floats
    significant: Flags
    level: Counts  # index into LEVELS; −1: too few rows


def grade(drifts: Drifts, rows: Counts, limits: Thresholds) -> tuple[Flags, Counts]:
    """Return which features of N windows changed significantly, and their levels (N, F).

    Anew from distances that are known already, it is what other thresholds make of them.

    Args:
        drifts: distances; ``significant`` and ``level`` are not read.
        rows: (N,) rows of the windows.
        limits: what counts as evidence and effect.
    """
    short = rows[:, np.newaxis] < limits.min_rows
    # NaN is no distance. A feature may lack some of the window's rows; ten bins want fifty.
    blank = np.isnan(drifts.p_value)
    few = (2 * drifts.rows < limits.min_rows) | blank
    features = drifts.rows.shape[1]
    tested = np.concatenate([drifts.p_value, drifts.null_p_value], axis=-1)
    tested[:, :features][few | short] = 1.0
    tested[:, features:][np.broadcast_to(short, few.shape)] = 1.0
    evident = benjamini_hochberg(tested, limits.q)
    changed = np.maximum(
        np.maximum(_steps(limits.psi, drifts.psi), _steps(limits.w1_sd, drifts.w1_sd)),
        _steps(limits.rate, drifts.other_shift),
    )
    missing = _steps(limits.rate, np.abs(drifts.null_shift))
    changed *= evident[:, :features]
    missing *= evident[:, features:]
    level: Counts = np.maximum(changed, missing).astype(np.int64)
    level[(few & (level == 0)) | short] = -1
    return evident[:, :features] | evident[:, features:], level


def named_drifts(features: Sequence[tuple[str, Role]], row: Drifts) -> tuple[FeatureDrift, ...]:
    """Return one window's row (F,) of `Drifts` as an object per feature (name and role)."""
    columns = [array.tolist() for array in row]
    return tuple(
        _feature_drift(name, role, numbers)
        for (name, role), *numbers in zip(features, *columns, strict=True)
    )


def _steps(limits: tuple[float, ...], numbers: Floats) -> NDArray[np.int8]:
    """Return how many ``limits`` each number reaches; NaN reaches none."""
    reached = np.zeros(numbers.shape, np.int8)
    for limit in limits:
        reached += numbers >= limit
    return reached


def _feature_drift(name: str, role: Role, numbers: Sequence[Any]) -> FeatureDrift:
    named = dict(zip(Drifts._fields, numbers, strict=True))
    state = _STATES[named.pop("level") + 1]
    for distance in ("p_value", "psi", "js", "ks", "w1_sd"):
        if math.isnan(named[distance]):
            named[distance] = None
    return FeatureDrift(feature=name, role=role, state=state, **named)
