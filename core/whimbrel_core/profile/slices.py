"""Slices: declared segments of the rows, each with a small profile of its own.

A row is in a slice when one feature's value is one of some words or values, or lies in (low, high].
Missing values and infinities are in no slice. A slice counts, of its rows, each feature over at
most ten *coarse* cells, the scores, and what labels say: enough to find a weak or drifting segment,
at a tenth of the bytes of a whole profile.

Coarse cells are right-closed intervals between `Feature.coarse` edges: deciles of the reference for
numbers, and for words the nine most frequent ones and the rest. A value of a discrete feature that
the reference lacks is counted in the interval that it lies in.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from whimbrel_core.errors import ProfileError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from whimbrel_core.profile.feature import Feature

MAX_SLICES = 16  # a row's slices are 16 bits beside its prediction in the label store
MAX_SLICE_COUNTS = 16_384  # a window of 16 KB more, at worst
MAX_SLICE_CLASSES = 8  # beyond it, a slice has no confusion matrix
_MAX_CHOICES = 64
_MAX_NAME_CHARS = 256


class Slice(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The rows in which one feature has certain values.

    Args:
        name: unique within the layout; what a person reads.
        feature: whose value decides.
        words: of a categorical feature's vocabulary.
        values: of a discrete feature's.
        low: values of a numeric or discrete feature above this …
        high: … and up to this. float32 numbers; None: no bound.
    """

    name: str
    feature: str
    words: tuple[str, ...] = ()
    values: tuple[float, ...] = ()
    low: float | None = None
    high: float | None = None

    def __post_init__(self) -> None:
        """Refuse a slice that says nothing, or two things at once."""
        if not self.name or len(self.name) > _MAX_NAME_CHARS:
            raise ProfileError(f"a slice needs a name of 1 to {_MAX_NAME_CHARS} characters")
        ways = [bool(self.words), bool(self.values), self.low is not None or self.high is not None]
        if sum(ways) != 1:
            raise ProfileError(
                f"slice {self.name!r} needs one of words, values, or a range of low and high",
                hint='e.g. words = ["JFK", "LGA"], or low = 0.5',
            )
        if len(self.words) + len(self.values) > _MAX_CHOICES:
            raise ProfileError(f"slice {self.name!r} has more than {_MAX_CHOICES} words or values")
        if self.low is not None and self.high is not None and not self.low < self.high:
            raise ProfileError(
                f"slice {self.name!r} is empty: low is {self.low:g} and high is {self.high:g}"
            )

    @property
    def condition(self) -> str:
        """What its rows have in common, for people."""
        if self.words or self.values:
            shown = [*self.words, *(f"{value:g}" for value in self.values)]
            return f"{self.feature} = {' or '.join(shown)}"
        low = "" if self.low is None else f"{self.low:g} < "
        high = "" if self.high is None else f" ≤ {self.high:g}"
        return f"{low}{self.feature}{high}"

    def check(self, feature: Feature) -> None:
        """Require that ``feature`` can have such values. Raises `ProfileError`."""
        kinds = (
            "categorical" if self.words else "discrete" if self.values else "numeric or discrete"
        )
        if feature.kind not in kinds.split(" or "):
            raise ProfileError(
                f"slice {self.name!r}: feature {feature.name!r} is {feature.kind}; "
                f"{_way(self)} belong to a {kinds} one"
            )
        known: Iterable[object] = feature.vocabulary if self.words else feature.values
        strange = [one for one in (*self.words, *self.values) if one not in set(known)]
        if strange:
            shown = ", ".join(map(str, known))
            raise ProfileError(
                f"slice {self.name!r}: {strange[0]!r} is not among the values of "
                f"{feature.name!r} in the reference",
                hint=f"it has: {shown[:200]}",
            )


def require_slices(slices: Sequence[Slice], features: Sequence[Feature], score_cells: int) -> None:
    """Require that ``slices`` can be counted over ``features``. Raises `ProfileError`."""
    if len(slices) > MAX_SLICES:
        raise ProfileError(f"a profile has {MAX_SLICES} slices at most, this one {len(slices)}")
    if len({one.name for one in slices}) != len(slices):
        raise ProfileError("slices have names of their own")
    by_name = {feature.name: feature for feature in features}
    for one in slices:
        feature = by_name.get(one.feature)
        if feature is None:
            raise ProfileError(
                f"slice {one.name!r} is of {one.feature!r}, which is not profiled",
                hint=f"features: {', '.join(by_name)[:200]}",
            )
        one.check(feature)
    counts = len(slices) * (1 + score_cells + sum(len(one.coarse) + 1 for one in features))
    if counts > MAX_SLICE_COUNTS:
        raise ProfileError(
            f"{len(slices)} slices of {len(features)} features take {counts} counts, "
            f"{MAX_SLICE_COUNTS} are allowed",
            hint="declare fewer slices, or profile fewer features",
        )


def _way(one: Slice) -> str:
    return "words" if one.words else "values" if one.values else "low and high"
