"""A folder of data files as one source: the pieces of its files, one after the other."""

from __future__ import annotations

from typing import TYPE_CHECKING

from whimbrel_packager import folders
from whimbrel_packager.profiles import files

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from whimbrel_packager.profiles.source import Piece, Source

# Arrays of an npz have names and shapes of their own, and are rows of nothing larger.
KINDS = tuple(suffix for suffix in files.SUFFIXES if suffix != ".npz")


def opened(path: Path) -> Source:
    """Return a folder or a file as a source; errors as `Folder` and `files.opened`."""
    return Folder(path) if path.is_dir() else files.opened(path)


class Folder:
    """The files of a folder, read in the order of their names.

    Raises:
        UsageError: the folder is not one table.
        InputError: a file is malformed, or has other columns than the first.
    """

    def __init__(self, path: Path) -> None:
        parts = folders.parts(path, KINDS)
        self._sources: list[Source] = []
        schemas: list[tuple[Path, dict[str, str]]] = []
        for file in parts:
            source = files.opened(file)
            self._sources.append(source)
            types = getattr(source, "types", {})
            schemas.append((file, {name: types.get(name, "") for name in source.columns}))
        folders.require_equal(schemas)
        self.name = path.resolve().name
        self.columns = self._sources[0].columns

    def pieces(
        self, columns: Sequence[str], words: frozenset[str], far: Callable[[str], None]
    ) -> Iterator[Piece]:
        """As `Source.pieces`."""
        total = len(self._sources)
        for number, source in enumerate(self._sources, start=1):
            at = f"file {number} of {total}"
            far(at)
            yield from source.pieces(columns, words, lambda what, at=at: far(f"{at}: {what}"))  # type: ignore[misc]
