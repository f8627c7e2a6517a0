"""Counts the one row of a single-row request from plain Python values, cheaply.

Most requests on a device carry one row. For them the general path of `Accumulator.update` costs
half of what the model does. The worker has each value as a Python number or word anyway, because
JSON was read into them and is written from them; here everything that depends on the layout alone
is worked out once, and a row is picked out of those values and packed into the accumulator in one
call. What does not fit the plan (an unusual shape, an absent tensor, a value that needs care) is
left to the general path, which also knows how to complain.
"""

from __future__ import annotations

from operator import itemgetter
from typing import TYPE_CHECKING, Any, NamedTuple

from whimbrel_core.errors import ProfileError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray

    from whimbrel_core.profile.counting.accumulator import Accumulator
    from whimbrel_core.profile.layout import Layout

_NAN = float("nan")


class _Words(NamedTuple):
    """Where a categorical feature stands in the ring's row, and the codes of its words."""

    position: int
    codes: dict[object, float]
    other: float


class RowWriter:
    """Writes single rows of one layout.

    A *row* is one flat sequence: the values of every tensor in ``tensors``, in that order.

    Args:
        layout: of the profile.
        width: of a row in the accumulator: the features, and the score where none is it.
        tensors: name and values per row of every input and output.
        unknown: called with the index of a categorical feature and a word that it lacks.
    """

    def __init__(
        self,
        layout: Layout,
        width: int,
        tensors: Sequence[tuple[str, int]],
        *,
        unknown: Callable[[int, object], None] | None = None,
    ) -> None:
        self._unknown = unknown
        self._tensors = tuple(tensors)
        self._length = sum(size for _, size in tensors)
        self._words = [
            _Words(index, _codes(feature.vocabulary), float(len(feature.vocabulary)))
            for index, feature in enumerate(layout.features)
            if feature.kind == "categorical"
        ]
        # The largest of these values is the score; None: the score is picked like a feature.
        self._claims: slice | None = None
        positions = self._positions(layout, width)
        self.able = positions is not None
        self._pick: Callable[[Sequence[Any]], Sequence[Any]] | None = None
        if positions is not None and positions != list(range(self._length)):
            first = positions[0]
            self._pick = (
                itemgetter(*positions)
                if len(positions) > 1
                else itemgetter(slice(first, first + 1))  # a sequence for one position, too
            )

    def write(self, accumulator: Accumulator, row: Sequence[Any], latency_us: float | None) -> bool:
        """Count ``row`` and its request; return False when the general path must do it.

        Args:
            accumulator: of the same layout.
            row: the values of every tensor, flat.
            latency_us: of the request; None counts no request.
        """
        if not self.able or len(row) != self._length:
            return False
        values = row if self._pick is None else self._pick(row)
        if self._words or self._claims is not None:
            found = self._looked_up(row, values)
            if found is None:
                return False
            values = found
        try:
            accumulator.update_values(values, latency_us)
        except ProfileError:
            return False
        return True

    def write_tensors(
        self,
        accumulator: Accumulator,
        tensors: Mapping[str, NDArray[Any]],
        latency_us: float | None,
    ) -> bool:
        """Do the same with the row in ``tensors`` (1, …)."""
        if not self.able:
            return False
        row: list[Any] = []
        for name, size in self._tensors:
            tensor = tensors.get(name)
            if tensor is None or tensor.size != size:
                return False
            row += tensor.ravel().tolist()
        return self.write(accumulator, row, latency_us)

    def _looked_up(self, row: Sequence[Any], values: Sequence[Any]) -> list[Any] | None:
        """Return ``values`` with codes for words and the score; None when one needs care."""
        found = list(values)
        for position, codes, other in self._words:
            word = found[position]
            if isinstance(word, (str, bytes)):
                code = codes.get(word)
                if code is None:
                    code = other
                    if self._unknown is not None:
                        self._unknown(position, word)
                found[position] = code
            elif word is None:
                found[position] = _NAN
            else:
                return None
        if self._claims is not None:
            claims = row[self._claims]
            total = sum(claims)
            if total != total:  # noqa: PLR0124 - NaN, which `max` would overlook
                return None
            found.append(max(claims))
        return found

    def _positions(self, layout: Layout, width: int) -> list[int] | None:
        """Return where in a row the ring's values are; None when one is not there."""
        sizes = dict(self._tensors)
        starts: dict[str, int] = {}
        at = 0
        for name, size in self._tensors:
            starts[name] = at
            at += size
        positions = []
        for feature in layout.features:
            if feature.column >= sizes.get(feature.tensor, 0):
                return None
            positions.append(starts[feature.tensor] + feature.column)
        if width > len(layout.features):
            name = layout.score_tensor or ""
            size = sizes.get(name, 0)
            if size not in {1, len(layout.classes)}:
                return None
            start = starts[name]
            if size > 1 and layout.positive is None:
                self._claims = slice(start, start + size)
            else:
                positions.append(start + (layout.positive or 0 if size > 1 else 0))
        return positions


def _codes(vocabulary: Sequence[str]) -> dict[object, float]:
    codes: dict[object, float] = {}
    for code, word in enumerate(vocabulary):
        codes[word] = codes[word.encode()] = float(code)
    return codes
