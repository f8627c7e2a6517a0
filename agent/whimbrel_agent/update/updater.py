"""The updater process: metadata by TUF, bytes by our own resumable fetch.

``python -m whimbrel_agent.update.updater``: reads an `UpdateRequest`, answers with `Updated`. The
order: refresh the signed metadata → trust files → the target must be what the assignment names
(path, length, digest), for this class of device, not below the release floor → bytes (store,
delta, or full) → checked against the signed digest → ``downloads/<sha256>.whim``. Nothing here
touches what serves, and expired metadata stops updates only.

Clock: metadata is judged by this device's clock and, apart from it, by a floor that came from
signed metadata alone: a clock that says 1970 admits nothing that had expired by then, and a
clock that says 2106 leaves no trace once it is put right.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import fcntl
import os
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from whimbrel_agent.paths import DataDirectory, replace_file
from whimbrel_agent.update import child, delta, download, trust
from whimbrel_agent.update.messages import Answer, Updated, UpdateRequest, Wanted
from whimbrel_agent.update.metering import Metered
from whimbrel_agent.update.transport import NotInRepositoryError, transport
from whimbrel_core.errors import (
    CompatibilityError,
    InputError,
    StorageError,
    TrustError,
    UnavailableError,
    WhimbrelError,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tuf.api.metadata import TargetFile  # type: ignore[attr-defined]
    from tuf.ngclient.updater import Updater

    from whimbrel_agent.update.transport import Transport

# Metadata that was valid when it was accepted cannot have been signed much before it expires:
# a week is longer than timestamps live, so the floor is never ahead of the true time.
_CLOCK_SLACK_MS = 7 * 86_400_000
_ROLES = ("timestamp", "snapshot", "targets")


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


def answer(data: bytes) -> Answer:
    """Do what the request says; see the module."""
    request = msgspec.json.decode(data, type=UpdateRequest)
    home = DataDirectory(request.data_dir)
    with _alone(home):
        source = Metered(
            transport(request.url, ca=request.ca, timeout_s=request.timeout_s), home.tally
        )
        try:
            return Answer(updated=update(request, home, source))
        finally:
            source.close()


def update(request: UpdateRequest, home: DataDirectory, source: Metered) -> Updated:
    """Refresh trust, then bring the wanted bundle.

    Raises:
        UnavailableError: the repository does not answer; later it may.
        TrustError: metadata or bytes do not hold. Nothing was installed.
        StorageError: the disk refuses.
        CompatibilityError: the bundle is for other devices.
    """
    wanted = request.wanted
    try:
        client = _refresh(request, home, source)
    except UnavailableError:
        if wanted is not None and _in_store(home, wanted, request.known):
            # Offline: what was proven here before, and is assigned, may serve again.
            return Updated(source="store", bytes_downloaded=source.bytes)
        raise
    floor = _check_clock(home, request.clock_floor_ms)
    changed = _bring_trust(client, home, source)
    if wanted is None:
        return Updated("none", source.bytes, clock_floor_ms=floor, trust_changed=changed)
    target = _target(client, wanted.path)
    custom = _check_target(target, wanted, request)
    how = _bring_bundle(client, target, custom, request, home=home, source=source)
    return Updated(
        source=how,
        bytes_downloaded=source.bytes,
        name=custom.name,
        version=custom.version,
        release=custom.release,
        clock_floor_ms=floor,
        trust_changed=changed,
    )


def _refresh(request: UpdateRequest, home: DataDirectory, source: Transport) -> Updater:
    from tuf.api import exceptions
    from tuf.ngclient.updater import Updater

    from whimbrel_agent.update.tuf_fetcher import RepositoryFetcher

    try:
        root = home.root_json.read_bytes()
    except OSError as error:
        msg = f"no root of trust at {home.root_json}: {error}"
        raise TrustError(
            msg, code="trust.root", hint="put the root.json from enrolment there (key `root`)"
        ) from error
    fetcher = RepositoryFetcher(source)
    try:
        client = Updater(
            str(home.tuf),
            "repo:metadata/",
            target_base_url="repo:targets/",
            fetcher=fetcher,
            bootstrap=root,
        )
        client.refresh()
    except exceptions.ExpiredMetadataError as error:
        msg = f"repository {request.url}: {error}; what serves goes on serving"
        raise UnavailableError(
            msg, code="trust.expired", hint="check this device's clock, then the repository"
        ) from error
    except exceptions.DownloadError as error:
        if isinstance(fetcher.cause, WhimbrelError) and not isinstance(
            error, exceptions.DownloadLengthMismatchError
        ):
            raise fetcher.cause from error
        msg = f"repository {request.url}: {error}"
        raise UnavailableError(msg, code="repository.unavailable") from error
    except (exceptions.RepositoryError, ValueError) as error:
        msg = f"repository {request.url}: its metadata does not hold: {error}"
        raise TrustError(
            msg, code="trust.metadata", hint="nothing was changed; is it the right repository?"
        ) from error
    except OSError as error:
        msg = f"{home.tuf}: {error}"
        raise StorageError(msg) from error
    return client


def _check_clock(home: DataDirectory, floor_ms: int) -> int:
    """Refuse metadata that had expired before the floor; return the floor that now holds."""
    from tuf.api.metadata import Metadata

    expires: list[int] = []
    for role in _ROLES:
        signed = Metadata.from_file(str(home.tuf / f"{role}.json")).signed
        expires.append(int(signed.expires.replace(tzinfo=dt.timezone.utc).timestamp() * 1000))
    if min(expires) < floor_ms:
        role = _ROLES[expires.index(min(expires))]
        msg = f"the repository's {role} had expired before metadata that was seen earlier was made"
        raise UnavailableError(
            msg, code="trust.expired", hint="check this device's clock, then the repository"
        )
    return max(floor_ms, min(expires) - _CLOCK_SLACK_MS)


def _target(client: Updater, path: str) -> TargetFile:
    from tuf.api import exceptions

    try:
        target = client.get_targetinfo(path)
    except exceptions.DownloadError as error:
        msg = f"metadata for {path} cannot be fetched: {error}"
        raise UnavailableError(msg, code="repository.unavailable") from error
    except exceptions.RepositoryError as error:
        msg = f"metadata for {path} does not hold: {error}"
        raise TrustError(msg, code="trust.metadata") from error
    if target is None:
        msg = f"the publisher's metadata does not name {path} (yet)"
        raise NotInRepositoryError(
            msg, code="repository.target", hint="publish it, or assign what is published"
        )
    return target


def _bring_trust(client: Updater, home: DataDirectory, source: Transport) -> bool:
    changed = False
    for path, file in ((trust.PUBLISHERS, home.publishers_json), (trust.FLEET, home.fleet_json)):
        target = client.get_targetinfo(path)
        if target is None:
            # Withdrawn by the publisher: those keys are not trusted any more.
            if file.exists():
                file.unlink()
                changed = True
            continue
        digest = _sha256(target)
        if file.exists() and download.measure(file) == (target.length, digest):
            continue
        if target.length > trust.MAX_TRUST_BYTES:
            msg = f"{path} is {target.length} bytes, {trust.MAX_TRUST_BYTES} are allowed"
            raise TrustError(msg, code="trust.length")
        part = home.part(digest)
        download.fetch(source, _blob(path, digest), part, length=target.length, digest=digest)
        try:
            replace_file(file, part.read_bytes())
            part.unlink()
        except OSError as error:
            msg = f"{file} cannot be written: {error}"
            raise StorageError(msg) from error
        changed = True
    return changed


def _check_target(target: TargetFile, wanted: Wanted, request: UpdateRequest) -> Custom:
    what = wanted.path
    if (target.length, _sha256(target)) != (wanted.length, wanted.digest):
        msg = (
            f"{what}: the fleet assigns {wanted.digest[:12]}… of {wanted.length} bytes, the "
            f"publisher signed {_sha256(target)[:12]}… of {target.length} bytes"
        )
        raise TrustError(msg, code="trust.mismatch", hint="assign it again; nothing was installed")
    try:
        custom = msgspec.convert((target.custom or {}).get("whimbrel"), Custom)
    except msgspec.ValidationError as error:
        msg = f"{what}: its signed description is malformed: {error}"
        raise TrustError(msg, code="trust.metadata", hint="publish it again") from error
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


def _bring_bundle(
    client: Updater,
    target: TargetFile,
    custom: Custom,
    request: UpdateRequest,
    *,
    home: DataDirectory,
    source: Transport,
) -> str:
    digest, length = _sha256(target), target.length
    for ready in (home.bundle(digest), home.fetched(digest)):
        if ready.exists():
            if download.measure(ready) == (length, digest):
                return "store"
            ready.unlink()  # damaged on this disk: fetch it again
    part = home.part(digest)
    begun = part.exists() and part.stat().st_size > 0
    for choice in custom.deltas if not begun else ():
        if choice.source in request.held and home.bundle(choice.source).exists():
            found = _target(client, choice.path)
            delta_part = home.part(_sha256(found))
            try:
                download.fetch(
                    source,
                    _blob(choice.path, _sha256(found)),
                    delta_part,
                    length=found.length,
                    digest=_sha256(found),
                )
                delta.rebuild(home.bundle(choice.source), delta_part, part, length=length)
                if download.measure(part) == (length, digest):
                    download.settle(part, home.fetched(digest))
                    return "delta"
                part.unlink()
            except (InputError, TrustError, UnavailableError):
                # A delta is only ever a shortcut.
                with contextlib.suppress(FileNotFoundError):
                    part.unlink()
            finally:
                with contextlib.suppress(FileNotFoundError):
                    delta_part.unlink()
            break
    download.fetch(source, _blob(target.path, digest), part, length=length, digest=digest)
    download.settle(part, home.fetched(digest))
    return "full"


def _sha256(target: TargetFile) -> str:
    digest = target.hashes.get("sha256")
    if not isinstance(digest, str):
        msg = f"{target.path} is signed without a sha256"
        raise TrustError(msg, code="trust.metadata", hint="publish it again")
    return digest


def _blob(path: str, digest: str) -> str:
    """Return where a target's bytes are, as consistent snapshots name them."""
    folder, _, name = path.rpartition("/")
    return f"targets/{folder}/{digest}.{name}"


def _in_store(home: DataDirectory, wanted: Wanted, known: tuple[str, ...]) -> bool:
    file = home.bundle(wanted.digest)
    return (
        wanted.digest in known
        and file.exists()
        and download.measure(file) == (wanted.length, wanted.digest)
    )


@contextlib.contextmanager
def _alone(home: DataDirectory) -> Iterator[None]:
    """Hold the lock on downloads: two updaters on one folder would spoil each other's parts."""
    try:
        descriptor = os.open(Path(home.downloads) / ".lock", os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        msg = f"{home.downloads} cannot be used: {error}"
        raise StorageError(msg) from error
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            msg = "another updater is at work in this data directory"
            raise UnavailableError(msg, code="updater.busy") from error
        yield
    finally:
        os.close(descriptor)


if __name__ == "__main__":
    child.serve(answer)
