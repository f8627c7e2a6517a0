"""What a data scientist calls: profiles of tables in memory and of files."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from whimbrel_core.errors import InputError
from whimbrel_core.profile.building.dataset import DatasetProfile
from whimbrel_core.profile.drift.levels import Thresholds
from whimbrel_core.profile.exports import table as tables
from whimbrel_packager.profiles import memory, reading, whylogs

if TYPE_CHECKING:
    from collections.abc import Sequence

    from whimbrel_core.profile.drift.report import DriftReport

Like: TypeAlias = "Profile | DatasetProfile | str | Path"
_DEFAULT = Thresholds()


class Profile:
    """The profile of a data set: counts that add up.

    Args:
        counts: what it holds; `log` and `read` make it.
    """

    def __init__(self, counts: DatasetProfile) -> None:
        self.counts = counts

    @property
    def name(self) -> str:
        """What the data are called."""
        return self.counts.name

    @property
    def rows(self) -> int:
        """Rows that were counted."""
        return self.counts.rows

    @property
    def features(self) -> tuple[str, ...]:
        """Names of the columns."""
        return self.counts.features

    @property
    def notes(self) -> tuple[str, ...]:
        """What a person should know of it."""
        return self.counts.notes

    def log(self, data: Any, *, name: str = "") -> Profile:  # noqa: ANN401 - as the function `log`
        """Return this profile with the rows of ``data`` in it, too, counted in the same cells."""
        return self.merge(log(data, like=self, name=name or self.name))

    def merge(self, other: Profile) -> Profile:
        """Return the profile of the rows of both.

        Raises:
            ProfileError: their cells differ; make one of them ``like`` the other.
        """
        return Profile(self.counts.merge(other.counts))

    def compare(self, other: Any, *, thresholds: Thresholds = _DEFAULT) -> DriftReport:  # noqa: ANN401 - as `compare`
        """Return how ``other`` (a profile or data) differs from this one, which is the reference."""
        return compare(self, other, thresholds=thresholds)

    def to_pandas(self) -> Any:  # noqa: ANN401 - pandas ships no types
        """Return a DataFrame with a line per column: counts, moments, quantiles."""
        import pandas as pd

        return pd.DataFrame(tables.summary(self.counts)).set_index("feature")

    def to_parquet(self, path: str | Path) -> Path:
        """Write a Parquet file, a line per column and cell, and return where it is.

        A second file beside it, ``NAME.summary.parquet``, has a line per column.

        Raises:
            UsageError: pyarrow is not installed.
            StorageError: the disk refuses.
        """
        from whimbrel_packager.profiles import parquet

        parquet.write(Path(path), self.counts)
        return Path(path)

    def save(self, path: str | Path) -> Path:
        """Write a ``.wprof`` file, which `read` reads, and return where it is."""
        from whimbrel_packager import atomic

        atomic.write(Path(path), self.counts.encode())
        return Path(path)

    def __repr__(self) -> str:
        return repr(self.counts).replace("DatasetProfile", "Profile", 1)

    def _repr_html_(self) -> str:
        return self.counts._repr_html_()


def log(
    data: Any,  # noqa: ANN401 - whatever a person has
    *,
    like: Like | None = None,
    name: str = "data",
    columns: Sequence[str] = (),
) -> Profile:
    """Return the profile of a table in memory.

    Args:
        data: a DataFrame of pandas, a table of pyarrow, a dict of arrays, a matrix, or a view of a
            whylogs profile, which makes a coarse one (`whimbrel_packager.profiles.whylogs`).
        like: in whose cells to count: a profile, or the path of a profile, bundle, baseline or
            data file. None: cells of the data's own quantiles.
        name: what to call it.
        columns: names or patterns of the columns to profile; none: all.

    Raises:
        InputError: it is no table, or has no rows.
        UsageError: more columns than a profile holds, or none in common with ``like``.
    """
    cells = None if like is None else _counts(like)
    if isinstance(data, str | Path):
        raise InputError(
            f"{str(data)!r} is no table in memory",
            hint="profiles.read makes a profile of a file",
            code="input.data",
        )
    found = reading.profile_of(_subject(data, name), like=cells, columns=columns)
    return Profile(found)


def read(path: str | Path, *, like: Like | None = None, columns: Sequence[str] = ()) -> Profile:
    """Return the profile of a file: data, a profile, a bundle, a baseline, or a whylogs summary.

    Raises:
        UsageError: there is no such file, or it is of no kind that is read.
        InputError: it is not what it should be.
    """
    cells = None if like is None else _counts(like)
    return Profile(reading.profile_of(reading.subject(Path(path)), like=cells, columns=columns))


def compare(
    reference: Any,  # noqa: ANN401 - as `log` and `read` take it
    current: Any,  # noqa: ANN401 - likewise
    *,
    columns: Sequence[str] = (),
    thresholds: Thresholds = _DEFAULT,
) -> DriftReport:
    """Return how ``current`` differs from ``reference``: profiles, tables, or paths of files.

    Raises:
        UsageError, InputError: as `log` and `read`.
    """
    return reading.comparison(
        _subject(reference, "reference"),
        _subject(current, "current"),
        columns=columns,
        thresholds=thresholds,
    )


def _subject(given: Any, name: str) -> reading.Subject:  # noqa: ANN401 - as `compare`
    if isinstance(given, Profile):
        return given.counts
    if isinstance(given, DatasetProfile):
        return given
    if isinstance(given, str | Path):
        return reading.subject(Path(given))
    if hasattr(given, "to_pandas") and not hasattr(given, "column_names"):
        given = given.to_pandas()  # a view of whylogs, and tables of other libraries
    if whylogs.is_summary([str(column) for column in getattr(given, "columns", ())]):
        lines = {str(key): dict(line) for key, line in given.iterrows()}
        return whylogs.from_lines(name, lines)
    return memory.source(given, name)


def _counts(like: Like) -> DatasetProfile:
    return reading.profile_of(_subject(like, "reference"))
