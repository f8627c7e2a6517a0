"""Tables in memory as sources: DataFrames, Arrow tables, dicts of arrays, and matrices."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from whimbrel_core.errors import InputError
from whimbrel_packager.profiles.files import rows_at_once
from whimbrel_packager.profiles.source import Columns

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from whimbrel_packager.profiles.source import Piece, Source

_TABLE = 2  # dimensions: rows and columns


def source(data: Any, name: str) -> Source:  # noqa: ANN401 - whatever a person has
    """Return a table as a source.

    Args:
        data: a DataFrame of pandas, a table of pyarrow (or anything that has ``to_arrow``), a dict
            of arrays, or a matrix.
        name: what to call it.

    Raises:
        InputError: none of these, columns of one name or of unequal length, or no rows.
    """
    if hasattr(data, "to_arrow") and not hasattr(data, "to_batches"):
        data = data.to_arrow()
    if hasattr(data, "to_batches") and hasattr(data, "column_names"):
        return _checked(Table(data, name))
    if hasattr(data, "columns") and hasattr(data, "iloc"):
        return _checked(DataFrame(data, name))
    if isinstance(data, dict):
        return _checked(Arrays({str(k): _array(str(k), v) for k, v in data.items()}, name))
    array = np.asarray(data)
    if array.ndim != _TABLE:
        raise InputError(
            f"{name} is no table: it is a {type(data).__name__}"
            + (f" of the shape {array.shape}" if array.ndim else ""),
            hint="give a DataFrame, an Arrow table, a dict of columns, or a matrix (rows, columns)",
            code="input.data",
        )
    return _checked(Arrays({f"x{i}": array[:, i] for i in range(array.shape[1])}, name))


class DataFrame:
    """A DataFrame of pandas."""

    def __init__(self, table: Any, name: str) -> None:  # noqa: ANN401 - pandas ships no types
        self._table, self.name = table, name
        self.columns = tuple(str(column) for column in table.columns)
        self.rows = len(table)

    def pieces(
        self, columns: Sequence[str], words: frozenset[str], far: Callable[[str], None]
    ) -> Iterator[Piece]:
        """As `Source.pieces`."""
        del words, far
        # By position: names of columns may be numbers, which `columns` has as text.
        chosen = self._table.iloc[:, [self.columns.index(name) for name in columns]]
        chosen = chosen.set_axis(list(columns), axis=1)
        step = rows_at_once(len(columns))
        for at in range(0, self.rows, step):
            yield chosen.iloc[at : at + step]


class Table:
    """A table of pyarrow."""

    def __init__(self, table: Any, name: str) -> None:  # noqa: ANN401 - pyarrow ships no types
        self._table, self.name = table, name
        self.columns = tuple(table.column_names)
        self.rows = table.num_rows

    def pieces(
        self, columns: Sequence[str], words: frozenset[str], far: Callable[[str], None]
    ) -> Iterator[Piece]:
        """As `Source.pieces`."""
        del words, far
        chosen = self._table.select(list(columns))
        for batch in chosen.to_batches(max_chunksize=rows_at_once(len(columns))):
            if batch.num_rows:
                yield batch.to_pandas()


class Arrays:
    """Arrays by name."""

    def __init__(self, arrays: Mapping[str, Any], name: str) -> None:
        self._arrays, self.name = arrays, name
        lengths = {key: len(values) for key, values in arrays.items()}
        if len(set(lengths.values())) > 1:
            shown = ", ".join(f"{key} {n}" for key, n in list(lengths.items())[:5])
            raise InputError(f"{name}: the columns have different lengths: {shown}",
                             code="input.data")  # fmt: skip
        self.columns = tuple(arrays)
        self.rows = next(iter(lengths.values()), 0)

    def pieces(
        self, columns: Sequence[str], words: frozenset[str], far: Callable[[str], None]
    ) -> Iterator[Piece]:
        """As `Source.pieces`."""
        del words, far
        step = rows_at_once(len(columns))
        for at in range(0, self.rows, step):
            found = {name: self._arrays[name][at : at + step] for name in columns}
            yield Columns(min(step, self.rows - at), found)


def _array(name: str, values: Any) -> Any:  # noqa: ANN401 - a list, an array, a Series
    if hasattr(values, "iloc"):
        return values
    found = values if isinstance(values, np.ndarray) else np.array(values, object)
    if found.ndim != 1:
        raise InputError(
            f"column {name!r} has the shape {found.shape}; one value per row is needed",
            code="input.data",
        )
    return found


def _checked(table: DataFrame | Table | Arrays) -> Source:
    names = table.columns
    if len(set(names)) != len(names):
        twice = sorted({name for name in names if names.count(name) > 1})
        raise InputError(f"{table.name} has two columns of one name: {', '.join(twice[:5])}",
                         code="input.data")  # fmt: skip
    if not table.rows or not names:
        raise InputError(f"{table.name} has no rows" if names else f"{table.name} has no columns",
                         code="input.data")  # fmt: skip
    return table
