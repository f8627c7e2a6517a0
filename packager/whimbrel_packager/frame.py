"""Reference data: named columns of equal length, read from a file, a DataFrame or an array.

A column is an array of numbers (float, integer or bool) or an object array of `str` and None. A
*block* is a column of several numbers a row, of shape (rows, …): an image, a sequence, a matrix
beside another one. Networks alone read blocks, which keep integers of 8 and 16 bits as they are.
Numbers that a model reads are rounded to float32 here, once: a device sees nothing finer, so the
source model is asked about the same values.
"""

from __future__ import annotations

import zipfile
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from whimbrel_core.errors import InputError, UsageError
from whimbrel_packager import tables

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    Array = np.ndarray[Any, Any]

_TABLE = 2  # dimensions: rows and columns
_NARROW_BYTES = 2
SUFFIXES = (".npz", ".csv", ".parquet")


@dataclass(frozen=True)
class Frame:
    """Columns by name, each of shape (rows,), or (rows, …) for a block, in order."""

    columns: dict[str, Array]

    def __post_init__(self) -> None:
        """Refuse columns of unequal length."""
        lengths = {name: len(column) for name, column in self.columns.items()}
        if len(set(lengths.values())) > 1:
            shown = ", ".join(f"{name} {n}" for name, n in list(lengths.items())[:5])
            raise InputError(f"the columns have different lengths: {shown}", code="input.data")

    @property
    def rows(self) -> int:
        """Number of rows."""
        return len(next(iter(self.columns.values()), ()))

    @property
    def names(self) -> tuple[str, ...]:
        """Column names, in order."""
        return tuple(self.columns)

    @property
    def blocks(self) -> tuple[str, ...]:
        """Names of the columns that hold several numbers a row."""
        return tuple(name for name, column in self.columns.items() if column.ndim > 1)

    @property
    def row_bytes(self) -> int:
        """Bytes of one row, at most: what limits how many rows are held at once."""
        sizes = (int(np.prod(c.shape[1:])) * c.itemsize for c in self.columns.values())
        return max(1, sum(sizes))

    def take(self, rows: Array | slice) -> Frame:
        """Return the rows of an index, mask or slice."""
        return Frame({name: column[rows] for name, column in self.columns.items()})

    def select(self, names: Sequence[str], *, what: str) -> Frame:
        """Return some columns, in the order of ``names``.

        Raises:
            InputError: a column is missing; ``what`` says who needs it.
        """
        missing = [name for name in names if name not in self.columns]
        if missing:
            raise InputError(
                f"the data has no column {', '.join(map(repr, missing[:5]))}, which {what} needs",
                hint=f"its columns are {', '.join(self.names[:20])}",
                code="input.column",
            )
        return Frame({name: self.columns[name] for name in names})

    def without(self, names: Sequence[str]) -> Frame:
        """Return all columns but some."""
        return Frame({name: c for name, c in self.columns.items() if name not in names})

    def save(self, path: Path) -> None:
        """Write the columns to an npz without pickles; `load` reads them back."""
        arrays: dict[str, Array] = {"names": np.array(self.names, dtype=np.str_)}
        for i, column in enumerate(self.columns.values()):
            if column.dtype == object:
                missing = np.array([value is None for value in column], dtype=bool)
                arrays[f"missing_{i}"] = missing
                words = [value or "" for value in column]
                arrays[f"column_{i}"] = np.array(words, dtype=np.str_)
            else:
                arrays[f"column_{i}"] = column
        with path.open("wb") as file:
            np.savez(file, **arrays)  # type: ignore[arg-type]

    @classmethod
    def load(cls, path: Path) -> Frame:
        """Read what `save` wrote."""
        columns: dict[str, Array] = {}
        with np.load(path, allow_pickle=False) as archive:
            for i, name in enumerate(archive["names"]):
                column = archive[f"column_{i}"]
                if f"missing_{i}" in archive:
                    column = column.astype(object)
                    column[archive[f"missing_{i}"]] = None
                columns[str(name)] = column
        return cls(columns)


def datatype(column: Array) -> str:
    """Return the OIP datatype that a column has as a model input: FP32, INT64 or BYTES."""
    return {"f": "FP32", "O": "BYTES"}.get(column.dtype.kind, "INT64")


def narrow(column: Array | None) -> str:
    """Return the OIP datatype of a block of integers of 8 or 16 bits, "" of anything else."""
    if column is None or not _is_narrow(column):
        return ""
    return f"{'U' if column.dtype.kind == 'u' else ''}INT{8 * column.itemsize}"


def read(path: Path, times: Sequence[str] = ()) -> Frame:
    """Read reference data from ``.npz``, ``.csv`` or ``.parquet``; ``times`` as in `of`.

    A folder holds the parts of one table, ``.csv`` or ``.parquet``; see `folders`.

    Raises:
        InputError: not readable as what its name says, empty, or with pickles.
        UsageError: another kind of file.
    """
    suffix = path.suffix.lower()
    if not path.is_dir():
        if suffix not in SUFFIXES:
            raise UsageError(
                f"{path}: reference data is read from {', '.join(SUFFIXES)}, or a folder of files, "
                f"not {suffix or 'this'!r}"
            )
        if not path.is_file():
            raise UsageError(f"there is no file {path}", hint="give the reference data's path")
    alone = suffix == ".npz" and path.is_file()
    frame = _read_npz(path, times) if alone else of(tables.read(path), times)
    if not frame.rows:
        raise InputError(f"{path} has no rows", code="input.data")
    return frame


def of(data: Any, times: Sequence[str] = ()) -> Frame:  # noqa: ANN401 - pandas ships no types
    """Return a DataFrame, a mapping of columns, or an (n, F) or (n, …) array as a frame.

    Args:
        data: the table.
        times: columns that no model reads, and so may hold dates and times.

    Raises:
        InputError: none of these, or a column that is neither numbers nor strings.
    """
    if isinstance(data, Frame):
        return data
    if hasattr(data, "columns") and hasattr(data, "to_numpy"):
        names = [str(name) for name in data.columns]
        if len(set(names)) != len(names):
            raise InputError("the data has two columns of one name", code="input.data")
        return Frame(
            {str(name): _column_or_time(str(name), data[name], times) for name in data.columns}
        )
    if isinstance(data, dict):
        return Frame({str(name): _column_or_time(str(name), v, times) for name, v in data.items()})
    array = np.asarray(data)
    if array.ndim > _TABLE:
        return Frame({"x": column("x", array)})
    if array.ndim != _TABLE:
        raise InputError(
            f"reference data must be a table, this has the shape {array.shape}", code="input.data"
        )
    return Frame({f"x{i}": column(f"x{i}", array[:, i]) for i in range(array.shape[1])})


def _column_or_time(name: str, values: Any, times: Sequence[str]) -> Array:  # noqa: ANN401 - a Series
    """Return a column; one of ``times`` that holds times as ms since 1970 UTC, NaN for none."""
    if name in times and str(getattr(values, "dtype", "")).startswith("datetime64"):
        # From pandas also with a time zone, of which numpy knows nothing.
        instants = np.asarray(values, dtype="datetime64[ms]")
        numbers = instants.astype(np.int64)
        absent = np.isnat(instants)
        return np.where(absent, np.nan, numbers) if absent.any() else numbers
    return column(name, values.to_numpy() if hasattr(values, "to_numpy") else np.asarray(values))


def column(name: str, values: Array) -> Array:
    """Return values as a column: float32-exact floats, integers, bool, or objects of str and None.

    Raises:
        InputError: the values are neither numbers nor strings.
    """
    kind = values.dtype.kind
    if values.ndim < 1 or (values.ndim > 1 and (kind not in "fiub" or 0 in values.shape[1:])):
        raise InputError(
            f"column {name!r} has the shape {values.shape} and type {values.dtype}; one value per "
            "row is needed, or an array of numbers per row",
            code="input.data",
        )
    if kind == "f":
        with np.errstate(over="ignore"):
            rounded = values.astype(np.float32)
        return rounded if values.dtype == np.float32 else rounded.astype(np.float64)
    if kind in "iu":
        return values.astype(values.dtype.newbyteorder("=") if _is_narrow(values) else np.int64)
    if kind == "b":
        return values
    if kind in "OUST":
        return _objects(name, values)
    raise InputError(
        f"column {name!r} is of type {values.dtype}; numbers and strings can be model inputs",
        hint="convert it to a number before training, e.g. seconds for a time",
        code="input.data",
    )


def _objects(name: str, values: Array) -> Array:
    listed = [_plain(value) for value in values.tolist()]
    present = [value for value in listed if value is not None]
    if all(isinstance(value, str) for value in present):
        return np.array([*listed, None], dtype=object)[:-1]
    if all(isinstance(value, bool) for value in present) and len(present) == len(listed):
        return np.array(listed, dtype=bool)
    if all(isinstance(value, int | float) for value in present):
        numbers = np.array([np.nan if v is None else v for v in listed], dtype=np.float64)
        return column(name, numbers)
    odd = next(value for value in present if not isinstance(value, str))
    raise InputError(
        f"column {name!r} mixes strings with {type(odd).__name__} ({odd!r})",
        hint="make all of the column's values strings, or all numbers",
        code="input.data",
    )


def _plain(value: object) -> object:
    """Return None for whatever stands for "missing" (None, NaN, pandas.NA), else the value."""
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    if value is None or isinstance(value, str):
        return value
    try:
        return None if value != value else value  # noqa: PLR0124 - only NaN is not itself
    except TypeError:  # pandas.NA is neither true nor false
        return None


def _read_npz(path: Path, times: Sequence[str]) -> Frame:
    columns: dict[str, Array] = {}
    try:
        # numpy leaves a file open that it could not read.
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
            # One matrix alone is a table without names; of several, each is an input of its own.
            alone = sum(values.ndim >= _TABLE for values in arrays.values()) == 1
            for name, values in arrays.items():
                if values.ndim == _TABLE and alone:
                    for i in range(values.shape[1]):
                        columns[f"x{i}"] = column(f"x{i}", values[:, i])
                else:
                    columns[name] = _column_or_time(name, values, times)
    except (
        zipfile.BadZipFile,
        zlib.error,
        ValueError,
        OSError,
        KeyError,
        EOFError,
        AttributeError,
        NotImplementedError,
    ) as error:
        raise InputError(
            f"{path} is not an npz of plain arrays: {error}",
            hint="save it with numpy.savez; strings as numpy.str_, never as objects",
            code="input.data",
        ) from error
    return Frame(columns)


def tensors(frame: Frame, matrix: str | None = None) -> Mapping[str, Array]:
    """Return a frame as a model of tables is fed: float32, int64 and strings; see also `feeds`.

    Args:
        frame: the model's input columns.
        matrix: name of the one (n, F) input; None: one (n, 1) input per column.
    """
    if matrix is not None:
        stacked = [c.astype(np.float32) for c in frame.columns.values()]
        return {matrix: np.stack(stacked, axis=1) if stacked else np.zeros((0, 0), np.float32)}
    return {
        name: _tensor(c).reshape(-1, 1) if c.ndim == 1 else _tensor(c)
        for name, c in frame.columns.items()
    }


def words(column: Array) -> Array:
    """Return a column of words without None, which strings of ONNX do not have."""
    # A missing category is the empty word, on a device too.
    return np.array(["" if value is None else value for value in [*column, ""]], object)[:-1]


def _tensor(values: Array) -> Array:
    if values.dtype == object:
        return words(values)
    if _is_narrow(values):
        return values
    return values.astype(np.float32 if values.dtype.kind == "f" else np.int64)


def _is_narrow(values: Array) -> bool:
    """Return whether these are bytes of images or the like, which stay what they are."""
    return values.ndim > 1 and values.dtype.kind in "iu" and values.itemsize <= _NARROW_BYTES
