"""The error tree of a regression: which rows it is expected to be equally far off on.

A tree of yes-or-no questions about the columns of a row, the prediction among them: is this number
greater than that one? Rows that end in one leaf are counted together, and the baseline says how far
off the model was in each leaf. So counts see, too, which values newly come together, which no counts
of single columns do.

Comparisons are of float32 numbers, words being the places of `Feature.vocabulary` (its length for any
other word). Every row ends in exactly one leaf: what is missing is greater than nothing, and
infinities are numbers like any other.

Nodes stand in the order of a walk: a split, all of where its answer is no, all of where it is yes.
So no node can name another, and whatever is one tree, to the last node, is a good one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from whimbrel_core.errors import ProfileError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from whimbrel_core.profile.feature import Feature

MAX_LEAVES = 64  # a window has a count of each
MAX_DEPTH = 10  # a flush goes down level by level


class Split(msgspec.Struct, frozen=True, array_like=True):
    """A question.

    Args:
        feature: index of the feature in the layout.
        threshold: a finite float32 number; greater values, and no others, go right.
    """

    feature: int
    threshold: float


class ErrorTree(msgspec.Struct, frozen=True):
    """Splits and leaves (None), each split before its left and then its right part.

    Leaves are counted from left to right.
    """

    nodes: tuple[Split | None, ...]

    def __post_init__(self) -> None:
        """Refuse what is not one tree. Raises `ProfileError`."""
        if len(self.nodes) > 2 * MAX_LEAVES - 1:
            raise ProfileError(f"an error tree has {MAX_LEAVES} leaves at most")
        open_at = [0]  # depths of the parts that are still to come
        for node in self.nodes:
            if not open_at:
                raise ProfileError("an error tree goes on after its last leaf")
            depth = open_at.pop()
            if node is None:
                continue
            if depth == MAX_DEPTH:
                raise ProfileError(f"an error tree asks {MAX_DEPTH} questions in a row at most")
            open_at += (depth + 1, depth + 1)
        if open_at:
            raise ProfileError("an error tree ends before its last leaf")

    @property
    def leaves(self) -> int:
        """Number of leaves, 1 to 64."""
        return len(self.nodes) // 2 + 1


def conditions(tree: ErrorTree, features: Sequence[Feature]) -> tuple[tuple[str, ...], ...]:
    """Return what the rows of each leaf have in common, a readable condition per feature."""
    found: list[tuple[str, ...]] = []
    # What is still to come: per feature what its value is above, and what it is not above.
    ahead: list[dict[int, tuple[float | None, float | None]]] = [{}]
    for node in tree.nodes:
        bounds = ahead.pop()
        if node is None:
            found.append(tuple(_condition(features[i], *bounds[i]) for i in sorted(bounds)))
            continue
        low, high = bounds.get(node.feature, (None, None))
        ahead.append({**bounds, node.feature: (node.threshold, high)})
        ahead.append({**bounds, node.feature: (low, node.threshold)})
    return tuple(found)


def _condition(feature: Feature, low: float | None, high: float | None) -> str:
    if feature.kind != "categorical":
        below = "" if low is None else f"{low:.6g} < "
        above = "" if high is None else f" ≤ {high:.6g}"
        missing = " or missing" if low is None else ""
        return f"{below}{feature.name}{above}{missing}"
    words = (*feature.vocabulary, "other")
    inside = [
        word
        for place, word in enumerate(words)
        if (low is None or place > low) and (high is None or place <= high)
    ]
    inside += ["missing"] * (low is None)
    return f"{feature.name} = {' or '.join(inside)}"
