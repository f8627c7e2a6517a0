"""``[gates]`` of the recipe: what has to hold before a bundle is signed."""

from __future__ import annotations

from typing import Literal

import msgspec

from whimbrel_core.errors import ConfigError
from whimbrel_packager.gates.budgets import Budgets
from whimbrel_packager.gates.columns import Column
from whimbrel_packager.gates.incumbent import Incumbent
from whimbrel_packager.gates.leaks import Leaks
from whimbrel_packager.gates.quality import Quality
from whimbrel_packager.gates.skew import Skew
from whimbrel_packager.gates.slices import Slice

_LEAST, _MOST = 0.5, 1.0


class Gates(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What has to hold. A section that is not there is not judged.

    Args:
        confidence: of all intervals, two-sided.
        groups: column whose rows of one value belong together (day, patient, machine); intervals
            take whole groups as the unit.
        undeclared: whether the model may read columns that `columns` does not declare.
        columns: by column name.
        data: leaks of rows, labels and times, and columns that are none.
        quality: limits of figures on the held-out rows.
        incumbent: against the version in service, on the same held-out rows.
        slices: the same figure per segment.
        budgets: time, memory and size.
        skew: against the feature definitions, and a sample of what is served.
    """

    confidence: float = 0.95
    groups: str = ""
    undeclared: Literal["allow", "refuse"] = "allow"
    columns: dict[str, Column] = {}
    data: Leaks | None = None
    quality: Quality | None = None
    incumbent: Incumbent | None = None
    slices: tuple[Slice, ...] = ()
    budgets: Budgets | None = None
    skew: Skew | None = None

    def __post_init__(self) -> None:
        """Refuse a confidence that is none."""
        if not _LEAST <= self.confidence < _MOST:
            raise ConfigError(f"gates.confidence is {self.confidence}, .5 to below 1 is needed")
