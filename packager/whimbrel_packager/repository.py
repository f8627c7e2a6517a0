"""The repository: TUF metadata and bundles in plain files that any file server can serve.

The publisher holds root and targets (which bundles exist, and the keys devices trust for them);
snapshot and timestamp may be held here too, or by the fleet server alone. Files are written in the
order in which they are named by others, each whole: target files, then ``N.targets.json``, then
snapshot, then timestamp. Whoever is interrupted leaves the old state; what lies about unnamed is
harmless, and used when the same thing is published again.
"""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec
from tuf.api.exceptions import RepositoryError
from tuf.api.metadata import (  # type: ignore[attr-defined]  # public by its documentation
    Root,
    TargetFile,
    Targets,
)

from whimbrel_core.bundle import bundle as bundles
from whimbrel_core.canonical import canonical_json
from whimbrel_core.errors import TrustError, UsageError
from whimbrel_core.identity import sha256
from whimbrel_core.signing.keys import PublicKey
from whimbrel_packager import delta, keyfiles, released
from whimbrel_packager.metadata import ROLES, Lives, MetadataDirectory, expiry, require_role
from whimbrel_packager.tuf_signer import tuf_key

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime
    from pathlib import Path

    from whimbrel_core.bundle.manifest import Manifest
    from whimbrel_core.signing.keys import PrivateKey
    from whimbrel_packager.destinations import Destination
    from whimbrel_packager.released import Released

OFFLINE_KEYS = ("root", "targets", "bundle")
ONLINE_KEYS = ("snapshot", "timestamp", "fleet")
PUBLISHERS, FLEET = "trust/publishers.json", "trust/fleet.json"
DELTA_RELEASES = 2


class Published(NamedTuple):
    """What publishing did.

    Attributes:
        released: the bundle as it is named now.
        targets_version: of the targets metadata.
        signed: metadata files written, in order.
        waiting: whether snapshot and timestamp are still to be signed, by the fleet server.
        fresh: False when exactly this bundle was published before; nothing was changed.
    """

    released: Released
    targets_version: int
    signed: tuple[str, ...]
    waiting: bool
    fresh: bool
    delta_bytes: dict[str, int]


class Repository(MetadataDirectory):
    """A repository, opened to be read and published to."""

    @classmethod
    def init(
        cls,
        place: str | Path | Destination,
        keys: Path,
        online: Path,
        *,
        now: datetime,
        lives: Lives | None = None,
    ) -> Repository:
        """Make the keys that are not there yet, the four roles, and the trust targets.

        Args:
            place: directory or other destination of the repository; new or empty.
            keys: folder of the offline keys root, targets and bundle.
            online: folder of the online keys snapshot, timestamp and fleet.
            now: the time from which validity counts.
            lives: validity of each role.

        Raises:
            UsageError: there is a repository; it was not touched.
        """
        found = cls(place)
        if found.newest("root"):
            raise UsageError(
                f"{found.where} is a repository already; it was not touched",
                hint="see it with 'whimbrel repo show --dir …'",
                code="usage.exists",
            )
        lives = lives or Lives()
        signers = {
            **{name: _key(keys, name) for name in OFFLINE_KEYS},
            **{name: _key(online, name) for name in ONLINE_KEYS},
        }
        with found.locked():
            root = Root(version=1, expires=expiry(now, lives.root), consistent_snapshot=True)
            for role in ROLES:
                root.add_key(tuf_key(signers[role].public), role)
            trust = {
                PUBLISHERS: {"keys": [{"pem": signers["bundle"].public.pem, "models": ["*"]}]},
                FLEET: {"keys": [{"pem": signers["fleet"].public.pem}]},
            }
            # 1, unless somebody was interrupted here.
            targets = Targets(
                version=found.newest("targets") + 1, expires=expiry(now, lives.targets)
            )
            for path, content in trust.items():
                found._store(targets, path, canonical_json(content))
            # Root last: a directory without one is no repository, and can be made again.
            found.write("targets", targets, signers["targets"])
            found.sign_online(
                signers["snapshot"], signers["timestamp"], targets, now=now, lives=lives, root=None
            )
            found.write("root", root, signers["root"])
        return found

    def released(self, targets: Targets | None = None) -> list[Released]:
        """Return the bundles that are published, by name and release."""
        return released.named_by(targets or self.targets())

    def next_release(self, name: str, version: str) -> int:
        """Return the release counter for a version: its own if published, else the next one."""
        mine = [one for one in self.released() if one.name == name]
        same = [one.release for one in mine if one.version == version]
        return same[0] if same else released.last_release(mine) + 1

    def publish(
        self,
        bundle: Path,
        keys: Path,
        *,
        now: datetime,
        online: Path | None = None,
        lives: Lives | None = None,
        report: Callable[[str], None] | None = None,
        password: Path | None = None,
    ) -> Published:
        """Add a bundle.

        Args:
            bundle: path of the ``.whim`` file.
            keys: folder of the offline keys; the targets key is used.
            now: the time from which validity counts.
            online: folder of the online keys; None: the fleet server signs the rest.
            lives: validity of each role.
            report: called with each stage.
            password: file with the password of an encrypted targets key.

        Raises:
            TrustError: the bundle is not signed by a key that devices trust for its model.
            BundleError: it is malformed.
            RefusedError: its release counter does not grow, or its version is taken.
            StorageError: the disk refuses; the repository is as it was.
        """
        tell = report or (lambda _stage: None)
        lives = lives or Lives()
        signer = keyfiles.private(keys / "targets.pem", password)
        online_signers = _online(online)
        with self.locked():
            tell("verifying the repository and the bundle")
            root = self.root()
            require_role(root, "targets", signer)
            for role, one in zip(("snapshot", "timestamp"), online_signers, strict=False):
                require_role(root, role, one)
            targets = self.targets(root)
            data = _read(bundle)
            manifest = self._verified(data, targets, bundle.name)
            path = f"bundles/{manifest.name}/{manifest.title}{bundles.SUFFIX}"
            digest = sha256(data)
            mine = [one for one in self.released(targets) if one.name == manifest.name]
            same = next((one for one in mine if one.version == manifest.version), None)
            if same is not None and same.digest == digest:
                signed = self._finish(online_signers, targets, now=now, lives=lives, root=root)
                return Published(
                    released=same,
                    targets_version=targets.version,
                    signed=signed,
                    waiting=self.status().waiting,
                    fresh=False,
                    delta_bytes={},
                )
            released.require_growth(manifest, mine, same, bundle)
            tell("making deltas")
            sizes = self._add(targets, path, data, manifest, mine)
            tell("signing")
            targets.version += 1
            targets.expires = expiry(now, lives.targets)
            written: tuple[str, ...] = (self.write("targets", targets, signer),)
            written += self._finish(online_signers, targets, now, lives, root)
        return Published(
            released=next(one for one in self.released(targets) if one.path == path),
            targets_version=targets.version,
            signed=written,
            waiting=not online_signers,
            fresh=True,
            delta_bytes=sizes,
        )

    def refresh(
        self, *, now: datetime, online: Path | None, keys: Path | None, lives: Lives | None = None
    ) -> tuple[str, ...]:
        """Sign roles again so that they do not expire; return the files written.

        With ``keys`` the targets are signed anew, with ``online`` snapshot and timestamp.
        """
        lives = lives or Lives()
        with self.locked():
            root = self.root()
            targets = self.targets(root)
            written: tuple[str, ...] = ()
            if keys is not None:
                signer = keyfiles.private(keys / "targets.pem")
                require_role(root, "targets", signer)
                targets.version += 1
                targets.expires = expiry(now, lives.targets)
                written = (self.write("targets", targets, signer),)
            signers = _online(online)
            for role, one in zip(("snapshot", "timestamp"), signers, strict=False):
                require_role(root, role, one)
            return written + self._finish(signers, targets, now, lives, root)

    def read(self, path: str, targets: Targets | None = None) -> bytes:
        """Return a target's bytes, checked against what is signed.

        Raises:
            TrustError: it is not named, or its bytes are not what was signed.
        """
        target = (targets or self.targets()).targets.get(path)
        if target is None:
            raise TrustError(f"{self.where} has no target {path}", code="trust.missing")
        data = self.destination.read(_stored(path, target.hashes["sha256"]))
        try:
            if data is None:
                raise RepositoryError("it is not there")  # noqa: TRY301 - one message for both
            target.verify_length_and_hashes(data)
        except RepositoryError as error:
            raise TrustError(
                f"{path} in {self.where} is not what was signed: {error}",
                hint="restore the file, or publish again",
                code="trust.digest",
            ) from error
        return data

    def _verified(self, data: bytes, targets: Targets, what: str) -> Manifest:
        """Return the manifest of a bundle, verified by the keys that devices will use."""
        named, _ = bundles.inspect(io.BytesIO(data), what=what)
        listed = msgspec.json.decode(self.read(PUBLISHERS, targets))["keys"]
        pems = [
            entry["pem"] for entry in listed if {"*", named.name} & set(entry.get("models", ["*"]))
        ]
        trusted = [PublicKey.from_pem(pem) for pem in pems]
        try:
            return bundles.open_bundle(io.BytesIO(data), trusted, what=what).manifest
        except TrustError as error:
            raise TrustError(
                f"{error.message}; nothing was published",
                hint=error.hint or "sign it with the bundle key of this repository",
                code=error.code,
            ) from error

    def _add(
        self, targets: Targets, path: str, data: bytes, manifest: Manifest, mine: list[Released]
    ) -> dict[str, int]:
        links, sizes = [], {}
        for old in mine[-DELTA_RELEASES:]:
            made = delta.encode(self.read(old.path, targets), data)
            if made is not None:
                name = f"{manifest.name}-{old.version}-{manifest.version}.zst"
                at = f"deltas/{manifest.name}/{name}"
                self._store(targets, at, made)
                links.append({"from": old.digest, "path": at})
                sizes[old.version] = len(made)
        custom = {
            "name": manifest.name,
            "version": manifest.version,
            "release": manifest.release,
            "profile_id": manifest.profile_id,
            "device_classes": list(manifest.requirements.device_classes),
            "deltas": links,
        }
        self._store(targets, path, data, custom)
        return sizes

    def _store(
        self, targets: Targets, path: str, data: bytes, custom: dict[str, Any] | None = None
    ) -> None:
        target = TargetFile.from_data(path, data, ["sha256"])
        if custom is not None:
            target.unrecognized_fields["custom"] = {"whimbrel": custom}
        self.destination.store(_stored(path, target.hashes["sha256"]), data)
        targets.targets[path] = target

    def _finish(
        self, signers: tuple[PrivateKey, ...], targets: Targets, now: datetime, lives: Lives,
        root: Root,
    ) -> tuple[str, ...]:  # fmt: skip
        if not signers:
            return ()
        snapshot, timestamp = signers
        return self.sign_online(snapshot, timestamp, targets, now=now, lives=lives, root=root)


def _stored(path: str, digest: str) -> str:
    """Return where a target is kept: its name holds its digest."""
    folder, _, name = path.rpartition("/")
    return f"targets/{folder}/{digest}.{name}"


def _online(folder: Path | None) -> tuple[PrivateKey, ...]:
    if folder is None:
        return ()
    return tuple(keyfiles.private(folder / f"{name}.pem") for name in ("snapshot", "timestamp"))


def _key(folder: Path, name: str) -> PrivateKey:
    path = folder / f"{name}.pem"
    return keyfiles.private(path) if path.exists() else keyfiles.create(folder, name)[0]


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}") from error
