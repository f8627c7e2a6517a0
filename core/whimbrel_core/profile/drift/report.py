"""What changed between a reference and newer rows, worst first: values that pages and tables show.

One report for two data sets (`whimbrel_core.profile.drift.comparing`) and for a fleet, whose server fills
in more: which devices, since when, how sure over time. Fields are only ever added, with defaults.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import msgspec

from whimbrel_core.profile.drift.levels import LEVELS, State, Thresholds
from whimbrel_core.profile.feature import Role

if TYPE_CHECKING:
    from collections.abc import Iterable

Problem = Literal["", "gone", "new", "type"]
ORDER: tuple[State, ...] = ("too_few", *LEVELS)
_DEFAULT = Thresholds()


class Distribution(msgspec.Struct, frozen=True):
    """Shares of the values per cell, of the reference and of what is compared with it."""

    cells: tuple[str, ...]
    reference: tuple[float, ...]
    current: tuple[float, ...]
    edges: tuple[float, ...] = ()


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """One device (or cohort) on which a feature moved.

    ``cost`` says what quality is expected to lose by it, ``reading`` what that means: "harmless",
    "costly", "better" or "unclear"; "" where nothing is known.
    """

    subject: str
    state: State
    level: str = "device"
    rows: int = 0
    psi: float | None = None
    w1_sd: float | None = None
    log_e: float | None = None
    alarm: bool = False
    since_ms: int | None = None
    cost: str = ""
    reading: str = ""


class Side(msgspec.Struct, frozen=True, kw_only=True):
    """One of the two: what it is called, its rows, and the time that it is of."""

    name: str
    rows: int
    detail: str = ""
    start_ms: int | None = None
    end_ms: int | None = None


class FeatureReport(msgspec.Struct, frozen=True, kw_only=True):
    """One feature: evidence, effect, and what of it changed. None: does not apply.

    Args:
        feature: name.
        role: input or output.
        kind: numeric, discrete or categorical.
        unit: physical unit, if known.
        state: the effect's level where there is evidence of it.
        problem: "gone": the newer data have no such column; "new": the reference has none;
            "type": its values are of another type; "": it is compared.
        detail: of the problem.
        rows: values (without missing ones) of the newer data.
        p_value: of Pearson's X² on coarse bins.
        significant: whether evidence holds at the false discovery rate over all features.
        psi, js, ks, w1_sd: distances, see `whimbrel_core.profile.drift.judge`.
        null_rate: missing and infinite values per row, and the ``reference_null_rate``.
        unseen_rate: share of values that the reference never had: beyond its extremes, or words
            and values of none of its cells; with the ``reference_unseen_rate``.
        mean, sd: of the newer data, with those of the reference.
        moved: the word or value whose share changed most, with its shares before and now.
        log_e: evidence over time, of the worst device.
        alarm: whether the fleet server has raised an alarm.
        since_ms: since when, of the earliest alarm.
        shown: whose counts the distribution's current side is; "" for the newer data.
        distribution: of the values.
        places: devices and cohorts on which it moved, worst first.
    """

    feature: str
    role: Role
    state: State
    kind: str = ""
    unit: str | None = None
    problem: Problem = ""
    detail: str = ""
    rows: int = 0
    p_value: float | None = None
    significant: bool = False
    psi: float | None = None
    js: float | None = None
    ks: float | None = None
    w1_sd: float | None = None
    null_rate: float | None = None
    reference_null_rate: float | None = None
    unseen_rate: float | None = None
    reference_unseen_rate: float | None = None
    mean: float | None = None
    reference_mean: float | None = None
    sd: float | None = None
    reference_sd: float | None = None
    moved: tuple[str, float, float] | None = None
    log_e: float | None = None
    alarm: bool = False
    since_ms: int | None = None
    shown: str = ""
    distribution: Distribution | None = None
    places: tuple[Place, ...] = ()


class Remark(msgspec.Struct, frozen=True, kw_only=True):
    """A finding about the quality of the data, of a feature or ("") of all rows."""

    message: str
    state: State
    feature: str = ""
    kind: str = ""


class SliceReport(msgspec.Struct, frozen=True, kw_only=True):
    """One declared segment of the rows.

    Args:
        name: of the slice, with its ``condition``.
        state: of the feature that moved most in it.
        rows: of the newer data in it, a ``share`` of all, and the ``reference_share``.
        feature: that moved most; "" when there are too few rows.
        psi: of it, on coarse cells.
    """

    name: str
    state: State
    condition: str = ""
    rows: int = 0
    share: float = 0.0
    reference_share: float = 0.0
    feature: str = ""
    psi: float | None = None


class DriftReport(msgspec.Struct, frozen=True, kw_only=True):
    """What changed, worst first.

    Args:
        title: of the report.
        reference: what is compared with.
        current: what is compared.
        features: worst first.
        thresholds: of the levels.
        source: two data sets, or a fleet's counts.
        remarks: on the quality of the data.
        slices: declared segments of the rows, worst first.
        subjects: devices and cohorts, worst first, each with its worst feature as a `Place`.
        exact: whether both sides were counted in the same cells; else distances are about right.
        notes: what a reader should know.
    """

    title: str
    reference: Side
    current: Side
    features: tuple[FeatureReport, ...]
    thresholds: Thresholds = _DEFAULT
    source: Literal["data", "fleet"] = "data"
    remarks: tuple[Remark, ...] = ()
    slices: tuple[SliceReport, ...] = ()
    subjects: tuple[tuple[str, Place], ...] = ()
    exact: bool = True
    notes: tuple[str, ...] = ()

    @property
    def worst(self) -> State:
        """The worst level of any feature or remark."""
        return worst_of(
            [
                *(f.state for f in self.features),
                *(r.state for r in self.remarks),
                *(s.state for s in self.slices),
            ]
        )

    @property
    def drifted(self) -> tuple[FeatureReport, ...]:
        """Features at "warn" or "severe"."""
        return tuple(one for one in self.features if one.state in {"warn", "severe"})

    def __repr__(self) -> str:
        names = ", ".join(one.feature for one in self.drifted[:5])
        return (
            f"<DriftReport {self.current.name!r} against {self.reference.name!r}: {self.worst}, "
            f"{len(self.drifted)} of {len(self.features)} features{': ' + names if names else ''}>"
        )

    def html(self) -> str:
        """Return the report as one HTML page that loads nothing else."""
        from whimbrel_core.pages import drift

        return drift.build(self)

    def _repr_html_(self) -> str:
        from whimbrel_core.pages import notebook

        return notebook.report(self)


def worst_of(states: Iterable[State]) -> State:
    """Return the worst of some states; "too_few" of none."""
    return max(states, key=ORDER.index, default="too_few")


def worst_first(features: Iterable[FeatureReport]) -> tuple[FeatureReport, ...]:
    """Return features in the order in which they need a look."""
    return tuple(
        sorted(
            features,
            key=lambda one: (
                -ORDER.index(one.state),
                not one.alarm,
                one.problem == "",
                -(one.psi or 0.0),
                -(one.w1_sd or 0.0),
                one.feature,
            ),
        )
    )
