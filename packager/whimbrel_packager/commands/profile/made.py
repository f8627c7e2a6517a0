"""What commands on profiles share: options, and reading a file while saying how far it is."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from whimbrel_packager.commands import output

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from contextlib import AbstractContextManager

    from whimbrel_core.profile.building.dataset import DatasetProfile

FILE = click.Path(path_type=Path)

columns_option = click.option(
    "--columns",
    multiple=True,
    metavar="NAME",
    help="Only these columns: a name or a pattern such as 'temp_*' (repeat for several).",
)


def progress(*, quiet: bool) -> AbstractContextManager[Callable[[str], None]]:
    """Show how far it is, on a terminal alone: logs of pipelines want the result."""
    return output.stages(quiet=quiet or not sys.stderr.isatty())


def read(
    path: Path,
    *,
    like: Path | None = None,
    columns: Sequence[str] = (),
    stage: Callable[[str], None],
) -> DatasetProfile:
    """Return the profile of a file, counted in the cells of another one when it is given.

    Raises:
        UsageError, InputError: as `whimbrel_packager.profiles.reading`.
    """
    from whimbrel_packager.profiles import reading

    cells = None if like is None else reading.profile_of(reading.subject(like), stage=stage)
    return reading.profile_of(reading.subject(path), like=cells, columns=columns, stage=stage)


def written(target: Path, data: bytes, *sources: Path) -> None:
    """Write a file.

    Raises:
        UsageError: the target is one of the sources, or a folder.
        StorageError: it cannot be written; an older file is as it was.
    """
    from whimbrel_core.errors import UsageError
    from whimbrel_packager import atomic

    if target.is_dir():
        raise UsageError(f"{target} is a folder; nothing was written", hint="name a file in it")
    if any(target.exists() and source.exists() and target.samefile(source) for source in sources):
        raise UsageError(
            f"{target} is one of the files that are read; nothing was written",
            hint="give another --out",
        )
    atomic.write(target, data)
