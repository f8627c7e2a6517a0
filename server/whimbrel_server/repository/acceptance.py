"""Taking in what a publisher signed: verified as a device would, then put in place in order.

The server holds no key of root or targets, and does not believe who sends: a new role's metadata
must be signed by those whom the repository's own metadata names, be the next version, and name
only files that are here with the signed length and digest. A new bundle must be signed by a key of
``trust/publishers.json``. Order: files, then the metadata that names them. Whoever is killed in
between leaves files that nobody names.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import re
import time
from typing import TYPE_CHECKING, NamedTuple

from tuf.api.metadata import (  # type: ignore[attr-defined]  # public by its documentation
    Root,
    Targets,
)

from whimbrel_core.errors import InputError, StorageError, TrustError, UsageError
from whimbrel_server.repository import chain, released

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from datetime import datetime
    from pathlib import Path

    from tuf.api.metadata import TargetFile  # type: ignore[attr-defined]

    from whimbrel_server.repository.incoming import Incoming

_NAME = re.compile(r"(\d{1,9})\.([A-Za-z0-9_-]{1,64})\.json")
_WAIT_S = 10.0


class Accepted(NamedTuple):
    """What was taken in: the metadata's role and version, and targets that are new in it."""

    role: str
    version: int
    fresh: bool
    added: tuple[str, ...] = ()


class Acceptance:
    """Takes metadata into one repository.

    Args:
        directory: of the repository.
        incoming: where the files are that it may name.
    """

    def __init__(self, directory: Path, incoming: Incoming) -> None:
        self._directory, self._incoming = directory, incoming

    def names(self) -> tuple[str, ...]:
        """Return the names of the metadata files."""
        folder = self._directory / "metadata"
        try:
            found = [e.name for e in os.scandir(folder) if e.name.endswith(".json")]
        except OSError as error:
            raise StorageError(f"{folder} cannot be read: {error.strerror}") from error
        return tuple(sorted(found))

    def accept(
        self, name: str, data: bytes, now: datetime, before: Callable[[Accepted], None]
    ) -> Accepted:
        """Verify metadata and put it in place, with the files that it names.

        Args:
            name: of the file: ``<version>.<role>.json``.
            data: its bytes, as they were signed.
            now: the time by which expiry counts.
            before: called when all is verified and nothing was changed; it may refuse.

        Raises:
            InputError: the name is none of a publisher's metadata.
            UsageError: that version is there with other bytes, or it is not the next one
                (``conflict``); nothing was changed.
            TrustError: it or a file that it names does not verify; nothing was changed.
            StorageError: the disk refuses; what devices see is as it was.
        """
        match = _NAME.fullmatch(name)
        if match is None or match[2] in {"snapshot", "timestamp"}:
            raise InputError(
                f"{name[:80]!r} is not metadata that a publisher signs",
                hint="snapshot and timestamp are signed here",
            )
        version, role = int(match[1]), match[2]
        with self._locked():
            file = self._directory / "metadata" / name
            if file.is_file():
                if chain.read(file) == data:
                    return Accepted(role, version, fresh=False)
                raise UsageError(
                    f"{name} is published already, with other content; it was not touched",
                    hint="publish again: it goes on from what is there",
                    code="conflict",
                )
            newest = chain.newest(self._directory, role)
            if version != newest + 1:
                raise UsageError(
                    f"{name} is not the next version: {newest} is the newest",
                    hint="publish again: it goes on from what is there",
                    code="conflict",
                )
            new = self._verified(role, version, data, now)
            places = self._places(new) if isinstance(new, Targets) else {}
            accepted = Accepted(role, version, fresh=True, added=tuple(sorted(places)))
            before(accepted)
            self._place(file, data, places.values())
        return accepted

    def _verified(self, role: str, version: int, data: bytes, now: datetime) -> Root | Targets:
        """Return the metadata, signed by those whom what is here names for its role."""
        root = chain.verified_root(self._directory)
        new: Root | Targets
        if role == "root":
            chain.verify(root, "root", data, Root)
            next_root: Root = chain.verify(None, "root", data, Root)
            # Else devices that follow it would find targets that do not hold.
            chain.verified_targets(self._directory, next_root)
            new = next_root
        elif role == "targets":
            new = chain.verify(root, "targets", data, Targets)
        else:
            main = chain.verified_targets(self._directory, root)
            team: Targets = chain.verify(main, role, data, Targets)
            _require_own(role, team, main)
            new = team
        if new.version != version:
            raise TrustError(f"{version}.{role}.json says that it is version {new.version}")
        if new.is_expired(now):
            raise TrustError(
                f"{version}.{role}.json expired at {new.expires:%Y-%m-%d %H:%M} UTC",
                hint="is the clock of the build machine right? sign it again",
                code="trust.expired",
            )
        return new

    def _places(self, new: Targets) -> dict[str, tuple[Path, Path]]:
        """Return from where to where each file goes that is not in place; verify each one.

        Raises:
            TrustError: a file is missing, or is not what was signed.
        """
        keys: tuple[released.Publisher, ...] = ()
        found = {}
        for path, target in new.targets.items():
            digest = target.hashes.get("sha256", "")
            place = self._place_of(path, digest)
            if place.is_file() and place.stat().st_size == target.length:
                continue  # it was verified when it came
            source = self._incoming.whole(digest)
            if source is None:
                raise TrustError(
                    f"{path} is signed, and its {target.length} bytes never came; "
                    "nothing was published",
                    hint="publish again: it sends what is missing",
                    code="trust.missing",
                )
            _verify_file(path, target, source)
            one = released.published(path, target)
            if one is not None:
                keys = keys or self._publishers(new)
                released.opened(chain.read(source), one, keys)
            found[path] = (source, place)
        return found

    def _place_of(self, path: str, digest: str) -> Path:
        place = released.target_file(self._directory, path, digest)
        parts = path.split("/")
        if not digest or any(part in {"", ".", ".."} or "\0" in part for part in parts):
            raise TrustError(
                f"{path[:200]!r} cannot be a target: its path or digest is malformed",
                code="trust.path",
            )
        return place

    def _publishers(self, new: Targets) -> tuple[released.Publisher, ...]:
        target = new.targets.get(released.PUBLISHERS)
        if target is None:  # a team's role; whom devices trust is said by targets alone
            root = chain.verified_root(self._directory)
            target = chain.verified_targets(self._directory, root).targets.get(released.PUBLISHERS)
        if target is None:
            raise TrustError(f"the new targets name no {released.PUBLISHERS}", code="trust.missing")
        digest = target.hashes["sha256"]
        place = self._place_of(released.PUBLISHERS, digest)
        file = place if place.is_file() else self._incoming.whole(digest)
        if file is None:
            raise TrustError(f"{released.PUBLISHERS} never came", code="trust.missing")
        _verify_file(released.PUBLISHERS, target, file)
        return released.publishers(chain.read(file))

    def _place(self, file: Path, data: bytes, places: Iterable[tuple[Path, Path]]) -> None:
        partial = file.with_name(f".{file.name}.{os.getpid()}.part")
        try:
            for source, place in places:
                place.parent.mkdir(parents=True, exist_ok=True)
                source.replace(place)
                _sync_folder(place.parent)
            with partial.open("wb") as out:
                out.write(data)
                out.flush()
                os.fsync(out.fileno())
            partial.replace(file)
            _sync_folder(file.parent)
        except OSError as error:
            with contextlib.suppress(OSError):
                partial.unlink()
            raise StorageError(
                f"{file} cannot be written: {error.strerror}; devices see what they saw before",
                hint="make room on the server, then publish again",
            ) from error

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        """Hold the repository's lock, which publishers on this machine take too."""
        try:
            descriptor = os.open(self._directory / ".lock", os.O_RDWR | os.O_CREAT, 0o644)
        except OSError as error:
            raise StorageError(
                f"the repository {self._directory} cannot be written: {error.strerror}",
                hint="correct its permissions",
            ) from error
        try:
            deadline = time.monotonic() + _WAIT_S
            while True:
                try:
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if time.monotonic() > deadline:
                        raise UsageError(
                            "somebody else is publishing just now; nothing was changed",
                            hint="publish again when they are done",
                            code="conflict",
                        ) from None
                    time.sleep(0.02)
            yield
        finally:
            os.close(descriptor)


def _require_own(role: str, new: Targets, main: Targets) -> None:
    """Require that a team names only what was delegated to it. Raises `TrustError`."""
    team = ((main.delegations.roles if main.delegations else None) or {})[role]
    foreign = [path for path in new.targets if not team.is_delegated_path(path)]
    if foreign:
        raise TrustError(
            f"{role} names {foreign[0]}, which was not delegated to it; nothing was published",
            hint="targets delegates models: 'whimbrel repo delegate'",
            code="trust.role",
        )


def _verify_file(path: str, target: TargetFile, file: Path) -> None:
    """Require that a file has the signed length and digest. Raises `TrustError`."""
    try:
        with file.open("rb") as stream:
            length = os.fstat(stream.fileno()).st_size
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise TrustError(f"{path} cannot be read: {error}", code="trust.digest") from error
    if (length, digest) != (target.length, target.hashes.get("sha256")):
        raise TrustError(
            f"{path} is {length} bytes with sha256 {digest[:12]}…, signed are {target.length} "
            "bytes and another digest; nothing was published",
            hint="publish again",
            code="trust.digest",
        )


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
