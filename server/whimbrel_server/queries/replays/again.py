"""What recomputing a verdict gave, of whatever rule."""

from __future__ import annotations

from typing import Any, NamedTuple


class Again(NamedTuple):
    """A verdict made again.

    Args:
        figures: what its rule gives now.
        gone: why it cannot be recomputed from the same inputs; empty: it can.
        parts: windows, days or devices that it was made of.
        recounted: windows, or periods of groups, that were judged anew from their very counts.
        faults: what is another than was kept, or than the verdict says.
        beside: a sentence about what is no part of the verdict.
    """

    figures: dict[str, Any]
    gone: str = ""
    parts: int = 0
    recounted: int = 0
    faults: tuple[str, ...] = ()
    beside: str = ""
