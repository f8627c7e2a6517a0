"""Tables with the columns that a profile's descriptors make of them.

A profile may hold, in place of a column of texts, what describes them (`said.characters`, …). A table
that is to be counted in its cells is described on the way, by the same code as on a device.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from whimbrel_core.errors import InputError, ProfileError
from whimbrel_core.profile.descriptors import Text, describer
from whimbrel_packager.profiles.typed import as_words, typed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from whimbrel_core.profile.descriptors import Descriptor
    from whimbrel_core.profile.feature import Feature
    from whimbrel_core.profile.layout import Layout
    from whimbrel_packager.profiles.source import Piece, Source

    Array = np.ndarray[Any, Any]


def as_in(source: Source, layout: Layout) -> Source:
    """Return a table with the descriptions that ``layout`` has features for, where it can have them.

    A text is a column of its own. A vector or a picture is a row of columns without names: x0, x1, ….
    """
    read: dict[str, tuple[Descriptor, tuple[str, ...]]] = {}
    for descriptor in layout.descriptors:
        columns = _columns(descriptor)
        if set(columns) <= set(source.columns):
            read[descriptor.name] = descriptor, columns
    made = {f.name: f for f in layout.features if f.tensor in read}
    return Described(source, read, made) if made else source


def _columns(descriptor: Descriptor) -> tuple[str, ...]:
    """Return the columns of a table that a descriptor reads."""
    if isinstance(descriptor, Text):
        return (descriptor.tensor,)
    size = descriptor.size if hasattr(descriptor, "size") else int(np.prod(descriptor.shape))
    return tuple(f"x{i}" for i in range(size))


class Described:
    """A table in which some columns are replaced by what describes them.

    Args:
        source: the table.
        read: descriptors by the tensor that they make, with the columns that each reads.
        made: features that they make, by name.
    """

    def __init__(
        self,
        source: Source,
        read: dict[str, tuple[Descriptor, tuple[str, ...]]],
        made: dict[str, Feature],
    ) -> None:
        self.name = source.name
        self._source, self._read, self._made = source, read, made
        self._describe = {name: describer(descriptor) for name, (descriptor, _) in read.items()}
        used = {column for _, columns in read.values() for column in columns}
        self.columns = (*(name for name in source.columns if name not in used), *made)

    def pieces(
        self, columns: Sequence[str], words: frozenset[str], far: Callable[[str], None]
    ) -> Iterator[Piece]:
        """Yield the rows in pieces, as the table does."""
        tensors = dict.fromkeys(self._made[name].tensor for name in columns if name in self._made)
        own = [name for name in columns if name not in self._made]
        needed = [column for tensor in tensors for column in self._read[tensor][1]]
        texts = frozenset(
            column
            for tensor in tensors
            for column in self._read[tensor][1]
            if isinstance(self._read[tensor][0], Text)
        )
        asked = tuple(dict.fromkeys([*own, *needed]))
        for piece in self._source.pieces(asked, words | texts, far):
            yield _Piece(
                piece, self._made, {name: self._described(name, piece) for name in tensors}
            )

    def _described(self, tensor: str, piece: Piece) -> Array:
        descriptor, columns = self._read[tensor]
        try:
            if isinstance(descriptor, Text):
                raw = piece[columns[0]]
                return self._describe[tensor](as_words(typed(raw), raw))
            found = [typed(piece[name]) for name in columns]
            return self._describe[tensor](np.column_stack([column.data for column in found]))
        except ProfileError as error:
            raise InputError(
                f"{self.name}: {error.message}", hint=error.hint, code="input.data"
            ) from error


class _Piece:
    def __init__(self, piece: Piece, made: dict[str, Feature], described: dict[str, Array]) -> None:
        self._piece, self._made, self._tensors = piece, made, described

    def __len__(self) -> int:
        return len(self._piece)

    def __getitem__(self, name: str) -> Any:  # noqa: ANN401 - a Series or an array
        feature = self._made.get(name)
        if feature is None:
            return self._piece[name]
        return self._tensors[feature.tensor][:, feature.column]
