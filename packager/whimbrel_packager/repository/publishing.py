"""Publishing a bundle: verified, named by the role that has its model, with deltas to it."""

from __future__ import annotations

import copy
import io
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple

from tuf.api.metadata import (  # type: ignore[attr-defined]  # public by its documentation
    Metadata,
    Root,
    Targets,
)

from whimbrel_core.bundle import bundle as bundles
from whimbrel_core.errors import TrustError, UsageError
from whimbrel_core.identity import sha256
from whimbrel_packager.destinations import ConflictError
from whimbrel_packager.repository import change, delta, released, trusted
from whimbrel_packager.repository.change import Change, Lack
from whimbrel_packager.repository.metadata import Lives, expiry
from whimbrel_packager.signing.keyring import Keyring, ring_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from datetime import datetime
    from pathlib import Path

    from whimbrel_core.bundle.manifest import Manifest
    from whimbrel_packager.repository.released import Released
    from whimbrel_packager.repository.repository import Repository

DELTA_RELEASES = 2
ATTEMPTS = 4


class Published(NamedTuple):
    """What publishing did.

    Attributes:
        released: the bundle as it is named now, or will be.
        targets_version: of the metadata that names it.
        signed: metadata files written, in order.
        waiting: whether snapshot and timestamp are still to be signed, by the fleet server.
        fresh: False when exactly this bundle was published before; nothing was changed.
        role: that names it: targets, or a team's.
        lacking: signatures that are still wanted, by role; nothing is published before.
    """

    released: Released
    targets_version: int
    signed: tuple[str, ...]
    waiting: bool
    fresh: bool
    delta_bytes: dict[str, int]
    role: str = "targets"
    lacking: Mapping[str, Lack] = MappingProxyType({})


def publish(
    repository: Repository,
    bundle: Path,
    keys: Path | Keyring,
    *,
    now: datetime,
    online: Path | Keyring | None = None,
    lives: Lives | None = None,
    deltas: int = DELTA_RELEASES,
    report: Callable[[str], None] | None = None,
) -> Published:
    """Add a bundle to a repository.

    Args:
        repository: to which it is published.
        bundle: path of the ``.whim`` file.
        keys: those of targets, or of the team that has the model; a folder, or a ring.
        now: the time from which validity counts.
        online: snapshot and timestamp keys; None: the fleet server signs the rest.
        lives: validity of each role.
        deltas: make deltas from so many releases before, where they are worth it.
        report: called with each stage.

    Raises:
        TrustError: the bundle is not signed by a key that devices trust for its model.
        BundleError: it is malformed.
        RefusedError: its release counter does not grow, or its version is taken.
        StorageError: the disk refuses; the repository is as it was.
    """
    ring = keys if isinstance(keys, Keyring) else Keyring(folders=[keys])
    publishing = Publishing(repository, ring, now=now, lives=lives or Lives(), deltas=deltas)
    return publishing.publish(bundle, ring_of(online), report or (lambda _stage: None))


class Publishing:
    """One bundle's way into a repository.

    Args:
        repository: to which it is published.
        ring: keys of targets, or of the team that has the model.
        now: the time from which validity counts.
        lives: validity of each role.
        deltas: from so many releases before.
    """

    def __init__(
        self, repository: Repository, ring: Keyring, *, now: datetime, lives: Lives, deltas: int
    ) -> None:
        self._repository, self._ring = repository, ring
        self._now, self._lives, self._deltas = now, lives, deltas

    def publish(
        self, bundle: Path, online: Keyring | None, tell: Callable[[str], None]
    ) -> Published:
        """Add a bundle; arguments and errors as in `publish`.

        Where there is no lock, somebody may publish at the same time: then it goes on from there.
        """
        for attempt in range(ATTEMPTS):
            try:
                return self._publish(bundle, online, tell)
            except (ConflictError, TrustError) as error:
                overtaken = isinstance(error, ConflictError) or error.code == "trust.staged"
                if not overtaken or self._repository.in_directory or attempt == ATTEMPTS - 1:
                    raise
                tell("somebody else published at the same time: going on from there")
        raise AssertionError

    def _publish(
        self, bundle: Path, online: Keyring | None, tell: Callable[[str], None]
    ) -> Published:
        with self._repository.locked():
            tell("verifying the repository and the bundle")
            change.require_none(self._repository)
            root = self._repository.root()
            targets = self._repository.targets(root)
            data = _read(bundle)
            named, _ = bundles.inspect(io.BytesIO(data), what=bundle.name)
            role = self._role(root, targets, named.name)
            signers = self._repository.online_signers(root, online)
            manifest = self._verified(data, targets, named.name, bundle.name)
            path = f"bundles/{manifest.name}/{manifest.title}{bundles.SUFFIX}"
            digest = sha256(data)
            mine = [one for one in self._repository.released(targets) if one.name == manifest.name]
            same = next((one for one in mine if one.version == manifest.version), None)
            if same is not None and same.digest == digest:
                signed = self._repository.finish(signers, targets, self._now, self._lives, root)
                waiting = self._repository.status().waiting
                return Published(
                    same, targets.version, signed, waiting, fresh=False, delta_bytes={}, role=role
                )
            released.require_growth(manifest, mine, same, bundle)
            tell("making deltas")
            mine_now = self._newest(role, targets)
            sizes = self._add(mine_now, path, data, manifest, mine)
            tell("signing")
            mine_now.version = self._repository.newest(role) + 1
            mine_now.expires = expiry(self._now, self._lives.targets)
            made = Change(self._repository, {role: Metadata(mine_now)}, f"publish {manifest.title}")
            written, lacking = self._repository.carry_out_locked(made, self._ring)
            if not lacking:
                written += self._repository.finish(signers, targets, self._now, self._lives, root)
        return Published(
            released=next(one for one in released.named_by(mine_now) if one.path == path),
            targets_version=mine_now.version,
            signed=written,
            waiting=bool(lacking) or self._repository.status().waiting,
            fresh=True,
            delta_bytes=sizes,
            role=role,
            lacking=lacking,
        )

    def _role(self, root: Root, targets: Targets, model: str) -> str:
        """Return the role that releases a model, whose keys are to be in the ring."""
        teams = (targets.delegations.roles if targets.delegations else None) or {}
        for name, team in teams.items():
            if model in trusted.models_of(team):
                self._ring.signers(team.keyids, name)
                return name
        self._ring.signers(root.roles["targets"].keyids, "targets")
        return "targets"

    def _newest(self, role: str, targets: Targets) -> Targets:
        """Return a copy of the newest metadata of a role, to be changed."""
        if role == "targets":
            return copy.deepcopy(targets)
        if not self._repository.newest(role):
            return Targets()  # the team's first
        return copy.deepcopy(self._repository.delegated(targets)[role])

    def _verified(self, data: bytes, targets: Targets, model: str, what: str) -> Manifest:
        """Return the manifest of a bundle, verified by the keys that devices will use."""
        keys = [one.public for one in trusted.publishers(self._repository, model, targets).values()]
        try:
            return bundles.open_bundle(io.BytesIO(data), keys, what=what).manifest
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
        for old in mine[-self._deltas :] if self._deltas else ():
            made = delta.encode(self._repository.read(old.path), data)
            if made is not None:
                name = f"{manifest.name}-{old.version}-{manifest.version}.zst"
                at = f"deltas/{manifest.name}/{name}"
                self._repository.store(targets, at, made)
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
        self._repository.store(targets, path, data, custom)
        return sizes


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}") from error
