"""Files as sources: CSV, Parquet, Feather (Arrow) and npz, read in pieces of bounded memory."""

from __future__ import annotations

import gzip
import re
import warnings
import zipfile
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING, Any, NamedTuple

import numpy as np

from whimbrel_core.errors import InputError, UsageError
from whimbrel_packager.profiles.source import Columns

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from whimbrel_packager.profiles.source import Piece, Source

    Array = np.ndarray[Any, Any]

SUFFIXES = (".csv", ".csv.gz", ".tsv", ".parquet", ".feather", ".arrow", ".npz")
_PIECE_VALUES = 2_000_000  # numbers held at once, about 16 MB
_MOST_ROWS, _FEWEST_ROWS = 65_536, 256
_MB = 1_000_000
_LONG = 4 * _MB  # of shorter files nobody needs to know how far they are read
_WIDE = 64  # columns from which it pays to read no others
_MAX_BLOCK = 256  # columns of a block that become features of their own
_HEAD_BYTES = 1 << 16
_COMMA = re.compile(r"(?:^|;)-?\d+,\d+(?:;|$)")
_TABLE = 2  # dimensions: rows and columns


def suffix_of(path: Path) -> str:
    """Return the suffix by which a file is read: ``.csv.gz`` of ``a.CSV.gz``."""
    name = path.name.lower()
    return ".csv.gz" if name.endswith(".csv.gz") else path.suffix.lower()


def opened(path: Path) -> Source:
    """Return a file as a source.

    Raises:
        UsageError: there is no such file, it is of no kind that is read, or pyarrow is missing.
        InputError: it is not what its name says, or it is empty.
    """
    suffix = suffix_of(path)
    if not path.exists():
        raise UsageError(f"there is no file {path}", hint="check the path")
    if suffix not in SUFFIXES:
        raise UsageError(
            f"{path}: data are read from {', '.join(SUFFIXES)} files, not from {suffix or 'this'}",
            hint="a profile is a .wprof, a bundle a .whim, a baseline a baseline.bin",
        )
    if not path.stat().st_size:
        raise InputError(f"{path} is empty", code="input.data")
    if suffix in {".csv", ".csv.gz", ".tsv"}:
        return Csv(path)
    if suffix == ".npz":
        return Npz(path)
    try:
        return Arrow(path)
    except ImportError as error:
        raise UsageError(
            f"{path}: reading {suffix} needs pyarrow, which is not installed here",
            hint="pip install 'whimbrel-packager[parquet]', or save the data as .csv or .npz",
        ) from error


def rows_at_once(columns: int) -> int:
    """Return how many rows of so many columns a piece has."""
    return max(_FEWEST_ROWS, min(_MOST_ROWS, _PIECE_VALUES // max(columns, 1)))


class Csv:
    """A CSV file with a header, also compressed.

    Columns are parted by what the header has most of: commas, semicolons, tabs or bars. With
    semicolons a comma within numbers is the decimal point.
    """

    def __init__(self, path: Path) -> None:
        self._path, self.name = path, path.name
        self._compression = "gzip" if suffix_of(path) == ".csv.gz" else None
        self._parted, self._decimal = self._dialect()
        head = self._read(nrows=0)
        self.columns = tuple(str(name) for name in head.columns)
        if not self.columns or all(name.startswith("Unnamed: ") for name in self.columns):
            raise InputError(f"{path} has no line with the names of columns", code="input.data")

    def _dialect(self) -> tuple[str, str]:
        """Return what parts columns, and the decimal point."""
        try:
            with gzip.open(self._path) if self._compression else self._path.open("rb") as file:
                lines = file.read(_HEAD_BYTES).decode("utf-8", "replace").splitlines()
        except (OSError, EOFError) as error:
            raise _unreadable(self._path, error) from error
        head = next((line for line in lines if line.strip()), "")
        usual = "\t" if suffix_of(self._path) == ".tsv" else ","
        parted = max((usual, ",", ";", "\t", "|"), key=head.count)
        if not head.count(parted):
            parted = usual
        comma = parted == ";" and any(_COMMA.search(line) for line in lines[1:])
        return parted, "," if comma else "."

    def _read(self, **options: Any) -> Any:  # noqa: ANN401 - pandas ships no types
        import pandas as pd

        try:
            source = options.pop("source", self._path)
            with self._strict():
                return pd.read_csv(
                    source,
                    sep=self._parted,
                    decimal=self._decimal,
                    compression=self._compression,
                    **options,
                )
        except pd.errors.EmptyDataError as error:
            raise InputError(f"{self._path} is empty", code="input.data") from error
        except (ValueError, OSError, EOFError, Warning) as error:
            raise _unreadable(self._path, error) from error

    def pieces(
        self, columns: Sequence[str], words: frozenset[str], far: Callable[[str], None]
    ) -> Iterator[Piece]:
        """As `Source.pieces`."""
        total = self._path.stat().st_size
        with self._path.open("rb") as file:
            reader = self._read(
                source=file,
                # With a choice of columns pandas is silent about lines that have too many fields.
                usecols=list(columns) if len(self.columns) > _WIDE else None,
                index_col=False,
                dtype=dict.fromkeys(words & set(columns), str),
                chunksize=rows_at_once(len(columns)),
                low_memory=False,
            )
            with reader:
                while True:
                    try:
                        with self._strict():
                            piece = reader.get_chunk()
                    except StopIteration:
                        return
                    except (ValueError, OSError, EOFError, Warning) as error:
                        raise _unreadable(self._path, error) from error
                    if total > _LONG:
                        far(f"{file.tell() // _MB:,} of {total // _MB:,} MB")
                    yield piece

    @staticmethod
    @contextmanager
    def _strict() -> Iterator[None]:
        """Take lines that are longer than the first for what they are, and not for an index."""
        import pandas as pd

        with warnings.catch_warnings():
            warnings.simplefilter("error", pd.errors.ParserWarning)
            yield


class Arrow:
    """A Parquet file, or an Arrow file (Feather), by record batches."""

    def __init__(self, path: Path) -> None:
        import pyarrow as pa
        from pyarrow import parquet

        self._path, self.name = path, path.name
        self._failures = (pa.ArrowException, OSError, ValueError)
        self._parquet = suffix_of(path) == ".parquet"
        try:
            if self._parquet:
                with parquet.ParquetFile(path) as file:
                    schema, self._rows = file.schema_arrow, file.metadata.num_rows
            else:
                with pa.memory_map(str(path)) as source, pa.ipc.open_file(source) as file:
                    schema, self._rows = file.schema, 0
        except self._failures as error:
            raise _unreadable(path, error) from error
        self.columns = tuple(schema.names)
        self.types = {field.name: str(field.type) for field in schema}

    def pieces(
        self, columns: Sequence[str], words: frozenset[str], far: Callable[[str], None]
    ) -> Iterator[Piece]:
        """As `Source.pieces`."""
        del words  # the file says what its columns are
        seen = 0
        try:
            for batch in self._batches(list(columns), rows_at_once(len(columns))):
                seen += batch.num_rows
                if self._rows:
                    far(f"{seen:,} of {self._rows:,} rows")
                if batch.num_rows:
                    yield batch.to_pandas()
        except self._failures as error:
            raise _unreadable(self._path, error) from error

    def _batches(self, columns: list[str], rows: int) -> Iterator[Any]:
        import pyarrow as pa
        from pyarrow import parquet

        if self._parquet:
            with parquet.ParquetFile(self._path, pre_buffer=False) as file:
                yield from file.iter_batches(batch_size=rows, columns=columns)
            return
        with pa.memory_map(str(self._path)) as source, pa.ipc.open_file(source) as file:
            for index in range(file.num_record_batches):
                batch = file.get_batch(index).select(columns)
                for at in range(0, batch.num_rows, rows):
                    yield batch.slice(at, rows)


class _Member(NamedTuple):
    """Where a column of an npz is: its array, and the column within a row of it."""

    array: str
    column: int | None


class Npz:
    """An npz of plain arrays: (n,) is a column; (n, d) is d of them, ``x0 …`` where it is alone."""

    def __init__(self, path: Path) -> None:
        self._path, self.name = path, path.name
        self._where: dict[str, _Member] = {}
        shapes: dict[str, tuple[int, ...]] = {}
        try:
            with zipfile.ZipFile(path) as archive:
                for member in archive.namelist():
                    with archive.open(member) as file:
                        shapes[member.removesuffix(".npy")] = _header(file)[0]
        except (zipfile.BadZipFile, ValueError, OSError, EOFError) as error:
            raise _unreadable(path, error) from error
        lengths = {name: shape[0] for name, shape in shapes.items() if shape}
        if len(set(lengths.values())) != 1 or len(lengths) != len(shapes):
            shown = ", ".join(f"{name} {shape}" for name, shape in list(shapes.items())[:5])
            raise InputError(f"{path}: the arrays have different lengths: {shown}",
                             code="input.data")  # fmt: skip
        alone = sum(len(shape) >= _TABLE for shape in shapes.values()) == 1
        for name, shape in shapes.items():
            wide = int(np.prod(shape[1:]))
            if len(shape) == 1:
                self._where[name] = _Member(name, None)
            elif len(shape) == _TABLE and alone:
                self._where |= {f"x{i}": _Member(name, i) for i in range(wide)}
            elif wide <= _MAX_BLOCK:
                places = list(np.ndindex(shape[1:]))
                self._where |= {
                    f"{name}[{','.join(map(str, place))}]": _Member(name, i)
                    for i, place in enumerate(places)
                }
            else:
                raise InputError(
                    f"{path}: array {name!r} has {wide:,} numbers a row; {_MAX_BLOCK} can be "
                    "profiled each as a column",
                    hint="save what matters of it as columns: a mean, a norm, a few components",
                    code="input.data",
                )
        self.columns = tuple(self._where)
        self._total = next(iter(lengths.values()))

    def pieces(
        self, columns: Sequence[str], words: frozenset[str], far: Callable[[str], None]
    ) -> Iterator[Piece]:
        """As `Source.pieces`."""
        del words  # arrays have types
        rows = rows_at_once(len(columns))
        arrays = {self._where[name].array for name in columns}
        try:
            with zipfile.ZipFile(self._path) as archive:
                readers = {name: _rows(archive, f"{name}.npy", rows) for name in sorted(arrays)}
                for at in range(0, self._total, rows):
                    found = {name: next(reader) for name, reader in readers.items()}
                    length = min(rows, self._total - at)
                    far(f"{at + length:,} of {self._total:,} rows")
                    yield Columns(length, {n: self._column(found, n) for n in columns})
        except (zipfile.BadZipFile, ValueError, OSError, EOFError, StopIteration) as error:
            raise _unreadable(self._path, error) from error

    def _column(self, found: Mapping[str, Array], name: str) -> Array:
        where = self._where[name]
        array = found[where.array]
        return array if where.column is None else array.reshape(len(array), -1)[:, where.column]


def _header(file: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    version = np.lib.format.read_magic(file)
    read = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }
    if version not in read:
        raise ValueError(f"an array has format {version}")
    shape, fortran, dtype = read[version](file)
    if dtype.hasobject:
        raise ValueError("an array holds Python objects, which are not loaded")
    return shape, fortran, dtype


def _rows(archive: zipfile.ZipFile, member: str, rows: int) -> Iterator[Array]:
    """Yield an array's rows in pieces, without ever holding all of it (but for Fortran's order)."""
    with archive.open(member) as file:
        shape, fortran, dtype = _header(file)
        if fortran and len(shape) > 1:
            whole = np.frombuffer(file.read(), dtype).reshape(shape[::-1]).T
            yield from (whole[at : at + rows] for at in range(0, shape[0], rows))
            return
        size = int(np.prod(shape[1:])) * dtype.itemsize
        for at in range(0, shape[0], rows):
            length = min(rows, shape[0] - at)
            yield np.frombuffer(file.read(length * size), dtype).reshape(length, *shape[1:])


def _unreadable(path: Path, error: BaseException) -> InputError:
    first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    first = first.removeprefix("Error tokenizing data. C error: ")
    return InputError(
        f"{path} cannot be read as {suffix_of(path)}: {first}",
        hint="is it complete, and what its name says?",
        code="input.data",
    )
