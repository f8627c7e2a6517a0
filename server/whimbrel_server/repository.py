"""The bundle repository: what the publisher released, and the two roles that the server signs.

A directory of TUF metadata and targets. The publisher's offline keys sign root and targets; the
server holds the snapshot and timestamp keys (when they are given to it) and can therefore say
"this is the newest", but never what a bundle is. The server verifies what it reads, like a device:
root chain, targets signatures, bundle signatures by keys named in ``trust/publishers.json``.
"""

from __future__ import annotations

import fcntl
import io
import logging
import os
import threading
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import msgspec
from securesystemslib.signer import CryptoSigner  # type: ignore[attr-defined]  # public, not listed
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

from whimbrel_core.bundle import bundle as bundles
from whimbrel_core.bundle.manifest import Manifest
from whimbrel_core.errors import StorageError, TrustError, UsageError, WhimbrelError
from whimbrel_core.identity import sha256
from whimbrel_core.profile.baseline import Baseline
from whimbrel_core.signing.keys import PublicKey

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


log = logging.getLogger(__name__)

PUBLISHERS = "trust/publishers.json"
FLEET_KEYS = "trust/fleet.json"
BUNDLE_PREFIX = "bundles/"
# The spec's lower bound for clients that read chains of roots.
_MAX_ROOTS = 256


class _Publisher(msgspec.Struct, frozen=True):
    pem: str
    models: tuple[str, ...] = ("*",)


class _Publishers(msgspec.Struct, frozen=True):
    keys: tuple[_Publisher, ...]


class Published(msgspec.Struct, frozen=True, kw_only=True):
    """One released bundle, as the signed targets metadata names it.

    ``problem`` is empty, or why the bundle's own bytes or signature are not trusted.
    """

    name: str
    version: str
    release: int
    digest: str
    path: str
    length: int
    profile_id: str
    device_classes: tuple[str, ...] = ()
    published_ms: int | None = None
    problem: str = ""


class Contents(msgspec.Struct, frozen=True):
    """A verified bundle's parts that the server judges by."""

    manifest: Manifest
    baseline: Baseline


class Repository:
    """Reads and watches one repository directory. Safe to use from several threads."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._lock = threading.RLock()
        self._stamp: tuple[object, ...] | None = None
        self._targets: Targets | None = None
        self._published: dict[str, Published] = {}
        self._contents: dict[str, Contents | WhimbrelError] = {}

    def reload(self) -> bool:
        """Read the metadata again if it changed; return whether it had.

        Raises:
            TrustError: the metadata does not verify. What was read before still stands.
            StorageError: the directory or its metadata cannot be read.
        """
        with self._lock:
            stamp = self._look()
            if stamp == self._stamp:
                return False
            targets = self._verified_targets()
            published = {}
            for path, target in targets.targets.items():
                custom = (target.custom or {}).get("whimbrel")
                if path.startswith(BUNDLE_PREFIX) and isinstance(custom, dict):
                    one = _published(path, target.hashes["sha256"], target.length, custom)
                    file = self._target_file(path, one.digest)
                    when = int(file.stat().st_mtime * 1000) if file.is_file() else None
                    published[one.digest] = msgspec.structs.replace(one, published_ms=when)
            self._targets, self._published, self._stamp = targets, published, stamp
            self._contents = {
                digest: known
                for digest, known in self._contents.items()
                if digest in published and isinstance(known, Contents)
            }
            return True

    def published(self) -> tuple[Published, ...]:
        """Return all released bundles, newest release of each model first."""
        with self._lock:
            found = sorted(self._published.values(), key=lambda p: (p.name, -p.release))
        return tuple(self._with_problem(one) for one in found)

    def get(self, digest: str) -> Published | None:
        """Return the released bundle with this digest, or None."""
        with self._lock:
            return self._published.get(digest)

    def find(self, name: str, version: str) -> Published:
        """Return a version of a model, verified.

        Raises:
            UsageError: there is none (code ``not_found``).
            TrustError: it is there and its signature or bytes do not hold.
        """
        with self._lock:
            for one in self._published.values():
                if (one.name, one.version) == (name, version):
                    self.contents(one.digest)
                    return one
            versions = sorted(p.version for p in self._published.values() if p.name == name)
        known = f"published are {', '.join(versions)}" if versions else "no version is published"
        raise UsageError(
            f"there is no version {version} of model {name}; {known}",
            hint="publish it with 'whimbrel publish'",
            code="not_found",
        )

    def contents(self, digest: str) -> Contents:
        """Return manifest and baseline of a released bundle, verified once and then remembered.

        Raises:
            UsageError: no such bundle is released (code ``not_found``).
            TrustError, InputError: its bytes or signature do not hold.
        """
        with self._lock:
            known = self._contents.get(digest)
            if known is None:
                try:
                    known = self._open(digest)
                except WhimbrelError as error:
                    if error.code == "not_found":
                        raise
                    log.warning("bundle %s… is not used for judging: %s", digest[:12], error)
                    known = error
                self._contents[digest] = known
        if isinstance(known, WhimbrelError):
            raise known
        return known

    def trust_target(self, path: str) -> bytes:
        """Return the bytes of a ``trust/…`` target, checked against the signed hash.

        Raises:
            TrustError: it is not there or differs from what was signed.
        """
        with self._lock:
            target = self._targets.targets.get(path) if self._targets else None
            if target is None:
                raise TrustError(
                    f"the repository {self.directory} has no target {path}",
                    code="trust.missing",
                    hint="make it with 'whimbrel repo init'",
                )
            try:
                data = self._target_file(path, target.hashes["sha256"]).read_bytes()
                target.verify_length_and_hashes(data)
            except (OSError, ValueError, RepositoryError) as error:
                raise TrustError(
                    f"{path} is not what the publisher signed: {error}", code="trust.digest"
                ) from error
            return data

    def root_json(self) -> bytes:
        """Return the first root: the trust anchor that a device is enrolled with."""
        return _read(self.directory / "metadata" / "1.root.json")

    def fleet_key_ids(self) -> frozenset[str]:
        """Return the ids of the keys that devices accept assignments from."""
        keys = msgspec.json.decode(self.trust_target(FLEET_KEYS), type=_Publishers).keys
        return frozenset(PublicKey.from_pem(key.pem).id for key in keys)

    def _with_problem(self, one: Published) -> Published:
        try:
            self.contents(one.digest)
        except WhimbrelError as error:
            return msgspec.structs.replace(one, problem=error.message)
        return one

    def _open(self, digest: str) -> Contents:
        one = self._published.get(digest)
        if one is None:
            raise UsageError(f"no bundle {digest[:12]}… is published here", code="not_found")
        trusted = msgspec.json.decode(self.trust_target(PUBLISHERS), type=_Publishers)
        keys = [
            PublicKey.from_pem(key.pem)
            for key in trusted.keys
            if "*" in key.models or one.name in key.models
        ]
        data = _read(self._target_file(one.path, digest))
        if sha256(data) != digest:
            raise TrustError(
                f"{one.path} is not what was published: its bytes are damaged or were changed",
                code="trust.digest",
                hint="restore the file, or publish the bundle again; devices refuse it too",
            )
        opened = bundles.open_bundle(io.BytesIO(data), keys, what=one.path)
        manifest = opened.manifest
        signed = (manifest.name, manifest.version, manifest.release, manifest.profile_id)
        named = (one.name, one.version, one.release, one.profile_id)
        if signed != named:
            raise TrustError(
                f"{one.path}: the bundle says {signed}, the repository {named}",
                code="trust.identity",
                hint="publish the bundle again",
            )
        baseline = Baseline.decode(opened.read(bundles.BASELINE))
        if baseline.profile_id != manifest.profile_id:
            raise TrustError(f"{one.path}: baseline and manifest differ in profile_id")
        return Contents(manifest, baseline)

    def _target_file(self, path: str, digest: str) -> Path:
        folder, _, name = path.rpartition("/")
        return self.directory / "targets" / folder / f"{digest}.{name}"

    def _look(self) -> tuple[object, ...]:
        metadata = self.directory / "metadata"
        try:
            names = sorted(
                (e.name, e.stat().st_mtime_ns)
                for e in os.scandir(metadata)
                if e.name.endswith((".targets.json", ".root.json"))
            )
        except OSError as error:
            raise StorageError(
                f"the repository {self.directory} cannot be read: {error}",
                hint="make it with 'whimbrel repo init --dir …' and name it in server.toml",
                code="storage.repository",
            ) from error
        return tuple(names)

    def _verified_targets(self) -> Targets:
        root = verified_root(self.directory)
        version = newest(self.directory, "targets")
        data = _read(self.directory / "metadata" / f"{version}.targets.json")
        targets: Targets = _verify(root, "targets", data, Targets)
        return targets


def verified_root(directory: Path) -> Root:
    """Return the newest root, each verified by the one before.

    Raises:
        TrustError: a link of the chain does not verify.
    """
    root: Root | None = None
    for version in range(1, _MAX_ROOTS):
        file = directory / "metadata" / f"{version}.root.json"
        if not file.is_file():
            break
        data = _read(file)
        if root is not None:
            _verify(root, "root", data, Root)
        root = _verify(None, "root", data, Root)
        if root.version != version:
            raise TrustError(f"{file.name} says that it is version {root.version}")
    if root is None:
        raise TrustError(
            f"the repository {directory} has no 1.root.json",
            code="trust.missing",
            hint="make it with 'whimbrel repo init'",
        )
    return root


def newest(directory: Path, role: str) -> int:
    """Return the highest version of a role's metadata files; 0 for none."""
    versions = [
        int(prefix)
        for file in (directory / "metadata").glob(f"*.{role}.json")
        if (prefix := file.name.split(".", 1)[0]).isdigit()
    ]
    return max(versions, default=0)


def _verify(root: Root | None, role: str, data: bytes, kind: type[Any]) -> Any:  # noqa: ANN401 - one of the four roles
    try:
        metadata: Metadata[Any] = Metadata.from_bytes(data)
        if not isinstance(metadata.signed, kind):
            raise TrustError(f"{role} metadata is of type {metadata.signed.type}")
        if root is None:
            metadata.signed.verify_delegate("root", metadata.signed_bytes, metadata.signatures)
        else:
            root.verify_delegate(role, metadata.signed_bytes, metadata.signatures)
    except (RepositoryError, DeserializationError, ValueError) as error:
        raise TrustError(
            f"the repository's {role} metadata does not verify: {error}",
            code="trust.threshold",
            hint="restore it, or publish again with the publisher's keys; devices refuse it too",
        ) from error
    return metadata.signed


class OnlineRoles:
    """Signs snapshot and timestamp, so that devices see new targets and fresh metadata.

    Args:
        directory: the repository.
        snapshot: signer of snapshot; ``timestamp``: signer of timestamp.
        snapshot_life: how long a snapshot is valid; ``timestamp_life``: likewise.
    """

    def __init__(
        self,
        directory: Path,
        snapshot: CryptoSigner,
        timestamp: CryptoSigner,
        *,
        snapshot_life: timedelta = timedelta(days=7),
        timestamp_life: timedelta = timedelta(days=1),
    ) -> None:
        self._directory = directory
        self._snapshot, self._timestamp = snapshot, timestamp
        self._snapshot_life, self._timestamp_life = snapshot_life, timestamp_life

    def refresh(self, now: datetime) -> tuple[str, ...]:
        """Sign what is due and return the files that were written.

        A new snapshot is due when there are newer targets than it names or half of its life is
        over; a new timestamp when there is a new snapshot or half of its life is over. Each file
        is complete before the next one names it, so a crash in between leaves the old state.

        Raises:
            TrustError: the newest targets do not verify; nothing was signed.
            StorageError: a file cannot be written.
        """
        # Looking needs no lock, and must not take it: publishers do not wait for it.
        if not self._due(now):
            return ()
        with self._lock() as held:
            # A publisher is at work: it signs what it changes, or we do at the next look.
            return self._refresh(now) if held else ()

    def _due(self, now: datetime) -> bool:
        root = verified_root(self._directory)
        snapshot = self._current(root, "snapshot", Snapshot)
        timestamp = self._current(root, "timestamp", Timestamp)
        return (
            snapshot is None
            or timestamp is None
            or snapshot.meta["targets.json"].version != newest(self._directory, "targets")
            or snapshot.expires - now < self._snapshot_life / 2
            or timestamp.snapshot_meta.version != snapshot.version
            or timestamp.expires - now < self._timestamp_life / 2
        )

    @contextmanager
    def _lock(self) -> Iterator[bool]:
        """Yield whether the repository's lock was to be had; publishers take the same one."""
        try:
            descriptor = os.open(self._directory / ".lock", os.O_RDWR | os.O_CREAT, 0o644)
        except OSError as error:
            raise StorageError(
                f"the repository {self._directory} cannot be written: {error}",
                hint="correct its permissions; the server signs snapshot and timestamp there",
            ) from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            yield True
        except BlockingIOError:
            yield False
        finally:
            os.close(descriptor)

    def _refresh(self, now: datetime) -> tuple[str, ...]:
        root = verified_root(self._directory)
        metadata = self._directory / "metadata"
        targets_version = newest(self._directory, "targets")
        data = _read(metadata / f"{targets_version}.targets.json")
        targets: Targets = _verify(root, "targets", data, Targets)
        if targets.version != targets_version:
            raise TrustError(f"{targets_version}.targets.json is version {targets.version}")
        written = []
        snapshot = self._current(root, "snapshot", Snapshot)
        stale = (
            snapshot is None
            or snapshot.meta["targets.json"].version != targets_version
            or snapshot.expires - now < self._snapshot_life / 2
        )
        if stale:
            version = newest(self._directory, "snapshot") + 1
            fresh = Snapshot(
                version=version,
                expires=_second(now + self._snapshot_life),
                meta={"targets.json": MetaFile(version=targets_version)},
            )
            written.append(f"{version}.snapshot.json")
            self._write(written[-1], Metadata(fresh), self._snapshot)
            snapshot = fresh
        timestamp = self._current(root, "timestamp", Timestamp)
        if (
            stale
            or snapshot is None
            or timestamp is None
            or timestamp.snapshot_meta.version != snapshot.version
            or timestamp.expires - now < self._timestamp_life / 2
        ):
            version = 1 if timestamp is None else timestamp.version + 1
            meta = MetaFile(version=snapshot.version if snapshot else 1)
            new = Timestamp(
                version=version, expires=_second(now + self._timestamp_life), snapshot_meta=meta
            )
            written.append("timestamp.json")
            self._write(written[-1], Metadata(new), self._timestamp)
        return tuple(written)

    def _current(self, root: Root, role: str, kind: type[Any]) -> Any | None:  # noqa: ANN401
        name = f"{newest(self._directory, role)}.{role}.json"
        file = self._directory / "metadata" / ("timestamp.json" if role == "timestamp" else name)
        if not file.is_file():
            return None
        return _verify(root, role, _read(file), kind)

    def _write(self, name: str, metadata: Metadata[Any], signer: CryptoSigner) -> None:
        metadata.sign(signer)
        file = self._directory / "metadata" / name
        partial = file.with_name(f".{name}.{os.getpid()}.part")
        try:
            with partial.open("wb") as out:
                out.write(metadata.to_bytes())
                out.flush()
                os.fsync(out.fileno())
            partial.replace(file)
        except OSError as error:
            partial.unlink(missing_ok=True)
            raise StorageError(
                f"{file} cannot be written: {error}; devices keep the old metadata",
                hint="free space, or correct the permissions of the repository",
            ) from error


def load_signer(pem: bytes) -> CryptoSigner:
    """Return a TUF signer from an EC private key in PEM."""
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        return CryptoSigner(load_pem_private_key(pem, None))
    except (ValueError, TypeError) as error:
        raise TrustError(
            "an online key is not a PEM private key, or it is encrypted", code="trust.key"
        ) from error


def _published(path: str, digest: str, length: int, custom: dict[str, Any]) -> Published:
    try:
        return msgspec.convert(
            {**custom, "path": path, "digest": digest, "length": length}, Published
        )
    except msgspec.ValidationError as error:
        raise TrustError(f"{path}: its custom field is malformed: {error}") from error


def _second(moment: datetime) -> datetime:
    return moment.astimezone(UTC).replace(microsecond=0)


def _read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise StorageError(
            f"{file} cannot be read: {error}", hint="publish again, or restore the repository"
        ) from error
