"""Stored counts as they are: what exports and reports are made of, on any machine.

They are in Whimbrel's own encoding (`whimbrel_core.profile`), as base64 in JSON: exact, small, and
merged by addition by whoever asks.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from whimbrel_core.profile.drift.levels import Thresholds

Step = Literal["hour", "day", "all"]


class PeriodCounts(msgspec.Struct, frozen=True, kw_only=True):
    """The counts of one hour, day, or all of the time.

    Args:
        start_ms: begin of the period; 0 for all of the time.
        windows: that were merged.
        counts: `whimbrel_core.profile.window.encode` of them.
    """

    start_ms: int
    windows: int
    counts: bytes


class StoredCountsView(msgspec.Struct, frozen=True, kw_only=True):
    """The counts of one version and subject by period, with what they are compared with.

    Args:
        name: of the model.
        version: of it.
        subject: a device, a cohort ``key=value``, or ``fleet``.
        step: length of the periods.
        profile_id: of the cells.
        baseline: `whimbrel_core.profile.baseline.Baseline.encode` of the signed reference.
        thresholds: at which a feature of the version is called drifted.
        periods: in the order of time; none when nothing came.
    """

    name: str
    version: str
    subject: str
    step: Step
    profile_id: str
    baseline: bytes
    thresholds: Thresholds
    periods: tuple[PeriodCounts, ...] = ()
