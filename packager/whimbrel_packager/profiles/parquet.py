"""Profiles as Parquet files: one with a line per feature and cell, one with a line per feature."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

from whimbrel_core.errors import UsageError
from whimbrel_core.profile.exports import table
from whimbrel_packager import atomic

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from whimbrel_core.profile.dataset import DatasetProfile


def write(path: Path, profile: DatasetProfile) -> tuple[Path, Path]:
    """Write both files, and return where they are: of cells, and the summary.

    Raises:
        UsageError: pyarrow is not installed.
        StorageError: the disk refuses; older files are as they were.
    """
    beside = path.with_name(f"{path.name.removesuffix('.parquet')}.summary.parquet")
    cells = _bytes(table.cells(profile), table.CELLS)
    summary = _bytes(table.summary(profile), table.SUMMARY)
    atomic.write(path, cells)
    atomic.write(beside, summary)
    return path, beside


def _bytes(columns: table.Table, types: Mapping[str, type]) -> bytes:
    try:
        import pyarrow as pa
        from pyarrow import parquet
    except ImportError as error:
        raise UsageError(
            "writing Parquet needs pyarrow, which is not installed here",
            hint="pip install 'whimbrel-packager[parquet]', or export as json",
        ) from error
    known: dict[type, Any] = {str: pa.string(), int: pa.int64(), float: pa.float64()}
    schema = pa.schema([(name, known[types.get(name, str)]) for name in columns])
    out = io.BytesIO()
    parquet.write_table(pa.table(columns, schema=schema), out, compression="zstd")
    return out.getvalue()
