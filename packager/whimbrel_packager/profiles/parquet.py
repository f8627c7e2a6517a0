"""Profiles as Parquet files: one with a line per feature and cell, one with a line per feature."""

from __future__ import annotations

from typing import TYPE_CHECKING

from whimbrel_core.profile.exports import parquet, table
from whimbrel_packager import atomic

if TYPE_CHECKING:
    from pathlib import Path

    from whimbrel_core.profile.building.dataset import DatasetProfile


def write(path: Path, profile: DatasetProfile) -> tuple[Path, Path]:
    """Write both files, and return where they are: of cells, and the summary.

    Raises:
        UsageError: pyarrow is not installed.
        StorageError: the disk refuses; older files are as they were.
    """
    beside = path.with_name(f"{path.name.removesuffix('.parquet')}.summary.parquet")
    cells = parquet.content(table.cells(profile), table.CELLS)
    summary = parquet.content(table.summary(profile), table.SUMMARY)
    atomic.write(path, cells)
    atomic.write(beside, summary)
    return path, beside
