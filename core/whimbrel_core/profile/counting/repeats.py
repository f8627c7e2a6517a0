"""Count values and whole rows that are the same as in the row before.

A sensor that is stuck, or a sender that sends a row twice, repeats itself. The order of rows is
known only before the columns are sorted, so this is counted first. Missing equals missing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from whimbrel_core.profile.counting.tables import Floats32, Tables
    from whimbrel_core.profile.layout import Layout


class Repeats:
    """What repeats in rows of one layout. Its scratch memory makes it one thread's."""

    def __init__(self, layout: Layout) -> None:
        self._features = len(layout.features)
        self._inputs = np.flatnonzero([feature.role == "input" for feature in layout.features])
        self._scratch = np.empty((self._features, 0), np.bool_)

    def count(self, columns: Floats32, rows: Floats32, into: Tables, *, whole: bool) -> None:
        """Add what repeats to ``into``.

        The row before the first is ``into.last``, unless ``into`` has no rows yet.

        Args:
            columns: (width, n) in the order of rows.
            rows: (n, width), the same.
            into: where to.
            whole: no number is missing.
        """
        columns = columns[: self._features]
        if into.rows[0]:
            # A float64 holds what was a float32, so equal ones are equal here, too.
            self._count_first(rows[0], into)
        into.last[:] = rows[-1]
        if len(rows) > self._scratch.shape[1]:
            self._scratch = np.empty((self._features, len(rows)), np.bool_)
        same = self._scratch[:, : len(rows) - 1]
        np.equal(columns[:, 1:], columns[:, :-1], out=same)
        if not whole:
            missing = np.isnan(columns)
            same |= missing[:, 1:] & missing[:, :-1]
        if not same.any():
            return
        repeats = np.array([np.count_nonzero(row) for row in same])
        into.repeats += repeats
        if len(self._inputs) and repeats[self._inputs].all():
            both = np.logical_and.reduce(same[self._inputs], axis=0)
            into.duplicates += np.count_nonzero(both)

    def _count_first(self, first: Floats32, into: Tables) -> None:
        same = [
            a == b or (a != a and b != b)  # noqa: PLR0124 — NaN
            for a, b in zip(first.tolist(), into.last.tolist(), strict=True)
        ]
        if any(same):
            same = same[: self._features]
            into.repeats += same
            into.duplicates += len(self._inputs) > 0 and all(same[i] for i in self._inputs)
