"""The repository: TUF metadata and bundles in plain files that any file server can serve.

The publisher holds root and targets (which bundles exist, and the keys devices trust for them);
a team may hold a role of its own for the bundles of some models. Snapshot and timestamp may be
held here too, or by the fleet server alone. Files are written in the order in which they are named
by others, each whole: target files, then ``N.targets.json``, then snapshot, then timestamp.
Whoever is interrupted leaves the old state; what lies about unnamed is harmless, and used when the
same thing is published again.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

from tuf.api.exceptions import RepositoryError
from tuf.api.metadata import (  # type: ignore[attr-defined]  # public by its documentation
    Metadata,
    Root,
    TargetFile,
    Targets,
)

from whimbrel_core.errors import TrustError
from whimbrel_packager.repository import change, released
from whimbrel_packager.repository.change import Change, Lack
from whimbrel_packager.repository.metadata import Lives, MetadataDirectory, expiry
from whimbrel_packager.signing.keyring import Keyring, ring_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime
    from pathlib import Path

    from whimbrel_core.signing.keys import Signer
    from whimbrel_packager.repository.released import Released

Online = tuple[list["Signer"], list["Signer"]]  # of snapshot, of timestamp


class Repository(MetadataDirectory):
    """A repository, opened to be read and changed.

    It is made by `whimbrel_packager.repository.founding`; bundles are added by
    `whimbrel_packager.repository.publishing`.
    """

    def released(self, targets: Targets | None = None) -> list[Released]:
        """Return the bundles that are published, by name and release."""
        newest = targets or self.targets()
        return released.named_by(newest, *self.delegated(newest).values())

    def next_release(self, name: str, version: str) -> int:
        """Return the release counter for a version: its own if published, else the next one."""
        mine = [one for one in self.released() if one.name == name]
        same = [one.release for one in mine if one.version == version]
        return same[0] if same else released.last_release(mine) + 1

    def carry_out(
        self,
        made: Callable[[], Change],
        ring: Keyring,
        *,
        now: datetime,
        online: Path | Keyring | None = None,
        lives: Lives | None = None,
        hold: bool = False,
    ) -> tuple[tuple[str, ...], dict[str, Lack]]:
        """Sign a change and publish it, or stage it when others have to sign, too.

        Args:
            made: makes the change, under the repository's lock.
            ring: keys to sign with.
            now: the time from which validity counts.
            online: snapshot and timestamp keys; None: the fleet server signs the rest.
            lives: validity of each role.
            hold: stage it, even if enough have signed.

        Returns:
            The files written, and what is still lacking, by role.

        Raises:
            UsageError, TrustError: it cannot be; nothing was changed.
        """
        lives = lives or Lives()
        online_ring = ring_of(online)
        with self.locked():
            one = made()
            written, lacking = self.carry_out_locked(one, ring, online=online_ring, hold=hold)
            if lacking or hold:
                return written, lacking
            root = self.root()
            if online_ring is not None:
                signers = self.online_signers(root, online_ring)
                written += self.finish(signers, self.targets(root), now, lives, root)
        return written, lacking

    def refresh(
        self,
        *,
        now: datetime,
        online: Path | None,
        keys: Path | Keyring | None,
        lives: Lives | None = None,
    ) -> tuple[str, ...]:
        """Sign roles again so that they do not expire; return the files written.

        With ``keys`` the targets are signed anew (and the teams' roles whose keys are there),
        with ``online`` snapshot and timestamp.
        """
        lives = lives or Lives()
        with self.locked():
            root = self.root()
            targets = self.targets(root)
            written: tuple[str, ...] = ()
            ring = ring_of(keys)
            if ring is not None:
                change.require_none(self)
                written = self._renew(targets, ring, now, lives)
            return written + self.finish(
                self.online_signers(root, online), targets, now, lives, root
            )

    def read(self, path: str, targets: Targets | None = None) -> bytes:
        """Return a target's bytes, checked against what is signed.

        Raises:
            TrustError: it is not named, or its bytes are not what was signed.
        """
        newest = targets or self.targets()
        target = newest.targets.get(path)
        if target is None:
            teams = self.delegated(newest)
            target = next((t.targets[path] for t in teams.values() if path in t.targets), None)
        if target is None:
            raise TrustError(f"{self.where} has no target {path}", code="trust.missing")
        data = self.destination.read(stored(path, target.hashes["sha256"]))
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

    def store(
        self, targets: Targets, path: str, data: bytes, custom: dict[str, Any] | None = None
    ) -> None:
        """Keep a target's bytes, and name it in ``targets``, which are still to be signed."""
        target = TargetFile.from_data(path, data, ["sha256"])
        if custom is not None:
            target.unrecognized_fields["custom"] = {"whimbrel": custom}
        self.destination.store(stored(path, target.hashes["sha256"]), data)
        targets.targets[path] = target

    def _renew(
        self, targets: Targets, ring: Keyring, now: datetime, lives: Lives
    ) -> tuple[str, ...]:
        written: tuple[str, ...] = ()
        for role, signed in {"targets": targets, **self.delegated(targets)}.items():
            newest = copy.deepcopy(signed)
            newest.version += 1
            newest.expires = expiry(now, lives.targets)
            made = Change(self, {role: Metadata(newest)}, f"renew {role}")
            if made.sign(ring):
                written += self.carry_out_locked(made, ring)[0]
        if not written:
            ring.signers(self.root().roles["targets"].keyids, "targets")
        return written

    def carry_out_locked(
        self, made: Change, ring: Keyring, *, online: Keyring | None = None, hold: bool = False
    ) -> tuple[tuple[str, ...], dict[str, Lack]]:
        """Do what `carry_out` does, when the lock is held already."""
        made.sign(ring)
        lacking = made.lacking()
        if lacking or hold:
            made.stage()
            return (), lacking
        return made.publish(online), {}

    def online_signers(self, root: Root, online: Path | Keyring | None) -> Online | None:
        """Return the signers of snapshot and timestamp; None: the fleet server has them.

        Raises:
            UsageError, TrustError: they are not those that root names.
        """
        ring = ring_of(online)
        if ring is None:
            return None
        snapshot, timestamp = (
            ring.signers(root.roles[role].keyids, role) for role in ("snapshot", "timestamp")
        )
        return snapshot, timestamp

    def finish(
        self, signers: Online | None, targets: Targets, now: datetime, lives: Lives, root: Root
    ) -> tuple[str, ...]:
        """Sign snapshot and timestamp, if their signers are here; return the files written."""
        if signers is None:
            return ()
        return self.sign_online(*signers, targets, now=now, lives=lives, root=root)


def stored(path: str, digest: str) -> str:
    """Return where a target is kept: its name holds its digest."""
    folder, _, name = path.rpartition("/")
    return f"targets/{folder}/{digest}.{name}"
