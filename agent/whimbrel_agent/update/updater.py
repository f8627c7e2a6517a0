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
import sys
from typing import TYPE_CHECKING

import msgspec

from whimbrel_agent.paths import DataDirectory, replace_file
from whimbrel_agent.update import child, delta, download, floor, targets, trust
from whimbrel_agent.update.messages import Answer, Updated, UpdateRequest, Wanted
from whimbrel_agent.update.metering import Metered
from whimbrel_agent.update.repository_address import transport
from whimbrel_core.errors import (
    InputError,
    StorageError,
    TrustError,
    UnavailableError,
    WhimbrelError,
)

if TYPE_CHECKING:
    from tuf.api.metadata import TargetFile  # type: ignore[attr-defined]
    from tuf.ngclient.updater import Updater

    from whimbrel_agent.update.transport import Transport

_SIGNING_SERVICES = ("azure.core", "boto3", "google.cloud.kms", "hvac", "pkcs11")
_WAIT_S = 2.0
"""Control tidies the downloads for a moment now and then; another updater takes longer."""


def answer(data: bytes) -> Answer:
    """Do what the request says; see the module."""
    request = msgspec.json.decode(data, type=UpdateRequest)
    home = DataDirectory(request.data_dir)
    with download.alone(home, wait_s=_WAIT_S):
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
    floor_ms = floor.check(home, request.clock_floor_ms)
    changed = _bring_trust(client, home, source)
    if wanted is None:
        return Updated("none", source.bytes, clock_floor_ms=floor_ms, trust_changed=changed)
    target = targets.find(client, home, wanted.path, request.clock_floor_ms)
    custom = targets.check(target, wanted, request)
    how = _bring_bundle(client, target, custom, request, home=home, source=source)
    targets.check_identity(home, target, custom)
    return Updated(
        source=how,
        bytes_downloaded=source.bytes,
        name=custom.name,
        version=custom.version,
        release=custom.release,
        clock_floor_ms=floor_ms,
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
        digest = targets.sha256(target)
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


def _bring_bundle(
    client: Updater,
    target: TargetFile,
    custom: targets.Custom,
    request: UpdateRequest,
    *,
    home: DataDirectory,
    source: Transport,
) -> str:
    digest, length = targets.sha256(target), target.length
    for ready in (home.bundle(digest), home.fetched(digest)):
        if ready.exists():
            if download.measure(ready) == (length, digest):
                return "store"
            ready.unlink()  # damaged on this disk: fetch it again
    part = home.part(digest)
    begun = part.exists() and part.stat().st_size > 0
    for choice in custom.deltas if not begun else ():
        if choice.source in request.held and home.bundle(choice.source).exists():
            found = targets.find(client, home, choice.path, request.clock_floor_ms)
            delta_part = home.part(targets.sha256(found))
            try:
                download.fetch(
                    source,
                    _blob(choice.path, targets.sha256(found)),
                    delta_part,
                    length=found.length,
                    digest=targets.sha256(found),
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


def _only_verify() -> None:
    """Keep libraries of signing services out of this process.

    What `tuf` stands on imports each that a machine happens to have, which takes longer than all
    else here; an updater signs nothing.
    """
    sys.modules.update(dict.fromkeys(_SIGNING_SERVICES))  # type: ignore[arg-type]


if __name__ == "__main__":
    _only_verify()
    child.serve(answer)
