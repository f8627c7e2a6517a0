"""Tables as pandas reads them: a CSV or Parquet file, or a folder of files that are one table."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from whimbrel_core.errors import InputError, UsageError
from whimbrel_packager import folders

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    Table = Any  # pandas ships no types

_NUMBERS, _WORDS = "numbers", "words"


def read(path: Path) -> Table:
    """Return a file or a folder as a DataFrame; its rows in the order of the files' names.

    Raises:
        UsageError: pyarrow is missing, or the folder is not one table.
        InputError: a file cannot be read, or has other columns than the first.
    """
    return _folder(path) if path.is_dir() else _file(path)


def _file(path: Path) -> Table:
    import pandas as pd

    try:
        return pd.read_csv(path) if path.suffix.lower() == ".csv" else pd.read_parquet(path)
    except ImportError as error:
        raise _no_pyarrow(path) from error
    except (ValueError, OSError, UnicodeDecodeError) as error:
        raise _unreadable(path, error) from error


def _folder(path: Path) -> Table:
    import pandas as pd

    files = folders.parts(path)
    if files[0].suffix.lower() == ".parquet":
        folders.require_equal((file, _schema(file)) for file in files)  # before any is read
    parts = [_file(file) for file in files]
    folders.require_equal(
        (file, {str(name): "" for name in part.columns})
        for file, part in zip(files, parts, strict=True)
    )
    if files[0].suffix.lower() == ".csv":
        _require_alike(files, parts)
    names = parts[0].columns
    # A part without rows knows no types.
    filled = [part[names] for part in parts if len(part)] or parts[:1]
    return pd.concat(filled, ignore_index=True)


def _require_alike(files: Sequence[Path], parts: Sequence[Table]) -> None:
    """Refuse a column that is numbers in one CSV file and words in another."""
    folders.require_equal(
        (file, {str(name): _content(part[name]) for name in part.columns})
        for file, part in zip(files, parts, strict=True)
    )


def _content(column: Table) -> str:
    import pandas as pd

    if pd.api.types.is_bool_dtype(column) or pd.api.types.is_numeric_dtype(column):
        return _NUMBERS if column.notna().any() else ""
    present = column.dropna()
    if not len(present):
        return ""
    return _WORDS if pd.api.types.infer_dtype(present) == "string" else _NUMBERS


def _schema(file: Path) -> dict[str, str]:
    try:
        from pyarrow import ArrowException, parquet
    except ImportError as error:
        raise _no_pyarrow(file) from error
    try:
        return {field.name: str(field.type) for field in parquet.read_schema(file)}
    except (ArrowException, OSError, ValueError) as error:
        raise _unreadable(file, error) from error


def _no_pyarrow(path: Path) -> UsageError:
    return UsageError(
        f"{path}: reading parquet needs pyarrow, which is not installed here",
        hint="pip install pyarrow, or save the data as .npz or .csv",
    )


def _unreadable(path: Path, error: BaseException) -> InputError:
    first = str(error).splitlines()[0] if str(error) else type(error).__name__
    return InputError(f"{path} cannot be read: {first}", code="input.data")
