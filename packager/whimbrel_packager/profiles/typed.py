"""Types of columns: whatever a table holds becomes numbers (float32) or words, or is left out.

Numbers are rounded to float32, as on a device. Times count as days since 1970 UTC, spans of time as
seconds, yes and no as 1 and 0. A column that mixes words with numbers is one of words.
"""

from __future__ import annotations

import re
from typing import Any, Literal, NamedTuple

import numpy as np

Array = np.ndarray[Any, Any]
Type = Literal["numbers", "words", "empty", "other"]

_DAY_NS = 86_400_000_000_000
_SECOND_NS = 1_000_000_000
_ISO = re.compile(
    r"\d{4}-\d{2}-\d{2}(?:[T ]\d{2}:\d{2}(?::\d{2}(?:[.,]\d{1,9})?)?(?:Z|[+-]\d{2}:?\d{2})?)?"
)
_NUMERIC = frozenset(
    {"integer", "floating", "mixed-integer-float", "boolean", "decimal", "integer-na"}
)
_TIMES = frozenset({"datetime64", "datetime", "date"})
_SPANS = frozenset({"timedelta64", "timedelta"})


class Column(NamedTuple):
    """A piece of a column.

    Attributes:
        type: of its values; "empty" when all of them are missing.
        data: (n,) float32, or objects of str and None; of "other" nothing.
        detail: what it holds instead, of "other"; its unit, of times.
    """

    type: Type
    data: Array
    detail: str = ""


def typed(values: Any) -> Column:  # noqa: ANN401 - a pandas Series or an array
    """Return a piece of a column as numbers or words."""
    import pandas as pd

    series = values if isinstance(values, pd.Series) else pd.Series(_plain(values))
    kind = series.dtype.kind if isinstance(series.dtype, np.dtype) else ""
    if kind in set("fiub"):
        return _numbers(series.to_numpy())
    found = pd.api.types.infer_dtype(series, skipna=True)
    if found == "empty":
        return Column("empty", np.full(len(series), np.nan, np.float32))
    if found == "categorical":
        return typed(series.astype(series.cat.categories.dtype))
    if found in _NUMERIC:
        return _numbers(pd.to_numeric(series, errors="coerce").to_numpy(np.float64, na_value=np.nan)
                        if found != "decimal" else _decimals(series))  # fmt: skip
    if found in _TIMES:
        stamps = pd.to_datetime(series, utc=True, errors="coerce")
        return Column("numbers", _ticks(stamps.dt.tz_localize(None), "M", _DAY_NS),
                      "days since 1970")  # fmt: skip
    if found in _SPANS:
        return Column("numbers", _ticks(pd.to_timedelta(series), "m", _SECOND_NS), "s")
    return _objects(series)


def as_words(column: Column, raw: Any) -> Array:  # noqa: ANN401 - as for `typed`
    """Return a piece of a column as words, numbers in the shortest way to write them."""
    if column.type == "words":
        return column.data
    if column.type in {"empty", "other"}:
        return np.full(len(column.data), None, object)
    import pandas as pd

    series = raw if isinstance(raw, pd.Series) else pd.Series(_plain(raw))
    return _array([_text(value) for value in series.tolist()])


def as_numbers(column: Column) -> tuple[Array, int]:
    """Return a piece of a column as float32, and how many of its values are no numbers.

    Those count as missing.
    """
    if column.type == "numbers":
        return column.data, 0
    found = np.full(len(column.data), np.nan, np.float32)
    odd = 0
    for i, value in enumerate(column.data.tolist() if column.type == "words" else ()):
        if value is None:
            continue
        try:
            with np.errstate(over="ignore"):
                found[i] = np.float32(float(value))
        except ValueError:
            odd += 1
    return found, odd


def are_times(words: Array) -> bool:
    """Return whether words are instants as ISO 8601 writes them, all that are there."""
    present = [word for word in words.tolist() if isinstance(word, str)]
    return bool(present) and all(_ISO.fullmatch(word) for word in present)


def as_times(column: Column) -> tuple[Array, int]:
    """Return a piece of a column as days since 1970, and how many values are no instants.

    Those count as missing.
    """
    if column.type != "words":
        return as_numbers(column)
    import pandas as pd

    series = pd.Series(column.data)
    stamps = pd.to_datetime(series, utc=True, errors="coerce", format="ISO8601")
    found = _ticks(stamps.dt.tz_localize(None), "M", _DAY_NS)
    return found, int((stamps.isna() & series.notna()).sum())


def _plain(values: Any) -> Any:  # noqa: ANN401 - an array
    array = np.asarray(values)
    if array.ndim == 1 and array.dtype.kind == "S":
        return np.char.decode(array, "utf-8", "replace").astype(object)
    return array if array.ndim == 1 else list(array)


def _numbers(values: Array) -> Column:
    with np.errstate(over="ignore", invalid="ignore"):
        found = values.astype(np.float32)
    kind: Type = "numbers" if len(found) and not np.isnan(found).all() else "empty"
    return Column(kind, found)


def _decimals(series: Any) -> Array:  # noqa: ANN401 - pandas ships no types
    return np.array([np.nan if value is None or value != value else float(value)  # noqa: PLR0124 - NaN
                     for value in series.tolist()])  # fmt: skip


def _ticks(stamps: Any, letter: str, unit_ns: int) -> Array:  # noqa: ANN401 - pandas ships no types
    numpy = stamps.to_numpy(f"{'datetime64' if letter == 'M' else 'timedelta64'}[ns]")
    ticks = numpy.astype(np.int64) / unit_ns
    ticks[np.isnat(numpy)] = np.nan
    return np.asarray(ticks, np.float32)


def _objects(series: Any) -> Column:  # noqa: ANN401 - pandas ships no types
    listed = [None if _missing(value) else value for value in series.tolist()]
    odd = next((v for v in listed if not isinstance(v, (str, bytes, int, float, type(None)))), None)
    if odd is not None:
        return Column("other", np.empty(len(listed), object), type(odd).__name__)
    if all(value is None for value in listed):
        return Column("empty", np.full(len(listed), np.nan, np.float32))
    return Column("words", _array([None if v is None else _text(v) for v in listed]))


def _text(value: object) -> str | None:
    if _missing(value):
        return None
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value)


def _missing(value: object) -> bool:
    """Return whether a value stands for none: None, NaN, NaT or pandas.NA."""
    if value is None:
        return True
    if isinstance(value, (str, bytes)):
        return False
    try:
        return bool(value != value)  # noqa: PLR0124 - only NaN and NaT are not themselves
    except (TypeError, ValueError):  # pandas.NA is neither; an array is several
        return type(value).__name__ == "NAType"


def _array(words: list[str | None]) -> Array:
    return np.array([*words, None], object)[:-1]
