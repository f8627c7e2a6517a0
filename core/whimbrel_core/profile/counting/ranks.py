"""How many values of a column are at most each of some numbers, by sorting the column.

Integers sort faster than floats, by a sixth. The bits of a float, read as an integer, are in order
for positive numbers and in reverse order for negative ones, which come first. So columns without a
gap are sorted by their bits, and the rank of a negative number is counted from the other end of the
negative ones. Where a number is missing, floats are sorted as such: NaN comes last.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from whimbrel_core.profile.counting.tables import Counts, Floats32


class Ranks:
    """Ranks of fixed queries in columns; the results of all queries are one flat array.

    Args:
        queries: for each result in turn, which column, and ascending numbers.
    """

    def __init__(self, queries: Sequence[tuple[int, Floats32]]) -> None:
        ends = np.cumsum([len(numbers) for _, numbers in queries])
        starts = [int(end) - len(numbers) for end, (_, numbers) in zip(ends, queries, strict=True)]
        self._queries = [
            (column, numbers, start, start + len(numbers))
            for start, (column, numbers) in zip(starts, queries, strict=True)
        ]
        self._found = np.zeros(int(ends[-1]), np.int64)
        self._keys: list[tuple[int, NDArray[np.int32], int, int]] = []
        places, turned, origins, negatives = [], [], [], []
        at = 0
        for start, (column, numbers) in zip(starts, queries, strict=True):
            plain = numbers + np.float32(0)  # −0.0 is no negative number
            negative = plain < 0
            # "At most" a negative number is "not below it" in bits. −1: how many are negative.
            keys = np.append(plain.view(np.int32) - negative, -1).astype(np.int32)
            order = np.argsort(keys, kind="stable")
            place = at + np.argsort(order)
            self._keys.append((column, keys[order], at, at + len(keys)))
            places.append(place[:-1])
            turned.append(start + np.flatnonzero(negative))
            origins.append(np.repeat(place[-1], negative.sum()))
            negatives.append(place[-1])
            at += len(keys)
        self._raw = np.zeros(at, np.int64)
        self._places, self._turned = np.concatenate(places), np.concatenate(turned)
        self._origins, self._negatives = np.concatenate(origins), np.array(negatives)

    def of_floats(self, columns: Floats32) -> Counts:
        """Sort ``columns`` (width, n) in place, NaN last, and return the ranks of all queries."""
        columns.sort(axis=1)
        found = self._found
        for column, numbers, start, stop in self._queries:
            found[start:stop] = columns[column].searchsorted(numbers, "right")
        return found

    def of_bits(self, columns: Floats32) -> tuple[Counts, Counts]:
        """Do the same where no number is NaN, and return how many are negative per result, too.

        ``columns`` are in the order of their bits afterwards: the negative ones first, from the
        largest to the smallest, then the others, ascending.
        """
        bits = columns.view(np.int32)
        bits.sort(axis=1)
        raw = self._raw
        for column, keys, start, stop in self._keys:
            raw[start:stop] = bits[column].searchsorted(keys, "right")
        found = raw.take(self._places)
        found[self._turned] = raw.take(self._origins) - found.take(self._turned)
        return found, raw.take(self._negatives)
