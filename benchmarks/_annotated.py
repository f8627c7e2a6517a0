"""How well found change points agree with those that several people marked.

The F1 of van den Burg and Williams ("An evaluation of change point detection algorithms", 2020),
as their code counts: the first observation is a change point to everybody, annotators and method
alike, so that none is without any.

- A marked point is found when a point of the method is at most ``margin`` away. Each point of the
  method finds one mark: marks are taken in order, and each takes the nearest point that is left.
- Precision: found marks of all annotators together (the union), over the method's points.
- Recall: the share of an annotator's marks that is found, averaged over annotators.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

MARGIN = 5


class Agreement(NamedTuple):
    """Precision, recall and their harmonic mean."""

    precision: float
    recall: float
    f1: float


def found_marks(marks: Iterable[int], points: Iterable[int], margin: int = MARGIN) -> set[int]:
    """Return the marks that ``points`` find.

    >>> sorted(found_marks({1, 10, 20, 23}, {3, 8, 20}))
    [1, 10, 20]
    """
    left, found = set(points), set()
    for mark in sorted(set(marks)):
        near = [(abs(mark - point), point) for point in left if abs(mark - point) <= margin]
        if near:
            found.add(mark)
            left.remove(min(near)[1])
    return found


def agreement(
    annotators: Sequence[Collection[int]], points: Collection[int], margin: int = MARGIN
) -> Agreement:
    """Return how well ``points`` agree with what ``annotators`` marked, all counted from 0.

    >>> round(agreement([[], [10], [50]], [10]).f1, 4)
    0.9091
    """
    everybody = [{0, *marks} for marks in annotators]
    told = {0, *points}
    precision = len(found_marks(set().union(*everybody), told, margin)) / len(told)
    shares = [len(found_marks(marks, told, margin)) / len(marks) for marks in everybody]
    recall = sum(shares) / len(shares)
    return Agreement(precision, recall, 2 * precision * recall / (precision + recall))
