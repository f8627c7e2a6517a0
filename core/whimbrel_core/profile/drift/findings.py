"""Data quality: what is wrong with the values of a window, whatever their distribution.

Each `Finding` is a share of rows (or requests) against what is usual in the reference, and needs
both *evidence*, that the share is larger than the reference's by more than chance (Fisher's exact
test, one-sided, with Benjamini–Hochberg over everything that is asked of one window), and
*effect*, that it is larger by an amount that matters (`Thresholds.rate`). Less than usual is no
finding.

- *missing*, *infinite*: nulls; values beyond float32.
- *out_of_range*: numbers below the least or above the greatest of the reference.
- *unknown*: words, or values of a discrete feature, that the reference lacks.
- *constant*: one value in all rows. *stuck*: in at least nine of ten rows the same value as in the
  row before, where in the reference at most half are. A discrete feature or a word is often the
  same for a while (a weekday, a site) although the reference's rows are mixed: a notice at most.
- *duplicates*: rows equal to the row before in every input.
- *mistyped*: requests refused for a wrong datatype, shape or kind of data; all of the reference's
  rows were right.

Shares are measured against all rows of the window. Too few rows are no finding.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import msgspec
import numpy as np

from whimbrel_core.errors import ProfileError
from whimbrel_core.profile.drift.discoveries import benjamini_hochberg
from whimbrel_core.profile.drift.fisher import more_than_usual
from whimbrel_core.profile.drift.levels import LEVELS, State, Thresholds
from whimbrel_core.profile.flat import FlatWindow, flatten

if TYPE_CHECKING:
    from collections.abc import Sequence

    from whimbrel_core.profile.baseline import Baseline
    from whimbrel_core.profile.feature import Feature
    from whimbrel_core.profile.flat import Counts
    from whimbrel_core.profile.window import Window

FindingKind = Literal[
    "missing", "infinite", "out_of_range", "unknown", "constant", "stuck", "duplicates",
    "mistyped", "rate",
]  # fmt: skip

STUCK_SHARE = 0.9
USUAL_STUCK_SHARE = 0.5
_DEFAULT = Thresholds()
_HAIR = 1e-9
_INVALID: tuple[tuple[FindingKind, str], ...] = (
    ("missing", "is missing"),
    ("infinite", "is infinite"),
)


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that is wrong with the data of a window.

    Args:
        feature: whose; "" for the whole window.
        kind: what (see above); "rate": far more or fewer rows than usual.
        share: of the rows or requests that it is wrong with, 0 to 1.
        usual: the same in the reference.
        level: how much it matters.
        message: a sentence for people.
    """

    feature: str
    kind: FindingKind
    share: float
    usual: float
    level: State
    message: str


class _Suspect(NamedTuple):
    """What would be a finding if there is evidence."""

    finding: Finding
    p_value: float


class _Told(NamedTuple):
    """In how many of a window's rows something is so, and in how many of the reference's."""

    having: int
    rows: int
    usual: int


class Inspector:
    """Looks for what is wrong with windows of one baseline; made once, used for many.

    Args:
        baseline: what is usual.
        thresholds: ``rate`` is the effect, ``q`` the evidence, ``min_rows`` too few.
    """

    def __init__(self, baseline: Baseline, thresholds: Thresholds = _DEFAULT) -> None:
        self._layout = layout = baseline.layout
        self._thresholds = thresholds
        self._reference = reference = _Facts(flatten(baseline.window))
        self._rows = baseline.window.rows
        self._usual = reference.shares()
        never = [
            _never_seen(feature, stats.min, stats.max)
            for feature, stats in zip(layout.features, baseline.stats, strict=True)
        ]
        self._never = np.concatenate(never)
        sizes = np.array([feature.cells for feature in layout.features])
        starts = np.cumsum(sizes) - sizes
        finite = np.add.reduceat(reference.cells, starts)
        largest = np.maximum.reduceat(reference.cells, starts)
        # How often the most frequent of the reference's cells comes: 1 is no surprise.
        self._largest = np.minimum((largest + 1) / (finite + 1), 1.0)
        self._varies = [stats.min != stats.max for stats in baseline.stats]
        self._starts = starts
        self._usually_never = np.add.reduceat(reference.cells * self._never, starts)

    def inspect(self, window: Window | FlatWindow) -> tuple[Finding, ...]:
        """Return what is wrong with ``window``, worst first.

        Raises:
            ProfileError: it belongs to another layout.
        """
        if window.profile_id != self._layout.profile_id:
            raise ProfileError(
                f"a window of profile {window.profile_id[:12]}… cannot be inspected with the "
                f"reference of {self._layout.profile_id[:12]}…",
                code="profile.mismatch",
            )
        flat = window if isinstance(window, FlatWindow) else flatten(window)
        suspects = self._requests(flat)
        tests = 1
        if flat.rows >= self._thresholds.min_rows:
            found, asked = self._features(flat)
            suspects += found
            tests += asked
        if not suspects:
            return ()
        # What has no effect was asked, too.
        p_values = [suspect.p_value for suspect in suspects] + [1.0] * (tests - len(suspects))
        believed = benjamini_hochberg(p_values, self._thresholds.q)
        findings = [suspects[i].finding for i in range(len(suspects)) if believed[i]]
        return tuple(
            sorted(
                findings,
                key=lambda one: (-LEVELS.index(one.level), one.usual - one.share, one.feature),
            )
        )

    def inspect_all(self, windows: Sequence[FlatWindow]) -> list[tuple[Finding, ...]]:
        """Return `inspect` of every window; much cheaper where most are well. Raises as `inspect`."""
        if not windows:
            return []
        strangers = [one for one in windows if one.profile_id != self._layout.profile_id]
        for window in strangers:
            self.inspect(window)
        suspicious = self._suspicious(windows).tolist()
        return [
            self.inspect(window) if suspect else ()
            for window, suspect in zip(windows, suspicious, strict=True)
        ]

    def _suspicious(self, windows: Sequence[FlatWindow]) -> np.ndarray[Any, np.dtype[np.bool_]]:
        """Return (N,) whether anything of a window has an effect: `inspect` tells nothing of others.

        Shares of 0/0 rows are NaN and beyond no limit.
        """
        least, cells = self._thresholds.rate[0], len(self._never)
        counts = np.stack([window.counts for window in windows])
        nulls, above, below, repeats = np.moveaxis(
            counts[:, cells:].reshape(len(windows), 4, -1), 1, 0
        )
        rows = np.array([window.rows for window in windows])[:, np.newaxis]
        with np.errstate(divide="ignore", invalid="ignore"):
            never = np.add.reduceat(counts[:, :cells] * self._never, self._starts, axis=1) / rows
            beyond = [
                nulls / rows - self._usual[0],
                (above + below) / rows - self._usual[1],
                never - self._usually_never / self._rows,
                np.array([[window.duplicates] for window in windows]) / rows
                - self._reference.duplicates / self._rows,
            ]
        low = np.stack([window.low for window in windows])
        high = np.stack([window.high for window in windows])
        usually_still = self._reference.repeats / max(self._rows - 1, 1) > USUAL_STUCK_SHARE
        still = (repeats >= STUCK_SHARE * np.maximum(rows - 1, 1)) | (
            (low == high) & np.array(self._varies)
        )
        found = (still & ~usually_still).any(axis=1)
        # A hair below the limit, so that no rounding here hides what `inspect` would tell.
        for excess in beyond:
            found |= (excess >= least - _HAIR).any(axis=1)
        enough = rows[:, 0] >= self._thresholds.min_rows
        asked = np.array([bool(window.ops.mistyped) for window in windows])
        suspicious: np.ndarray[Any, np.dtype[np.bool_]] = (found & enough) | asked
        return suspicious

    def _features(self, window: FlatWindow) -> tuple[list[_Suspect], int]:
        """Return the suspects of a window with enough rows, and how many questions were asked."""
        rows, features = window.rows, self._layout.features
        facts = _Facts(window)
        suspects: list[_Suspect] = []
        shares = facts.shares()
        # Most features are well: only what is beyond the first limit is looked at one by one.
        least = self._thresholds.rate[0]
        for which, index in zip(*np.nonzero(shares - self._usual >= least), strict=True):
            usual = int(self._reference.counts[which, index])
            told = _Told(int(facts.counts[which, index]), rows, usual)
            kind, what = _INVALID[which]
            suspects.append(self._share(features[index].name, kind, told, what))
        never = np.add.reduceat(facts.cells * self._never, self._starts)
        seldom = never / rows - self._usually_never / self._rows < least
        suspects += [
            self._never_seen(index, int(never[index]), rows)
            for index in np.flatnonzero(~seldom).tolist()
        ]
        held = facts.repeats >= STUCK_SHARE * max(rows - 1, 1)
        same = window.low == window.high
        for index in np.flatnonzero(held | same).tolist():
            found = self._still(index, features[index], window, facts)
            if found is not None:
                suspects.append(found)
        reference = self._reference
        if (window.duplicates / rows) - (reference.duplicates / self._rows) >= least:
            told = _Told(window.duplicates, rows, reference.duplicates)
            suspects.append(
                self._share("", "duplicates", told, "rows are the same as the row before")
            )
        return suspects, 4 * len(features) + 1

    def _never_seen(self, index: int, count: int, rows: int) -> _Suspect:
        feature = self._layout.features[index]
        told = _Told(count, rows, int(self._usually_never[index]))
        if feature.kind == "numeric":
            what = "is outside the reference's range"
            return self._share(feature.name, "out_of_range", told, what)
        thing = "word" if feature.kind == "categorical" else "value"
        what = f"has a {thing} that is not in its profile"
        return self._share(feature.name, "unknown", told, what)

    def _still(
        self, index: int, feature: Feature, window: FlatWindow, facts: _Facts
    ) -> _Suspect | None:
        """Return whether a feature stands still that does not in the reference."""
        rows, usual = window.rows, int(self._reference.repeats[index])
        count = int(facts.repeats[index])
        finite = rows - int(facts.invalid[index])
        if finite < self._thresholds.min_rows:
            return None
        usual_share = usual / max(self._rows - 1, 1)
        numeric = feature.kind == "numeric"
        if finite == rows and window.low[index] == window.high[index]:
            if not self._varies[index] or usual_share > USUAL_STUCK_SHARE:
                return None
            kind: FindingKind = "constant"
            said = f"{feature.name} was {window.low[index]:.6g} in all {rows:,} rows"
            share, p_value = 1.0, float(self._largest[index]) ** (rows - 1)
        elif count >= STUCK_SHARE * (rows - 1) and usual_share <= USUAL_STUCK_SHARE:
            kind, share = "stuck", count / rows
            said = f"{feature.name} has not changed for {count:,} of {rows:,} rows"
            p_value = more_than_usual(count, rows - 1, usual, max(self._rows - 1, 1))
        else:
            return None
        level: State = "severe" if numeric else "notice"
        return _Suspect(
            Finding(
                feature=feature.name,
                kind=kind,
                share=share,
                usual=usual_share,
                level=level,
                message=said,
            ),
            p_value,
        )

    def _requests(self, window: FlatWindow) -> list[_Suspect]:
        ops = window.ops
        asked = ops.requests + ops.rejected + ops.failed
        least = self._thresholds.rate[0]
        if asked < self._thresholds.min_rows or ops.mistyped / asked < least:
            return []
        told = _Told(ops.mistyped, asked, 0)
        return [self._share("", "mistyped", told, "requests had a wrong type or shape")]

    def _share(self, feature: str, kind: FindingKind, told: _Told, what: str) -> _Suspect:
        count, rows, usual = told
        share, usual_share = count / rows, usual / self._rows
        level = LEVELS[sum(share - usual_share >= limit for limit in self._thresholds.rate)]
        tail = f", usually in {usual_share:.1%}" if usual else ""
        return _Suspect(
            Finding(
                feature=feature,
                kind=kind,
                share=share,
                usual=usual_share,
                level=level,
                message=(
                    f"{feature} {what} in {count:,} of {rows:,} rows ({share:.1%}{tail})"
                    if feature
                    else f"{count:,} of {rows:,} {what}"
                ),
            ),
            more_than_usual(count, rows, usual, self._rows),
        )


class _Facts:
    """What is asked of one window, as arrays."""

    def __init__(self, window: FlatWindow) -> None:
        self._rows = window.rows
        self.cells: Counts = window.cells
        nulls, above, below = window.counts[len(self.cells) :].reshape(4, -1)[:3]
        #: (2, F) missing, infinite
        self.counts: Counts = np.stack([nulls, above + below])
        self.invalid: Counts = self.counts.sum(axis=0)
        self.repeats: Counts = window.repeats
        self.duplicates = window.duplicates

    def shares(self) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
        """Return (2, F): `counts` per row."""
        return self.counts / max(self._rows, 1)


def findings(
    window: Window | FlatWindow, baseline: Baseline, thresholds: Thresholds = _DEFAULT
) -> tuple[Finding, ...]:
    """Return what is wrong with the data of ``window``, worst first.

    For many windows of one baseline, make an `Inspector` once.

    Raises:
        ProfileError: the window belongs to another layout.
    """
    return Inspector(baseline, thresholds).inspect(window)


def _never_seen(feature: Feature, low: float | None, high: float | None) -> Counts:
    """Return (cells,) 1 for the cells that no reference value is in, or that gather all others."""
    marked = np.zeros(feature.cells, np.int64)
    if feature.kind != "numeric":
        marked[-1] = feature.cells > 1
    elif low is not None and high is not None:
        edges = np.array(feature.edges)
        marked[:-1] = edges < low
        marked[1:] |= edges >= high
    return marked
