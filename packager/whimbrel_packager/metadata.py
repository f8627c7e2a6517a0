"""TUF metadata in a destination: the four roles, verified when read and whole when written."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

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
from whimbrel_packager.tuf_signer import TufSigner, tuf_key

if TYPE_CHECKING:
    from contextlib import AbstractContextManager
    from pathlib import Path

    from whimbrel_core.signing.keys import PrivateKey

Signed = Any  # one of the four roles, told apart by name
Role = Literal["root", "targets", "snapshot", "timestamp"]
TIMESTAMP = "metadata/timestamp.json"
ATTEMPTS = 5
ROLES: dict[Role, type[Any]] = {
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

    def newest(self, role: Role) -> int:
        """Return the highest version of a role's metadata; 0 for none."""
        if role == "timestamp":
            data = self.destination.read(TIMESTAMP)
            return 0 if data is None else int(Metadata.from_bytes(data).signed.version)
        found = [
            int(prefix)
            for name in self.destination.names("metadata")
            if name.endswith(f".{role}.json") and (prefix := name.split(".", 1)[0]).isdigit()
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

    def status(self) -> Status:
        """Return what is signed, and until when."""
        root = self.root()
        signed: dict[str, Any] = {"root": root, "targets": self.targets(root)}
        for role in ("snapshot", "timestamp"):
            version = self.newest(role)
            signed[role] = self.load(role, version, root) if version else None
        snapshot, timestamp = signed["snapshot"], signed["timestamp"]
        waiting = (
            snapshot is None
            or timestamp is None
            or snapshot.meta["targets.json"].version != signed["targets"].version
            or timestamp.snapshot_meta.version != snapshot.version
        )
        return Status(
            {role: one.version if one else 0 for role, one in signed.items()},
            {role: one.expires if one else None for role, one in signed.items()},
            waiting,
        )

    def sign_online(
        self,
        snapshot: PrivateKey,
        timestamp: PrivateKey,
        targets: Targets,
        *,
        now: datetime,
        lives: Lives,
        root: Root | None,
    ) -> tuple[str, ...]:
        """Sign a new snapshot over ``targets``, then a timestamp; return the files' names.

        Roles that are there are verified by ``root`` first; None while a repository is made.
        Somebody who publishes at the same time may write between: then it is looked at again,
        so that the last snapshot names the newest targets, whoever writes it.

        Raises:
            ConflictError: others wrote in between, each time.
        """
        for attempt in range(ATTEMPTS):
            try:
                return self._sign_online(
                    snapshot, timestamp, targets, now=now, lives=lives, root=root
                )
            except ConflictError:
                if attempt == ATTEMPTS - 1:
                    raise
        raise AssertionError

    def _sign_online(
        self,
        snapshot: PrivateKey,
        timestamp: PrivateKey,
        targets: Targets,
        *,
        now: datetime,
        lives: Lives,
        root: Root | None,
    ) -> tuple[str, ...]:
        stamped = self.destination.read(TIMESTAMP)
        if root is not None:
            for role in ("snapshot", "timestamp"):
                version = self.newest(role)
                if version:
                    self.load(role, version, root)
            targets = self.targets(root)
        fresh = Snapshot(
            version=self.newest("snapshot") + 1,
            expires=expiry(now, lives.snapshot),
            meta={"targets.json": MetaFile(version=targets.version)},
        )
        stamp = Timestamp(
            version=self.newest("timestamp") + 1,
            expires=expiry(now, lives.timestamp),
            snapshot_meta=MetaFile(version=fresh.version),
        )
        return (
            self.write("snapshot", fresh, snapshot),
            self.write("timestamp", stamp, timestamp, seen=stamped),
        )

    def load(self, role: Role, version: int, root: Root | None) -> Signed:
        """Return a role's metadata, verified by ``root`` (a root without one: by itself).

        Raises:
            TrustError: it is not there, not what its name says, or not signed as root demands.
        """
        name = "timestamp.json" if role == "timestamp" else f"{version}.{role}.json"
        data = self.destination.read(f"metadata/{name}")
        if data is None:
            raise TrustError(
                f"{self.where}/metadata/{name} is not there, and other metadata names it",
                hint="restore it from a copy",
                code="trust.metadata",
            )
        try:
            metadata: Metadata[Any] = Metadata.from_bytes(data)
            signed = metadata.signed
            if not isinstance(signed, ROLES[role]) or signed.version != version:
                raise TrustError(f"{name} is {signed.type} version {signed.version}")
            if root is not None:
                root.verify_delegate(role, metadata.signed_bytes, metadata.signatures)
            elif role == "root":
                signed.verify_delegate(role, metadata.signed_bytes, metadata.signatures)
        except (RepositoryError, DeserializationError, ValueError) as error:
            raise TrustError(
                f"{self.where}/metadata/{name} does not verify: {error}",
                hint="restore it from a copy; devices would refuse it too",
                code="trust.metadata",
            ) from error
        return signed

    def write(
        self, role: Role, signed: Signed, signer: PrivateKey, *, seen: bytes | None = None
    ) -> str:
        """Sign and write a role's metadata; return the file's name.

        Args:
            role: of the four.
            signed: its content.
            signer: whose key root names.
            seen: the timestamp that was read and is replaced; the others are never.

        Raises:
            ConflictError: somebody else wrote this version first.
            StorageError: it was not written.
        """
        metadata: Metadata[Any] = Metadata(signed)
        metadata.sign(TufSigner(signer))
        if role == "timestamp":
            self.destination.replace(TIMESTAMP, metadata.to_bytes(), seen=seen)
            return "timestamp.json"
        name = f"{signed.version}.{role}.json"
        self.destination.create(f"metadata/{name}", metadata.to_bytes())
        return name


def require_role(root: Root, role: str, signer: PrivateKey) -> None:
    """Require that root names a key for a role. Raises `TrustError`."""
    keyid = tuf_key(signer.public).keyid
    if keyid not in root.roles[role].keyids:
        raise TrustError(
            f"the given {role} key is not the one that this repository's root names",
            hint=f"give the folder that holds this repository's {role}.pem",
            code="trust.role",
        )


def expiry(now: datetime, days: int) -> datetime:
    """Return the time ``days`` from now, as TUF writes it."""
    # TUF's times have no fractions.
    return now.astimezone(UTC).replace(microsecond=0) + timedelta(days=days)
