"""What the publisher released: bundles named by signed metadata, each opened and verified once.

The server verifies what it reads, like a device: root chain, targets signatures, bundle signatures
by keys named in ``trust/publishers.json``.
"""

from __future__ import annotations

import io
import logging
import os
import threading
from typing import TYPE_CHECKING

import msgspec
from tuf.api.exceptions import RepositoryError

from whimbrel_core.bundle import bundle as bundles
from whimbrel_core.bundle.manifest import Manifest
from whimbrel_core.errors import StorageError, TrustError, UsageError, WhimbrelError
from whimbrel_core.identity import sha256
from whimbrel_core.profile.baseline import Baseline
from whimbrel_core.signing.keys import PublicKey
from whimbrel_server.repository import chain

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from tuf.api.metadata import (  # type: ignore[attr-defined]  # public by its documentation
        TargetFile,
        Targets,
    )

log = logging.getLogger(__name__)

PUBLISHERS = "trust/publishers.json"
FLEET_KEYS = "trust/fleet.json"
BUNDLE_PREFIX = "bundles/"
_ONLINE = ("snapshot.json", "timestamp.json")


class Publisher(msgspec.Struct, frozen=True):
    """A key that may sign bundles, and of which models; ``*`` is all."""

    pem: str
    models: tuple[str, ...] = ("*",)


class _Publishers(msgspec.Struct, frozen=True):
    keys: tuple[Publisher, ...]


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
            targets = chain.verified_targets(self.directory, chain.verified_root(self.directory))
            found = {}
            for path, target in chain.named(self.directory, targets).items():
                one = published(path, target)
                if one is not None:
                    file = self._target_file(path, one.digest)
                    when = int(file.stat().st_mtime * 1000) if file.is_file() else None
                    found[one.digest] = msgspec.structs.replace(one, published_ms=when)
            same_keys = self._targets is not None and (
                self._targets.targets.get(PUBLISHERS) == targets.targets.get(PUBLISHERS)
            )
            self._targets, self._published, self._stamp = targets, found, stamp
            # A key that is not trusted any more takes back what it vouched for.
            self._contents = {
                digest: known
                for digest, known in self._contents.items()
                if same_keys and digest in found and isinstance(known, Contents)
            }
            return True

    def problem(self) -> str:
        """Read the metadata again if it changed; return why it cannot be used, or an empty text."""
        try:
            self.reload()
        except WhimbrelError as error:
            return error.message
        return ""

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
            # Else the one stored error would carry the traceback of every caller so far.
            raise known.with_traceback(None)
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
        return chain.read(self.directory / "metadata" / "1.root.json")

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
        keys = publishers(self.trust_target(PUBLISHERS))
        return opened(chain.read(self._target_file(one.path, digest)), one, keys)

    def _target_file(self, path: str, digest: str) -> Path:
        return target_file(self.directory, path, digest)

    def _look(self) -> tuple[object, ...]:
        metadata = self.directory / "metadata"
        try:
            names = sorted(
                (e.name, e.stat().st_mtime_ns)
                for e in os.scandir(metadata)
                if e.name.endswith(".json") and not e.name.endswith(_ONLINE)
            )
        except OSError as error:
            raise StorageError(
                f"the repository {self.directory} cannot be read: {error}",
                hint="make it with 'whimbrel repo init --dir …' and name it in server.toml",
                code="storage.repository",
            ) from error
        return tuple(names)


def publishers(data: bytes) -> tuple[Publisher, ...]:
    """Return the keys that a ``trust/publishers.json`` names. Raises `TrustError`."""
    try:
        return msgspec.json.decode(data, type=_Publishers).keys
    except msgspec.DecodeError as error:
        raise TrustError(f"{PUBLISHERS} is malformed: {error}") from error


def opened(data: bytes, one: Published, keys: Iterable[Publisher]) -> Contents:
    """Return manifest and baseline of a bundle, verified.

    Args:
        data: the bundle's bytes.
        one: what the signed targets say of it.
        keys: those that devices trust.

    Raises:
        TrustError: its bytes, signature or identity are not what was signed.
        InputError: it is malformed.
    """
    if sha256(data) != one.digest:
        raise TrustError(
            f"{one.path} is not what was published: its bytes are damaged or were changed",
            code="trust.digest",
            hint="restore the file, or publish the bundle again; devices refuse it too",
        )
    trusted = [
        PublicKey.from_pem(key.pem) for key in keys if "*" in key.models or one.name in key.models
    ]
    bundle = bundles.open_bundle(io.BytesIO(data), trusted, what=one.path)
    manifest = bundle.manifest
    signed = (manifest.name, manifest.version, manifest.release, manifest.profile_id)
    named = (one.name, one.version, one.release, one.profile_id)
    if signed != named:
        raise TrustError(
            f"{one.path}: the bundle says {signed}, the repository {named}",
            code="trust.identity",
            hint="publish the bundle again",
        )
    baseline = Baseline.decode(bundle.read(bundles.BASELINE))
    if baseline.profile_id != manifest.profile_id:
        raise TrustError(f"{one.path}: baseline and manifest differ in profile_id")
    return Contents(manifest, baseline)


def target_file(directory: Path, path: str, digest: str) -> Path:
    """Return where a target lies: consistent snapshots put its digest before its name."""
    folder, _, name = path.rpartition("/")
    return directory / "targets" / folder / f"{digest}.{name}"


def published(path: str, target: TargetFile) -> Published | None:
    """Return what signed targets say of a bundle; None for what is none.

    Raises:
        TrustError: its custom field is malformed.
    """
    custom = (target.custom or {}).get("whimbrel")
    if not path.startswith(BUNDLE_PREFIX) or not isinstance(custom, dict):
        return None
    fixed = {"path": path, "digest": target.hashes["sha256"], "length": target.length}
    try:
        return msgspec.convert({**custom, **fixed}, Published)
    except msgspec.ValidationError as error:
        raise TrustError(f"{path}: its custom field is malformed: {error}") from error
