"""Read whatever a profile can be made of: data, a profile, a bundle, a baseline, a whylogs summary."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

from whimbrel_core.errors import InputError, ProfileError, UsageError, WhimbrelError
from whimbrel_core.profile import baseline as baselines
from whimbrel_core.profile.baseline import Baseline
from whimbrel_core.profile.building import dataset
from whimbrel_core.profile.building.dataset import DatasetProfile
from whimbrel_core.profile.drift.comparing import compare as compare_profiles
from whimbrel_core.profile.drift.levels import Thresholds
from whimbrel_packager.profiles import files, whylogs
from whimbrel_packager.profiles.folder import Folder
from whimbrel_packager.profiles.making import make, matches, select, silent

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from whimbrel_core.profile.drift.report import DriftReport
    from whimbrel_packager.profiles.source import Source

    Subject: TypeAlias = "Source | DatasetProfile"

_ZIP = b"PK\x03\x04"
_BUNDLE = ".whim"
_DEFAULT = Thresholds()


def subject(path: Path) -> Subject:
    """Return a file, or a folder of them, as a table still to be counted, or as a profile.

    Raises:
        UsageError: there is no such file, it is of no kind that is read, or a folder is no table.
        InputError: it is not what it should be.
    """
    try:
        with path.open("rb") as file:
            head = file.read(8)
    except FileNotFoundError as error:
        raise UsageError(f"there is no file {path}", hint="check the path") from error
    except IsADirectoryError:
        return Folder(path)
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}") from error
    try:
        if head == dataset.MAGIC:
            return DatasetProfile.decode(_bytes(path, dataset.MAX_ENCODED_BYTES))
        if head == baselines.MAGIC:
            found = Baseline.decode(_bytes(path, baselines.MAX_ENCODED_BYTES))
            return DatasetProfile(name=path.name, baseline=found)
    except ProfileError as error:
        raise ProfileError(f"{path}: {error.message}", hint=error.hint, code=error.code) from error
    if path.suffix.lower() == ".wprof":
        raise ProfileError(
            f"{path} is no profile of format 1",
            hint="make it with 'whimbrel profile make', of this version",
            code="profile.version",
        )
    if path.suffix.lower() == _BUNDLE or (head[:4] == _ZIP and path.suffix.lower() != ".npz"):
        return _of_bundle(path)
    source = files.opened(path)
    return whylogs.summary(source) if whylogs.is_summary(source.columns) else source


def profile_of(
    given: Subject,
    *,
    like: DatasetProfile | None = None,
    columns: Sequence[str] = (),
    stage: Callable[[str], None] = silent,
) -> DatasetProfile:
    """Return the profile of a table, or a profile as it is.

    Raises:
        UsageError, InputError: as `make`; or a profile was given with ``like`` that has other cells.
    """
    if not isinstance(given, DatasetProfile):
        return make(given, like=like, columns=columns, stage=stage)
    if like is not None and given.profile_id != like.profile_id:
        raise UsageError(
            f"{given.name} is counted already, in other cells than those of {like.name}",
            hint="make it of the data again; counts cannot be counted anew",
        )
    return given


def comparison(
    reference: Subject,
    current: Subject,
    *,
    columns: Sequence[str] = (),
    thresholds: Thresholds = _DEFAULT,
    stage: Callable[[str], None] = silent,
) -> DriftReport:
    """Return how ``current`` differs from ``reference``.

    A table is counted in the cells of the other one, so that both are exact; two profiles of
    different cells are told in those of the reference.

    Raises:
        UsageError, InputError: as `make`.
    """
    if isinstance(reference, DatasetProfile):
        a = reference
        b = profile_of(
            current, like=None if isinstance(current, DatasetProfile) else a, stage=stage
        )
    elif isinstance(current, DatasetProfile):
        b = current
        a = make(reference, like=b, stage=stage)
    else:
        a = make(reference, columns=columns, stage=stage)
        if columns:
            b = make(current, like=a, columns=_present(current, a.features), stage=stage)
        else:
            b = make(current, like=a, stage=stage)
    found = compare_profiles(a, b, thresholds)
    if columns:
        import msgspec

        select(tuple(f.feature for f in found.features), columns, "the comparison")
        kept = tuple(one for one in found.features if matches(one.feature, columns))
        names = {"", *(one.feature for one in kept)}
        remarks = tuple(one for one in found.remarks if one.feature in names)
        found = msgspec.structs.replace(found, features=kept, remarks=remarks)
    return found


def _present(source: Source, names: Sequence[str]) -> list[str]:
    """Return the names that a table has; with none of them, what it has leads to the refusal."""
    return [name for name in names if name in source.columns] or list(source.columns)


def _of_bundle(path: Path) -> DatasetProfile:
    from whimbrel_packager import contents

    try:
        with path.open("rb") as file:
            found = contents.read(file, what=str(path))
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from error
    except WhimbrelError as error:
        if path.suffix.lower() == _BUNDLE:
            raise
        raise UsageError(
            f"{path}: data are read from {', '.join(files.SUFFIXES)} files, and this is no bundle",
        ) from error
    return DatasetProfile(name=found.manifest.title, baseline=found.baseline)


def _bytes(path: Path, limit: int) -> bytes:
    with path.open("rb") as file:
        return file.read(limit + 1)
