"""A uniform sample of the rows of a table that is read once, in pieces, whatever its length.

Every row draws a number, and the rows with the smallest ones are kept: each set of rows is as
likely as any other, equal data give an equal sample, and pieces of any size the same one. Cells are
cut by it; what is counted in them afterwards is every row.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from whimbrel_core.errors import ProfileError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

_SEED = 0x57B1
_SLACK = 2  # pieces are gathered up to so many times the sample, then the smallest are kept


class Sample:
    """The sample of a table of numbers (float32) and words (objects).

    Args:
        size: rows that are kept; a table of no more is kept whole, in its order.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self.rows = 0
        self._dice = np.random.default_rng(_SEED)
        self._keys: list[NDArray[np.float64]] = []
        self._pieces: list[dict[str, NDArray[Any]]] = []
        self._held = 0
        self._limit = 1.0
        self._extremes: dict[str, tuple[float, float]] = {}

    def add(self, columns: Mapping[str, NDArray[Any]]) -> None:
        """Look at a piece of the table: columns (n,) of equal length, the same names every time.

        Raises:
            ProfileError: other names than before.
        """
        rows = len(next(iter(columns.values()), ()))
        if self._pieces and list(self._pieces[0]) != list(columns):
            raise ProfileError("the pieces of a table have different columns")
        self._note_extremes(columns)
        self.rows += rows
        keys = self._dice.random(rows)
        # Once the sample is full, nearly all rows of a long table are past its largest number.
        chosen = np.flatnonzero(keys < self._limit) if self._limit < 1 else None
        if chosen is None:
            self._pieces.append({name: np.array(values) for name, values in columns.items()})
            self._keys.append(keys)
        else:
            self._pieces.append({name: values[chosen] for name, values in columns.items()})
            self._keys.append(keys[chosen])
        self._held += len(self._keys[-1])
        if self._held > _SLACK * self.size:
            self._shrink()

    def columns(self) -> dict[str, NDArray[Any]]:
        """Return the sample; numbers also have the table's smallest and largest one among them.

        So columns of numbers may be two longer than others.
        """
        if self._held > self.size:
            self._shrink()
        names = list(self._pieces[0]) if self._pieces else []
        found = {name: np.concatenate([piece[name] for piece in self._pieces]) for name in names}
        for name, ends in self._extremes.items():
            values = found[name]
            missing = [end for end in ends if not (values == np.float32(end)).any()]
            if missing:
                found[name] = np.append(values, np.array(missing, np.float32))
        return found

    def _note_extremes(self, columns: Mapping[str, NDArray[Any]]) -> None:
        for name, values in columns.items():
            if values.dtype.kind != "f":
                continue
            finite = values[np.isfinite(values)]
            if len(finite):
                low, high = float(finite.min()), float(finite.max())
                before = self._extremes.get(name, (low, high))
                self._extremes[name] = (min(before[0], low), max(before[1], high))

    def _shrink(self) -> None:
        keys = np.concatenate(self._keys)
        kept = np.sort(np.argpartition(keys, self.size - 1)[: self.size])
        self._limit = float(keys[kept].max())
        names = list(self._pieces[0])
        whole = {n: np.concatenate([piece[n] for piece in self._pieces])[kept] for n in names}
        self._pieces, self._keys, self._held = [whole], [keys[kept]], len(kept)
