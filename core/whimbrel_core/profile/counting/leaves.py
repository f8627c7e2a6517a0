"""Find the leaf of a layout's error tree that each row ends in, all rows at a time.

Each question is asked of all rows, and its answers are packed, a bit a row. Then, level by level, the
rows that reach a node are those that reach its parent and have the answer: 64 rows in one operation.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from whimbrel_core.profile.counting.tables import Counts, Floats32
    from whimbrel_core.profile.errortree import ErrorTree

Masks = NDArray[np.uint64]

_WORD = 64
_BLOCK_ROWS = 4096  # for whoever has more rows than a ring: bounds the scratch memory


class _Asked(NamedTuple):
    """Questions about one feature."""

    feature: int
    thresholds: Floats32  # (k, 1)
    first: int
    last: int


class _Level(NamedTuple):
    """The parts of the nodes of one depth."""

    parents: Counts
    questions: Counts
    left: slice
    right: slice


class Leaves:
    """The leaves of one tree, prepared for counting; its scratch memory makes it one thread's."""

    def __init__(self, tree: ErrorTree) -> None:
        splits = [node for node in tree.nodes if node is not None]
        order = sorted(range(len(splits)), key=lambda index: splits[index].feature)
        place = {index: at for at, index in enumerate(order)}
        self._asked: list[_Asked] = []
        for feature in sorted({split.feature for split in splits}):
            own = [index for index in order if splits[index].feature == feature]
            numbers = np.array([[splits[index].threshold] for index in own], np.float32)
            first = place[own[0]]
            self._asked.append(_Asked(feature, numbers, first, first + len(own)))
        self._splits = len(splits)
        self._levels, self._leaves = _levels(tree, place)
        self._slots = 2 * len(splits) + 1
        # Answers of every question, and whether there is a row at all; a byte a row.
        self._answers = np.empty((self._splits + 1, 0), np.bool_)
        self._reach: Masks = np.empty((self._slots, 0), np.uint64)

    def masks(self, columns: Floats32) -> Masks:
        """Return (leaves, n / 64 rounded up): which rows end in each leaf, as bits.

        Args:
            columns: (width, n) of the ring; n is a ring's at most.

        Returns:
            A view that the next call uses again, in the order of `numpy.packbits`.
        """
        n = columns.shape[1]
        words = -(-n // _WORD)
        if words > self._reach.shape[1]:
            self._answers = np.empty((self._splits + 1, words * _WORD), np.bool_)
            self._reach = np.empty((self._slots, words), np.uint64)
        answers = self._answers[:, : words * _WORD]
        for asked in self._asked:
            into = answers[asked.first : asked.last, :n]
            np.greater(columns[asked.feature], asked.thresholds, out=into)
        # What stands beyond the last row is of no row.
        answers[-1, :n] = True
        answers[-1, n:] = False
        packed = np.packbits(answers, axis=1).view(np.uint64)
        reach = self._reach[:, :words]
        reach[0] = packed[-1]
        for level in self._levels:
            parents = reach[level.parents]
            right = np.bitwise_and(parents, packed[level.questions], out=reach[level.right])
            np.bitwise_xor(parents, right, out=reach[level.left])
        found: Masks = reach[self._leaves]
        return found

    def of(self, columns: Floats32) -> Counts:
        """Return (n,) the leaf of each row of ``columns`` (width, n), for any n."""
        parts = [np.empty(0, np.int64)]
        for at in range(0, columns.shape[1], _BLOCK_ROWS):
            block = columns[:, at : at + _BLOCK_ROWS]
            bits = np.unpackbits(self.masks(block).view(np.uint8), axis=1, count=block.shape[1])
            parts.append(bits.argmax(axis=0))
        return np.concatenate(parts)


def rows_in(masks: Masks) -> Counts:
    """Return (…,) the number of rows in each of ``masks`` (…, words)."""
    counts: Counts = np.bitwise_count(masks).sum(axis=-1, dtype=np.int64)
    return counts


def packed(members: NDArray[np.bool_], words: int) -> Masks:
    """Return (…, ``words``) whether each row is one of ``members`` (…, n), as bits."""
    bits = np.packbits(members, axis=-1)
    padded = np.zeros((*bits.shape[:-1], 8 * words), np.uint8)
    padded[..., : bits.shape[-1]] = bits
    return padded.view(np.uint64)


def _levels(tree: ErrorTree, place: dict[int, int]) -> tuple[list[_Level], Counts]:
    """Return how to go down, and where each leaf is found then; slot 0 is the root."""
    left_of: dict[int, int] = {}
    right_of: dict[int, int] = {}
    question: dict[int, int] = {}
    leaves: list[int] = []
    ahead: list[int] = []  # splits whose right part is still to come
    for at, node in enumerate(tree.nodes):
        if at and tree.nodes[at - 1] is not None:
            left_of[at - 1] = at
        elif at:
            right_of[ahead.pop()] = at
        if node is None:
            leaves.append(at)
        else:
            question[at] = place[len(question)]
            ahead.append(at)
    slots, levels, nodes = {0: 0}, [], [0]
    while nodes := [at for at in nodes if at in question]:
        start, count = len(slots), len(nodes)
        parents = np.array([slots[at] for at in nodes], np.intp)
        for part in (left_of, right_of):
            for at in nodes:
                slots[part[at]] = len(slots)
        levels.append(
            _Level(
                parents,
                np.array([question[at] for at in nodes], np.intp),
                slice(start, start + count),
                slice(start + count, start + 2 * count),
            )
        )
        nodes = [part[at] for part in (left_of, right_of) for at in nodes]
    return levels, np.array([slots[at] for at in leaves], np.intp)
