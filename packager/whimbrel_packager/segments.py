"""Segments of the rows that a recipe declares: each gets a small profile of its own on devices.

::

    [[profile.slices]]
    name = "JFK"
    feature = "origin"
    words = ["JFK"]

    [[profile.slices]]
    name = "frost"
    feature = "temp"
    high = 0.0
"""

from __future__ import annotations

import math

import msgspec
import numpy as np

from whimbrel_core.errors import ConfigError, ProfileError
from whimbrel_core.profile.slices import Slice


class Segment(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The rows in which one feature has certain values: one of three ways to say so.

    Args:
        name: of the segment, for people.
        feature: column of the model's inputs or outputs, by its name in the profile.
        words: that the feature may have, of those in its profile.
        values: that a feature of few numbers may have.
        low: numbers above this …
        high: … and up to this.
    """

    name: str
    feature: str
    words: tuple[str, ...] = ()
    values: tuple[float, ...] = ()
    low: float | None = None
    high: float | None = None

    def __post_init__(self) -> None:
        """Refuse what no feature could have."""
        numbers = [one for one in (*self.values, self.low, self.high) if one is not None]
        if not all(map(math.isfinite, numbers)):
            raise ConfigError(f"profile.slices ({self.name}): numbers must be finite")
        try:
            self.slice()
        except ProfileError as error:
            raise ConfigError(f"profile.slices: {error.message}", hint=error.hint) from error

    def slice(self) -> Slice:
        """Return what the layout holds: numbers as float32, in which values are compared."""
        return Slice(
            name=self.name,
            feature=self.feature,
            words=self.words,
            values=tuple(_float32(value) for value in self.values),
            low=None if self.low is None else _float32(self.low),
            high=None if self.high is None else _float32(self.high),
        )


def _float32(number: float) -> float:
    with np.errstate(over="ignore"):
        rounded = float(np.float32(number))
    if not math.isfinite(rounded):
        raise ProfileError(f"{number:g} is beyond float32, in which values are compared")
    return rounded
