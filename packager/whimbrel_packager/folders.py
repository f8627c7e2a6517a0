"""Folders of data files: the parts of one table, as engines of tables write them.

All files of a folder are read, sorted by name, and are of one kind with equal columns. Names that
begin with ``_`` or ``.`` are marks of whoever wrote it (``_SUCCESS``) and left out. A folder whose
files are not its table is refused: a log says which of them count, or folders below hold more.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from whimbrel_core.errors import InputError, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

KINDS = (".parquet", ".csv")
MAX_FILES = 4096
_MARKS = ("_", ".")
_LOGS = {"_delta_log": "Delta Lake", ".hoodie": "Hudi"}
_UNKNOWN = "null"  # type of a column that is missing in all rows of a file
_ONE_TABLE = "the files of a folder are one table: write them with equal columns"


def parts(folder: Path, kinds: Sequence[str] = KINDS) -> tuple[Path, ...]:
    """Return the data files of a folder, sorted by name.

    Raises:
        UsageError: it cannot be read as one table, with what stands against it.
    """
    try:
        entries = sorted(folder.iterdir())
    except OSError as error:
        raise UsageError(f"{folder} cannot be read: {error.strerror}") from error
    for entry in entries:
        if entry.name in _LOGS:
            raise UsageError(
                f"{folder} is a table of {_LOGS[entry.name]}, whose log says which files count",
                hint="write the version that is meant as Parquet files in a folder of their own",
            )
    kept = [entry for entry in entries if not entry.name.startswith(_MARKS)]
    readable = ", ".join(kinds)
    for entry in kept:
        if entry.is_dir():
            raise UsageError(
                f"{folder} holds the folder {entry.name}, and none below it is read",
                hint="give a folder of files alone: one partition, or the table written without any",
            )
        if not _kind(entry, kinds):
            raise UsageError(
                f"{folder} holds {entry.name}, which is none of {readable}",
                hint="move it elsewhere; names that begin with _ or . are left out",
            )
    if not kept:
        raise UsageError(
            f"the folder {folder} holds no data", hint=f"files that are read are {readable}"
        )
    other = next((e for e in kept if _kind(e, kinds) != _kind(kept[0], kinds)), None)
    if other is not None:
        raise UsageError(
            f"{folder} holds files of several kinds, as {kept[0].name} and {other.name}",
            hint="keep one kind in a folder: they may be the same rows twice",
        )
    if len(kept) > MAX_FILES:
        raise UsageError(
            f"{folder} holds {len(kept):,} files, {MAX_FILES:,} are read",
            hint="write the table in fewer files",
        )
    return tuple(kept)


def require_equal(schemas: Iterable[tuple[Path, Mapping[str, str]]]) -> None:
    """Refuse files whose columns differ from those of the first.

    Args:
        schemas: by file, the type of each column; "" where the file does not say.

    Raises:
        InputError: names the file and the column.
    """
    rest = iter(schemas)
    first, columns = next(rest)
    known = {name: (kind, first) for name, kind in columns.items()}
    for file, found in rest:
        for name, kind in found.items():
            if name not in known:
                raise _differs(file, f"the column {name!r}, which {first.name} does not have")
            usual, where = known[name]
            if usual in ("", _UNKNOWN):
                known[name] = (kind, file)
            elif kind not in ("", _UNKNOWN, usual):
                raise _differs(file, f"{kind} in column {name!r}, which is {usual} in {where.name}")
        for name in known:
            if name not in found:
                raise _differs(file, f"no column {name!r}, which {first.name} has")


def digest(files: Iterable[tuple[str, str]]) -> str:
    """Return the SHA-256 of a folder, from the names and digests of its files in order."""
    whole = hashlib.sha256()
    for name, own in files:
        whole.update(f"{name}\0{own}\n".encode())
    return whole.hexdigest()


def _differs(file: Path, what: str) -> InputError:
    return InputError(f"{file} has {what}", hint=_ONE_TABLE, code="input.data")


def _kind(file: Path, kinds: Sequence[str]) -> str:
    """Return the longest of ``kinds`` that a file's name ends in, or ""."""
    name = file.name.lower()
    return max((kind for kind in kinds if name.endswith(kind)), key=len, default="")
