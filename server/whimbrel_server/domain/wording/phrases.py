"""What every part of an explanation is put together with."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

_NAMED = 3


def names(of: Sequence[str]) -> str:
    """Return some names as people list them, the first few spelled.

    >>> names([]), names(["a"]), names(["a", "b"]), names(["a", "b", "c", "d", "e"])
    ('', 'a', 'a and b', 'a, b, c and 2 more')
    """
    if len(of) > _NAMED + 1:
        return f"{', '.join(of[:_NAMED])} and {len(of) - _NAMED} more"
    return " and ".join(filter(None, (", ".join(of[:-1]), *of[-1:])))


def sentence(text: str) -> str:
    """Return a text with the stop that ends a sentence."""
    text = text.strip()
    return text if text.endswith(".") else f"{text}."
