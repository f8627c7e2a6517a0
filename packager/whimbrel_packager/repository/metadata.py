"""TUF metadata in a destination: the four roles, verified when read and whole when written."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec
from tuf.api.exceptions import RepositoryError
from tuf.api.metadata import (  # type: ignore[attr-defined]  # public by its documentation
    Metadata,
    MetaFile,
    Root,
    Snapshot,
    Targets,
    Timestamp,
)
from tuf.api.serialization import DeserializationError

from whimbrel_core.errors import TrustError, UsageError
from whimbrel_packager.destinations import ConflictError, Destination, Directory, destination
from whimbrel_packager.signing.tuf_signer import TufSigner

if TYPE_CHECKING:
    from collections.abc import Sequence
    from contextlib import AbstractContextManager
    from pathlib import Path

    from whimbrel_core.signing.keys import Signer

Signed = Any  # one of the four roles, or a delegated one, told apart by name
TIMESTAMP = "metadata/timestamp.json"
ATTEMPTS = 5
ROLES: dict[str, type[Any]] = {
    "root": Root, "targets": Targets, "snapshot": Snapshot, "timestamp": Timestamp,
}  # fmt: skip


class Lives(msgspec.Struct, frozen=True):
    """For how many days each role's metadata is valid."""

    root: int = 365
    targets: int = 90
    snapshot: int = 7
    timestamp: int = 1


class Status(NamedTuple):
    """Versions and expiry of each role; 0 and None where it is not signed yet."""

    versions: dict[str, int]
    expires: dict[str, datetime | None]
    waiting: bool


class MetadataDirectory:
    """The ``metadata`` folder of a repository, wherever that is kept."""

    def __init__(self, place: str | Path | Destination) -> None:
        self.destination = destination(place)
        self.where = self.destination.where

    @property
    def in_directory(self) -> bool:
        """Whether it is kept in a directory."""
        return isinstance(self.destination, Directory)

    @property
    def directory(self) -> Path:
        """The directory, for what works on directories alone. Raises `UsageError`."""
        if not isinstance(self.destination, Directory):
            raise UsageError(f"{self.where} is not a directory", hint="give one")
        return self.destination.path

    @property
    def metadata(self) -> Path:
        """The directory's folder of metadata. Raises `UsageError`."""
        return self.directory / "metadata"

    def locked(self) -> AbstractContextManager[None]:
        """Hold the repository's lock, where it has one. Raises `UsageError`, `StorageError`."""
        return self.destination.exclusive()

    def newest(self, role: str) -> int:
        """Return the highest version of a role's metadata; 0 for none."""
        if role == "timestamp":
            data = self.destination.read(TIMESTAMP)
            return 0 if data is None else int(Metadata.from_bytes(data).signed.version)
        found = [
            int(prefix)
            for name in self.destination.names("metadata")
            if (prefix := name.partition(".")[0]).isdigit() and name == f"{prefix}.{role}.json"
        ]
        return max(found, default=0)

    def root(self) -> Root:
        """Return the newest root, each verified by the one before.

        Raises:
            UsageError: this is no repository.
            TrustError: a link of the chain does not verify.
        """
        last: Root | None = None
        for version in range(1, self.newest("root") + 1):
            signed: Root = self.load("root", version, last)
            last = self.load("root", version, signed)
        if last is None:
            raise UsageError(
                f"{self.where} is no repository: it has no metadata/1.root.json",
                hint="make one with 'whimbrel repo init --dir … --keys … --online-keys …'",
                code="usage.repository",
            )
        return last

    def targets(self, root: Root | None = None) -> Targets:
        """Return the newest targets, verified."""
        trusted = root or self.root()
        targets: Targets = self.load("targets", self.newest("targets"), trusted)
        return targets

    def delegated(self, targets: Targets) -> dict[str, Targets]:
        """Return the newest metadata of each role that targets delegates to and that is signed."""
        names = targets.delegations.roles if targets.delegations else None
        return {
            name: self.load(name, version, targets)
            for name in names or ()
            if (version := self.newest(name))
        }

    def status(self) -> Status:
        """Return what is signed, and until when."""
        root = self.root()
        targets = self.targets(root)
        signed: dict[str, Any] = {"root": root, "targets": targets}
        for role in ("snapshot", "timestamp"):
            version = self.newest(role)
            signed[role] = self.load(role, version, root) if version else None
        snapshot, timestamp = signed["snapshot"], signed["timestamp"]
        named = {"targets": targets, **self.delegated(targets)}
        waiting = (
            snapshot is None
            or timestamp is None
            or any(
                snapshot.meta.get(f"{role}.json", MetaFile(0x7FFFFFFF)).version != one.version
                for role, one in named.items()
            )
            or timestamp.snapshot_meta.version != snapshot.version
        )
        signed |= named
        return Status(
            {role: one.version if one else 0 for role, one in signed.items()},
            {role: one.expires if one else None for role, one in signed.items()},
            waiting,
        )

    def sign_online(
        self,
        snapshot: Sequence[Signer],
        timestamp: Sequence[Signer],
        targets: Targets,
        *,
        now: datetime,
        lives: Lives,
        root: Root | None,
        skip: int = 0,
    ) -> tuple[str, ...]:
        """Sign a new snapshot over the newest targets, then a timestamp; return the files' names.

        Roles that are there are verified by ``root`` first; None while a repository is made.
        ``skip`` versions are left out: they were given to what goes elsewhere.
        Somebody who publishes at the same time may write between: then it is looked at again,
        so that the last snapshot names the newest targets, whoever writes it.

        Raises:
            TrustError: root wants more signatures than these; nothing was written.
            ConflictError: others wrote in between, each time.
        """
        for attempt in range(ATTEMPTS):
            try:
                return self._sign_online(
                    snapshot, timestamp, targets, now=now, lives=lives, root=root, skip=skip
                )
            except ConflictError:
                if attempt == ATTEMPTS - 1:
                    raise
        raise AssertionError

    def _sign_online(
        self,
        snapshot: Sequence[Signer],
        timestamp: Sequence[Signer],
        targets: Targets,
        *,
        now: datetime,
        lives: Lives,
        root: Root | None,
        skip: int,
    ) -> tuple[str, ...]:
        # In this order: who writes a snapshot or timestamp in between is found when these are
        # written, and what was there before them is not older than what is read after them.
        stamped = self.destination.read(TIMESTAMP)
        latest = self.newest("snapshot")
        last = 0
        if stamped is not None:
            metadata = self._parsed("timestamp", "timestamp.json", stamped)
            last = metadata.signed.version
            if root is not None:
                self._checked("timestamp", metadata, root)
        if root is not None:
            targets = self.targets(root)
        fresh = Snapshot(
            version=latest + 1 + skip,
            expires=expiry(now, lives.snapshot),
            meta=self.named(targets, root),
        )
        stamp = Timestamp(
            version=last + 1 + skip,
            expires=expiry(now, lives.timestamp),
            snapshot_meta=MetaFile(version=fresh.version),
        )
        signed = [
            signed_by(Metadata(one), signers, root)
            for one, signers in ((fresh, snapshot), (stamp, timestamp))
        ]
        return (self.put("snapshot", signed[0]), self.put("timestamp", signed[1], seen=stamped))

    def named(self, targets: Targets, root: Root | None) -> dict[str, MetaFile]:
        """Return what a snapshot names: what the last one did, and what is newer.

        A role that was named once stays: devices refuse a snapshot that lacks one.
        """
        meta: dict[str, MetaFile] = {}
        if root is not None and (version := self.newest("snapshot")):
            meta = dict(self.load("snapshot", version, root).meta)
        for role, one in {"targets": targets, **self.delegated(targets)}.items():
            meta[f"{role}.json"] = MetaFile(version=one.version)
        return meta

    def load(self, role: str, version: int, delegator: Root | Targets | None) -> Signed:
        """Return a role's metadata, verified by ``delegator`` (a root without one: by itself).

        Raises:
            TrustError: it is not there, not what its name says, or not signed as it demands.
        """
        return self._checked(role, self.raw(role, version), delegator)

    def _checked(
        self, role: str, metadata: Metadata[Any], delegator: Root | Targets | None
    ) -> Signed:
        signed = metadata.signed
        try:
            if delegator is not None:
                delegator.verify_delegate(role, metadata.signed_bytes, metadata.signatures)
            elif role == "root":
                signed.verify_delegate(role, metadata.signed_bytes, metadata.signatures)
        except (RepositoryError, ValueError) as error:
            raise self._bad(file_name(role, signed.version), error) from error
        return signed

    def raw(self, role: str, version: int) -> Metadata[Any]:
        """Return a role's metadata with its signatures, which are NOT verified. Raises TrustError."""
        name = file_name(role, version)
        data = self.destination.read(f"metadata/{name}")
        if data is None:
            raise TrustError(
                f"{self.where}/metadata/{name} is not there, and other metadata names it",
                hint="restore it from a copy",
                code="trust.metadata",
            )
        metadata = self._parsed(role, name, data)
        if metadata.signed.version != version:
            raise TrustError(f"{self.where}/metadata/{name} is version {metadata.signed.version}")
        return metadata

    def _parsed(self, role: str, name: str, data: bytes) -> Metadata[Any]:
        try:
            metadata: Metadata[Any] = Metadata.from_bytes(data)
            if not isinstance(metadata.signed, ROLES.get(role, Targets)):
                raise TrustError(f"{self.where}/metadata/{name} is {metadata.signed.type}")
        except (DeserializationError, ValueError) as error:
            raise self._bad(name, error) from error
        return metadata

    def put(self, role: str, metadata: Metadata[Any], *, seen: bytes | None = None) -> str:
        """Write a role's metadata as it is signed; return the file's name.

        Args:
            role: its name.
            metadata: with its signatures.
            seen: the file that was read and is replaced; versions are made once.

        Raises:
            ConflictError: somebody else wrote this version first.
            StorageError: it was not written.
        """
        name = file_name(role, metadata.signed.version)
        path = f"metadata/{name}"
        if role == "timestamp" or seen is not None:
            self.destination.replace(path, metadata.to_bytes(), seen=seen)
        else:
            self.destination.create(path, metadata.to_bytes())
        return name

    def _bad(self, name: str, error: Exception) -> TrustError:
        return TrustError(
            f"{self.where}/metadata/{name} does not verify: {error}",
            hint="restore it from a copy; devices would refuse it too",
            code="trust.metadata",
        )


def file_name(role: str, version: int) -> str:
    """Return the name of a role's file."""
    return "timestamp.json" if role == "timestamp" else f"{version}.{role}.json"


def signed_by(
    metadata: Metadata[Any], signers: Sequence[Signer], delegator: Root | Targets | None
) -> Metadata[Any]:
    """Sign a role's metadata; with a delegator, see that these are enough.

    Raises:
        TrustError: they are not.
    """
    for signer in signers:
        metadata.sign(TufSigner(signer), append=True)
    if delegator is not None:
        role = metadata.signed.type
        try:
            delegator.verify_delegate(role, metadata.signed_bytes, metadata.signatures)
        except RepositoryError as error:
            raise TrustError(
                f"{role} is not signed by enough of its keys: {error}; nothing was written",
                hint=f"give all the {role} keys that root demands",
                code="trust.threshold",
            ) from error
    return metadata


def expiry(now: datetime, days: int) -> datetime:
    """Return the time ``days`` from now, as TUF writes it."""
    # TUF's times have no fractions.
    return now.astimezone(UTC).replace(microsecond=0) + timedelta(days=days)
