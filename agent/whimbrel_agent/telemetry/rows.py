"""Puts the tensors of one single-row request into the accumulator's row order, cheaply.

Most requests on a device carry one row. For them the general path of `Accumulator.update` costs
more than the model does; here everything that depends on the layout alone is worked out once, and
a row is a handful of slice assignments. What does not fit the plan (an unusual shape, an absent
tensor, a type that needs care) is left to the general path, which also knows how to complain.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from whimbrel_core.profile.accumulator import Accumulator
    from whimbrel_core.profile.layout import Layout

# Casting these to float32 neither overflows nor warns.
_SAFE = frozenset("biu")
_NAN = float("nan")


class _Numbers(NamedTuple):
    """Columns of one numeric tensor and where they go."""

    tensor: str
    target: NDArray[np.float32]
    width: int


class _Words(NamedTuple):
    """One string tensor of one column and where its code goes."""

    tensor: str
    position: int
    codes: dict[object, float]
    other: float


class RowWriter:
    """Writes single rows of one layout.

    Args:
        layout: of the profile.
        width: of a row in the accumulator: the features, and the score where none is it.
    """

    def __init__(self, layout: Layout, width: int) -> None:
        self._row = np.full(width, np.nan, np.float32)
        self._numbers: list[_Numbers] = []
        self._words: list[_Words] = []
        self._admitted = False
        self.able = self._plan(layout, width)

    def write(self, accumulator: Accumulator, tensors: Mapping[str, NDArray[Any]]) -> bool:
        """Count the row in ``tensors`` (1, …); return False when the general path must do it."""
        row = self._row
        try:
            if not self._admitted:
                self._admit(tensors)
            for name, target, count in self._numbers:
                tensor = tensors[name]
                if tensor.size != count:
                    return False
                target[:] = tensor if tensor.ndim < 3 else tensor.reshape(-1)  # noqa: PLR2004
            for name, position, codes, other in self._words:
                word = tensors[name].item()
                code = codes.get(word)
                row[position] = code if code is not None else _NAN if word is None else other
        except (KeyError, ValueError, TypeError):
            return False
        accumulator.update_row(row)
        return True

    def _admit(self, tensors: Mapping[str, NDArray[Any]]) -> None:
        """Look at the types once: a model's tensors never change theirs."""
        kinds = [tensors[name].dtype for name, _, _ in self._numbers]
        self.able = all(kind == np.float32 or kind.kind in _SAFE for kind in kinds)
        if not self.able:
            msg = "a tensor needs care on its way to float32"
            raise TypeError(msg)
        self._admitted = True

    def _plan(self, layout: Layout, width: int) -> bool:
        """Group the features by tensor; return whether every one of them is covered."""
        features = layout.features
        start = 0
        while start < len(features):
            first = features[start]
            if first.kind == "categorical":
                if first.column:
                    return False
                codes: dict[object, float] = {
                    word: float(code) for code, word in enumerate(first.vocabulary)
                }
                self._words.append(_Words(first.tensor, start, codes, float(len(first.vocabulary))))
                start += 1
                continue
            end = start
            while (
                end < len(features)
                and features[end].tensor == first.tensor
                and features[end].kind != "categorical"
            ):
                end += 1
            columns = tuple(feature.column for feature in features[start:end])
            if columns != tuple(range(end - start)):
                return False
            self._numbers.append(_Numbers(first.tensor, self._row[start:end], end - start))
            start = end
        # A score apart from the features needs the largest of its row: the general path's work.
        return width == len(features)
