"""The stylesheet of drawings: colours as variables for light and dark, tones, and marks.

A page puts it before its own rules. Print is always light.
"""

from __future__ import annotations

from functools import lru_cache
from importlib import resources


@lru_cache(maxsize=1)
def stylesheet() -> str:
    """Return the rules as CSS text."""
    return (
        resources.files("whimbrel_core.drawing").joinpath("drawing.css").read_text(encoding="utf-8")
    )
