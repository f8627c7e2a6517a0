"""What a drift costs: expected from the scores, and said by labels."""

from __future__ import annotations

from typing import TYPE_CHECKING

from whimbrel_core.drawing.written import count, stat

if TYPE_CHECKING:
    from collections.abc import Sequence

    from whimbrel_core.profile.quality.loss import Loss

_READINGS = {
    "harmless": "harmless so far",
    "costly": "it costs quality",
    "better": "better than on the reference",
    "unclear": "not sure yet",
}
BLIND = (
    "Expected quality takes for granted that a score still means what it meant on the reference "
    "rows. When the relation of score and truth itself has changed, only labels show it."
)


def cost(one: Loss) -> str:
    """Return what scores promise now beside what they promised.

    >>> from whimbrel_core.profile.quality.loss import Loss
    >>> cost(Loss(measure="AUC", reference=0.713, current=0.7124, se=0.0011, rows=900))
    'expected AUC 0.713 → 0.712 (± 0.002): harmless so far'
    """
    return (
        f"expected {one.measure} {stat(one.reference)} → {stat(one.current)} "
        f"(± {stat(2 * one.se)}): {_READINGS[one.reading]}"
    )


def costs(sentences: Sequence[str], rows: int, *, began: bool) -> list[str]:
    """Return what scores promise of ``rows`` rows: since it began, or of the newest window."""
    if not sentences:
        return [
            "What it costs cannot be expected: the bundle says nothing of how its scores came true."
        ]
    since = " since it began" if began else ""
    return [f"By the scores of {count(rows)} rows{since}: {'; '.join(sentences)}."]


def labels_say(measure: str, value: float, se: float | None, n: int) -> str:
    """Return what joined labels say of the same time."""
    doubt = f" (± {stat(2 * se)})" if se is not None else ""
    return f"Labels of that time say: {measure} {stat(value)}{doubt} over {count(n)} labels."
