"""The profile of a data set: counts of its columns, with what else is known of where they came from.

``x.wprof`` is `DatasetProfile.encode`: magic, then msgpack with a baseline inside. It has all that a
baseline has, so that it can be what another data set is compared with, and two profiles of equal
cells add up without error. `decode` trusts nothing: it bounds and checks.
"""

from __future__ import annotations

import math
from itertools import pairwise
from typing import TYPE_CHECKING

import msgspec

from whimbrel_core.errors import ProfileError
from whimbrel_core.profile.baseline import MAX_ENCODED_BYTES as MAX_BASELINE_BYTES
from whimbrel_core.profile.baseline import Baseline, FeatureStats
from whimbrel_core.profile.encoding import document
from whimbrel_core.profile.encoding.fields import MAX_SUM
from whimbrel_core.profile.encoding.packing import MAX_COUNT
from whimbrel_core.profile.window import merge as merge_windows

if TYPE_CHECKING:
    from collections.abc import Sequence

    from whimbrel_core.profile.counts import FeatureCounts
    from whimbrel_core.profile.feature import Feature
    from whimbrel_core.profile.window import Window

MAGIC = b"WPROF\x00\x00\x01"
MAX_ENCODED_BYTES = MAX_BASELINE_BYTES + (1 << 20)
MAX_NAMES = 4096
MAX_TEXT_CHARS = 1024
TOO_MANY = 8
_TOP = 1e39  # beyond the largest float32
_LAST_MS = 1 << 47  # the year 6429


class DatasetProfile(msgspec.Struct, frozen=True, kw_only=True):
    """Counts of the columns of a data set.

    Args:
        name: what a person calls the data: a file's name, a bundle's title.
        baseline: cells, counts and moments.
        like: name of what the cells were taken from; "": they are the data's own quantiles.
        absent: features of the cells that the data has no column for. They count as missing.
        unlike: columns whose values are of another type than the cells are for, with what was
            found instead. They count as missing, too.
        new: columns that the cells have no feature for; they were not counted.
        notes: what a person should know.
        coarse: whether the counts are estimates from somebody else's summary.
    """

    name: str
    baseline: Baseline
    like: str = ""
    absent: tuple[str, ...] = ()
    unlike: dict[str, str] = {}
    new: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    coarse: bool = False

    @property
    def rows(self) -> int:
        """Number of rows that were counted."""
        return self.baseline.window.rows

    @property
    def profile_id(self) -> str:
        """Identity of the cells: profiles of equal ids add up."""
        return self.baseline.profile_id

    @property
    def features(self) -> tuple[str, ...]:
        """Names of the features, in order."""
        return tuple(feature.name for feature in self.baseline.layout.features)

    def encode(self) -> bytes:
        """Return the bytes of a ``.wprof`` file; equal profiles give equal bytes."""
        return MAGIC + msgspec.msgpack.encode(self, order="deterministic")

    @staticmethod
    def decode(data: bytes) -> DatasetProfile:
        """Return the profile in ``data``.

        Raises:
            ProfileError: no profile, another format, beyond a limit, or parts that do not fit.
        """
        profile = document.read(
            data,
            DatasetProfile,
            magic=MAGIC,
            limit=MAX_ENCODED_BYTES,
            what="profile",
            hint="make it again with 'whimbrel profile make', of this version",
        )
        names = [*profile.absent, *profile.new, *profile.unlike, *profile.notes]
        texts = [profile.name, profile.like, *names, *profile.unlike.values()]
        if len(names) > MAX_NAMES or any(len(text) > MAX_TEXT_CHARS for text in texts):
            raise ProfileError("the names in a profile are beyond their limits")
        profile.baseline.check()
        _bounded(profile.baseline)
        return profile

    def merge(self, other: DatasetProfile) -> DatasetProfile:
        """Return the profile of the rows of both; exact, and the same in any order but for the name.

        Raises:
            ProfileError: their cells differ. Both are unchanged.
        """
        a, b = self.baseline, other.baseline
        if a.profile_id != b.profile_id:
            raise ProfileError(
                f"{self.name} and {other.name} are counted in different cells and cannot be merged",
                hint="make both with the same --like; 'whimbrel profile compare' takes any two",
                code="profile.mismatch",
            )
        window = merge_windows(a.window, b.window)
        stats = tuple(
            described(feature, counts, _joined(one, other_one, n, m))
            for feature, counts, one, other_one, n, m in zip(
                a.layout.features,
                window.features,
                a.stats,
                b.stats,
                a.window.features,
                b.window.features,
                strict=True,
            )
        )
        return msgspec.structs.replace(
            self,
            name=_both(self.name, other.name),
            baseline=Baseline(
                layout=a.layout,
                window=window,
                stats=stats,
                calibration=a.calibration if a.calibration == b.calibration else None,
                errors=a.errors if a.errors == b.errors else None,
            ),
            absent=_together(self.absent, other.absent),
            unlike={**other.unlike, **self.unlike},
            new=_together(self.new, other.new),
            notes=_together(self.notes, other.notes),
            coarse=self.coarse or other.coarse,
        )

    def __repr__(self) -> str:
        named = ", ".join(self.features[:TOO_MANY])
        more = len(self.features) - TOO_MANY
        rest = f" and {more} more" if more > 0 else ""
        return (
            f"<DatasetProfile {self.name!r}: {self.rows:,} rows, {len(self.features)} features: "
            f"{named}{rest}>"
        )

    def _repr_html_(self) -> str:
        from whimbrel_core.pages import notebook

        return notebook.profile(self)


def described(feature: Feature, counts: FeatureCounts, cell_means: Sequence[float]) -> FeatureStats:
    """Return counts as the moments of a reference, with the mean of each cell as given."""
    n = counts.rows
    return FeatureStats(
        n=n,
        null_rate=counts.invalid / n if n else 0.0,
        mean=counts.mean(feature),
        sd=counts.sd(feature),
        min=counts.min if feature.ordered else None,
        max=counts.max if feature.ordered else None,
        cell_means=tuple(cell_means) if feature.ordered else (),
    )


def middles(feature: Feature) -> tuple[float, ...]:
    """Return a point in each cell, for those that hold no value whose mean could be taken.

    The open cells have no middle: a point as far beyond the edge as the neighbour's is inside.
    """
    if feature.kind == "discrete":
        return (*feature.values, feature.centre)
    edges = feature.edges
    if not edges:
        return (feature.centre,)
    inner = [(a + b) / 2 for a, b in pairwise(edges)]
    low = (edges[1] - edges[0]) / 2 if len(edges) > 1 else 0.0
    high = (edges[-1] - edges[-2]) / 2 if len(edges) > 1 else 0.0
    return (edges[0] - low, *inner, edges[-1] + high)


def quantile(feature: Feature, counts: FeatureCounts, q: float) -> float | None:
    """Return about the ``q``-quantile of the finite values; None without any, or for words.

    Mass inside a cell is taken as spread evenly, between the extremes that were seen. Exact at the
    cells' edges, and for discrete features whose values are all known.
    """
    total = counts.finite
    if not total or not feature.ordered or counts.min is None or counts.max is None:
        return None
    wanted, below = q * total, 0
    if feature.kind == "discrete":
        for value, count in zip(feature.values, counts.cells, strict=False):
            below += count
            if below >= wanted and count:
                return min(max(value, counts.min), counts.max)
        return counts.max
    bounds = [-math.inf, *feature.edges, math.inf]
    for count, (a, b) in zip(counts.cells, pairwise(bounds), strict=True):
        if count and below + count >= wanted:
            low, high = max(a, counts.min), min(b, counts.max)
            return low + (high - low) * min(max((wanted - below) / count, 0.0), 1.0)
        below += count
    return counts.max


def unseen(feature: Feature, stats: FeatureStats, counts: FeatureCounts) -> float:
    """Return the share of finite values that the reference never had: 0 to 1.

    Beyond its smallest or largest one for numbers, any other value or word else.

    Args:
        feature: with the reference's cells.
        stats: of the reference.
        counts: in these cells.
    """
    total = counts.finite
    if not total:
        return 0.0
    if feature.kind != "numeric":
        return counts.cells[-1] / total
    if stats.min is None or stats.max is None:
        return 0.0
    bounds = [-math.inf, *feature.edges, math.inf]
    outside = sum(
        count
        for count, (a, b) in zip(counts.cells, pairwise(bounds), strict=True)
        if b < stats.min or a >= stats.max
    )
    return outside / total


def of_window(name: str, baseline: Baseline, window: Window) -> DatasetProfile:
    """Return counts in the cells of ``baseline`` as a profile: a device's window, a fleet's month.

    Raises:
        ProfileError: the window belongs to another layout.
    """
    stats = tuple(
        described(feature, counts, stats.cell_means)
        for feature, counts, stats in zip(
            baseline.layout.features, window.features, baseline.stats, strict=True
        )
    )
    found = Baseline(
        layout=baseline.layout,
        window=window,
        stats=stats,
        calibration=baseline.calibration,
        errors=baseline.errors,
    )
    found.check()
    return DatasetProfile(name=name, baseline=found)


def _bounded(baseline: Baseline) -> None:
    """Require numbers that arithmetic on profiles cannot overflow. Raises `ProfileError`.

    Of a bundle's baseline the signature says so; a profile comes from anywhere.
    """
    for feature, counts, stats in zip(
        baseline.layout.features, baseline.window.features, baseline.stats, strict=True
    ):
        whole = (counts.nulls, counts.pos_inf, counts.neg_inf, counts.repeats, stats.n)
        sums = (counts.total, counts.squares)
        values = (counts.min, counts.max, stats.mean, stats.sd, stats.min, stats.max)
        if (
            min(whole) < 0
            or max(whole) > MAX_COUNT
            or not all(-MAX_SUM <= one <= MAX_SUM for one in sums)
            or counts.squares < 0
            or not all(one is None or -_TOP <= one <= _TOP for one in values)
            or not all(-_TOP <= one <= _TOP for one in stats.cell_means)
        ):
            raise ProfileError(f"feature {feature.name!r}: a number is out of range")
    if not (0 <= baseline.window.start_ms <= baseline.window.end_ms <= _LAST_MS):
        raise ProfileError("the period of a profile is outside any calendar")


def _joined(
    a: FeatureStats, b: FeatureStats, n: FeatureCounts, m: FeatureCounts
) -> tuple[float, ...]:
    """Return the means of cells of both together."""
    return tuple(
        (x * i + y * j) / (i + j) if i + j else x
        for x, y, i, j in zip(a.cell_means, b.cell_means, n.cells, m.cells, strict=False)
    )


def _both(a: str, b: str) -> str:
    if a == b:
        return a
    joined = f"{a} + {b}"
    return joined if len(joined) <= MAX_TEXT_CHARS else f"{a[:500]} + …"


def _together(a: tuple[str, ...], b: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(dict.fromkeys([*a, *b]))
