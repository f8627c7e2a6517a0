"""A table as the bytes of a Parquet file. It needs pyarrow, which is no dependency of Whimbrel's."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

from whimbrel_core.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from whimbrel_core.profile.exports.table import Table


def content(columns: Table, types: Mapping[str, type]) -> bytes:
    """Return a table as a Parquet file; columns that ``types`` does not name are text.

    Raises:
        UsageError: pyarrow is not installed.
    """
    try:
        import pyarrow as pa
        from pyarrow import parquet
    except ImportError as error:
        raise UsageError(
            "writing Parquet needs pyarrow, which is not installed here",
            hint="pip install pyarrow, or export as json",
        ) from error
    known: dict[type, Any] = {str: pa.string(), int: pa.int64(), float: pa.float64()}
    schema = pa.schema([(name, known[types.get(name, str)]) for name in columns])
    out = io.BytesIO()
    parquet.write_table(pa.table(columns, schema=schema), out, compression="zstd")
    return out.getvalue()
