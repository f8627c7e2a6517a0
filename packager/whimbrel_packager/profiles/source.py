"""Sources: tables that are read in pieces, as often as needed, whatever their length.

A source gives the same pieces each time it is read: the first reading learns what the columns are,
the second counts them. A short table is kept in memory between the two.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from whimbrel_packager.profiles.typed import Column, typed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

_HELD_BYTES = 192 << 20


class Piece(Protocol):
    """Some rows of a table: raw columns by name."""

    def __len__(self) -> int:
        """Return the number of rows."""

    def __getitem__(self, name: str) -> Any:  # noqa: ANN401 - a Series or an array
        """Return a column."""


@dataclass(frozen=True)
class Columns:
    """A piece made of arrays."""

    rows: int
    arrays: Mapping[str, Any]

    def __len__(self) -> int:
        return self.rows

    def __getitem__(self, name: str) -> Any:  # noqa: ANN401 - an array
        """Return a column."""
        return self.arrays[name]


class Source(Protocol):
    """A table that can be read again.

    Attributes:
        name: what a person calls it.
        columns: names, in order.
    """

    name: str
    columns: tuple[str, ...]

    def pieces(
        self, columns: Sequence[str], words: frozenset[str], far: Callable[[str], None]
    ) -> Iterator[Piece]:
        """Yield the rows in pieces.

        Args:
            columns: that are wanted.
            words: columns to read as text, where a file does not say what they are.
            far: is told how far it is, ``3 of 9 MB``.

        Raises:
            InputError: it cannot be read as what it should be.
        """


class Typed:
    """Typed pieces of some columns of a source, kept in memory if they are few.

    Args:
        source: of the pieces.
        columns: that are wanted.
        again: whether the same pieces are read a second time.
    """

    def __init__(self, source: Source, columns: Sequence[str], *, again: bool = True) -> None:
        self.source, self.columns = source, tuple(columns)
        self._again = again
        self._held: list[tuple[int, dict[str, tuple[Column, Any]]]] | None = []
        self._held_words: frozenset[str] | None = None

    def read(
        self, words: frozenset[str], far: Callable[[str], None]
    ) -> Iterator[tuple[int, dict[str, tuple[Column, Any]]]]:
        """Yield (rows, columns), each column typed and as it came."""
        if self._held_words == words and self._held is not None:
            yield from self._held
            return
        held: list[tuple[int, dict[str, tuple[Column, Any]]]] | None = [] if self._again else None
        size = 0
        for piece in self.source.pieces(self.columns, words, far):
            columns = {name: (typed(piece[name]), piece[name]) for name in self.columns}
            if held is not None:
                size += sum(_bytes(column, raw) for column, raw in columns.values())
                if size > _HELD_BYTES:
                    held = None
                else:
                    held.append((len(piece), columns))
            yield len(piece), columns
        self._held, self._held_words = held, words


def _bytes(column: Column, raw: Any) -> int:  # noqa: ANN401 - a Series or an array
    words = column.data.dtype == object
    own = len(column.data) * (64 if words else 4)  # a word with its header, about
    return own + int(getattr(raw, "nbytes", 0))
