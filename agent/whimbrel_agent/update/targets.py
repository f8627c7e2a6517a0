"""A bundle's target: what the signed metadata says of it, and whether that fits what is wanted.

The target may be named by the publisher's targets, or by a team's role to which these delegate the
model. Whoever names it, the file's own manifest has the last word on what it is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from whimbrel_agent.update import floor
from whimbrel_agent.update.transport import NotInRepositoryError
from whimbrel_core.errors import CompatibilityError, StorageError, TrustError, UnavailableError

if TYPE_CHECKING:
    from tuf.api.metadata import TargetFile  # type: ignore[attr-defined]
    from tuf.ngclient.updater import Updater

    from whimbrel_agent.paths import DataDirectory
    from whimbrel_agent.update.messages import UpdateRequest, Wanted


class DeltaSource(msgspec.Struct, frozen=True):
    """A delta that leads to a bundle: from which digest, and where it is."""

    source: str = msgspec.field(name="from")
    path: str


class Custom(msgspec.Struct, frozen=True):
    """The signed ``custom.whimbrel`` of a bundle target."""

    name: str
    version: str
    release: int
    profile_id: str = ""
    device_classes: tuple[str, ...] = ()
    deltas: tuple[DeltaSource, ...] = ()


def find(client: Updater, home: DataDirectory, path: str, floor_ms: int) -> TargetFile:
    """Return the target at ``path``, from targets or from the team that they delegate it to.

    Raises:
        NotInRepositoryError: nobody names it (yet).
        UnavailableError: the team's metadata cannot be fetched, or has expired.
        TrustError: it does not hold.
    """
    from tuf.api import exceptions

    teams = floor.teams(home, path)
    try:
        target = client.get_targetinfo(path)
        floor.check_teams(home, teams, floor_ms)
    except exceptions.ExpiredMetadataError as error:
        msg = f"metadata for {path}: {error}; what serves goes on serving"
        raise UnavailableError(
            msg, code="trust.expired", hint="check this device's clock, then the repository"
        ) from error
    except exceptions.DownloadError as error:
        msg = f"metadata for {path} cannot be fetched: {error}"
        raise UnavailableError(msg, code="repository.unavailable") from error
    except exceptions.RepositoryError as error:
        if not all(teams.values()):
            msg = f"{path} is for a team to release that has released nothing (yet)"
            raise NotInRepositoryError(msg, code="repository.target") from error
        msg = f"metadata for {path} does not hold: {error}"
        raise TrustError(msg, code="trust.metadata") from error
    if target is None:
        msg = f"the publisher's metadata does not name {path} (yet)"
        raise NotInRepositoryError(
            msg, code="repository.target", hint="publish it, or assign what is published"
        )
    return target


def check(target: TargetFile, wanted: Wanted, request: UpdateRequest) -> Custom:
    """Return what is signed about a target that is what was assigned, and fits this device.

    Raises:
        TrustError: it differs from the assignment, or is below the release floor.
        CompatibilityError: it is for other devices, or too large.
    """
    what = wanted.path
    if (target.length, sha256(target)) != (wanted.length, wanted.digest):
        msg = (
            f"{what}: the fleet assigns {wanted.digest[:12]}… of {wanted.length} bytes, the "
            f"publisher signed {sha256(target)[:12]}… of {target.length} bytes"
        )
        raise TrustError(msg, code="trust.mismatch", hint="assign it again; nothing was installed")
    try:
        custom = msgspec.convert((target.custom or {}).get("whimbrel"), Custom)
    except msgspec.ValidationError as error:
        msg = f"{what}: its signed description is malformed: {error}"
        raise TrustError(msg, code="trust.metadata", hint="publish it again") from error
    if not what.startswith(f"bundles/{custom.name}/"):
        # A team may name paths of its own models alone: else it would name another's.
        msg = f"{what} is signed as a bundle of {custom.name}"
        raise TrustError(msg, code="trust.identity", hint="publish it again")
    if target.length > request.max_bytes:
        msg = f"{what} is {target.length} bytes, this device takes {request.max_bytes}"
        raise CompatibilityError(
            msg, code="compatibility.size", hint="see limits.download_bytes in agent.toml"
        )
    least = request.floors.get(custom.name, 0)
    if custom.release < least:
        msg = f"{what} is release {custom.release} of {custom.name}, below {least}, which was left"
        raise TrustError(msg, code="trust.release", hint="publish the older model as a new release")
    if not classes_fit(custom.device_classes, request.device_classes):
        msg = f"{what} is for devices of class {', '.join(custom.device_classes)}"
        raise CompatibilityError(
            msg, code="compatibility.class", hint="see device_classes in agent.toml"
        )
    return custom


def classes_fit(bundle: tuple[str, ...], device: tuple[str, ...]) -> bool:
    """Return whether a bundle for classes ``bundle`` suits a device; empty means any."""
    return not bundle or not device or bool(set(bundle) & set(device))


def check_identity(home: DataDirectory, target: TargetFile, custom: Custom) -> None:
    """Require that the bundle that was brought says of itself what is signed about it.

    Its signature is verified later, by the probe, which knows the keys. Without this, whoever
    names targets could give an old bundle a new release counter.

    Raises:
        TrustError: it is another bundle; what was fetched is removed.
        BundleError: it is none.
        StorageError: it cannot be read.
    """
    from whimbrel_core.bundle import bundle as bundles

    path = home.candidate(sha256(target))
    try:
        with path.open("rb") as file:
            manifest, _ = bundles.inspect(file, what=target.path)
    except OSError as error:
        msg = f"{path} cannot be read: {error}"
        raise StorageError(msg) from error
    said = (manifest.name, manifest.version, manifest.release, manifest.profile_id)
    signed = (custom.name, custom.version, custom.release, custom.profile_id or said[3])
    if said != signed:
        home.fetched(sha256(target)).unlink(missing_ok=True)
        msg = (
            f"{target.path} is signed as {custom.name} {custom.version}, release "
            f"{custom.release}, and holds {manifest.title}, release {manifest.release}"
        )
        raise TrustError(msg, code="trust.identity", hint="publish it again; nothing was installed")


def sha256(target: TargetFile) -> str:
    """Return a target's signed digest. Raises `TrustError`: it has none."""
    digest = target.hashes.get("sha256")
    if not isinstance(digest, str):
        msg = f"{target.path} is signed without a sha256"
        raise TrustError(msg, code="trust.metadata", hint="publish it again")
    return digest
