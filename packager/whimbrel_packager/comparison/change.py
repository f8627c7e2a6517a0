"""Changes: one difference between two bundles each, with how much it matters.

``breaking``: callers written for the old bundle get errors or other meanings from the new one.
``severe``, ``warn`` and ``notice`` are those of drift: look at once, soon, when you can. ``info``
differs, and that is all.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

Level = Literal["breaking", "severe", "warn", "notice", "info"]
LEVELS: tuple[Level, ...] = ("breaking", "severe", "warn", "notice", "info")
Area = Literal[
    "identity", "schema", "quality", "gates", "baseline", "proof", "runtime", "policy", "lineage"
]
AREAS: tuple[Area, ...] = (
    "identity", "schema", "quality", "gates", "baseline", "proof", "runtime", "policy", "lineage",
)  # fmt: skip
_NAMED = 5


class Change(msgspec.Struct, frozen=True):
    """One difference.

    Args:
        level: how much it matters.
        area: what it is about.
        what: name of the thing, e.g. ``input temp``.
        text: the difference in a sentence or less.
        old: value in the old bundle; "" for none.
        new: value in the new bundle; "" for none.
    """

    level: Level
    area: Area
    what: str
    text: str
    old: str = ""
    new: str = ""


def ordered(changes: Iterable[Change]) -> tuple[Change, ...]:
    """Return changes, the worst first; equals in the order of areas."""
    return tuple(sorted(changes, key=lambda c: (LEVELS.index(c.level), AREAS.index(c.area))))


def named(words: Sequence[str]) -> str:
    """Return the first words of many.

    >>> named(["a", "b"]), named([str(i) for i in range(9)])
    ('a, b', '0, 1, 2, 3, 4 and 4 more')
    """
    shown = ", ".join(words[:_NAMED])
    return f"{shown} and {len(words) - _NAMED} more" if len(words) > _NAMED else shown
