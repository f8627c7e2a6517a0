"""Founding a repository: its keys, its first root, its first targets.

A root that several people have to sign is staged like every other change; until they have, the
folder has no root, and is no repository.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from tuf.api.metadata import (  # type: ignore[attr-defined]  # public by its documentation
    Metadata,
    Root,
    Targets,
)

from whimbrel_core.errors import UsageError
from whimbrel_packager.repository import change, trusted
from whimbrel_packager.repository.change import Change
from whimbrel_packager.repository.metadata import ROLES, Lives, expiry
from whimbrel_packager.signing import keyfiles
from whimbrel_packager.signing.keyring import Keyring
from whimbrel_packager.signing.tuf_signer import tuf_key

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from datetime import datetime
    from pathlib import Path

    from whimbrel_core.signing.keys import PublicKey
    from whimbrel_packager.repository.change import Lack
    from whimbrel_packager.repository.repository import Repository

OFFLINE_KEYS = ("root", "targets", "bundle")
ONLINE_KEYS = ("snapshot", "timestamp", "fleet")


class Founders(NamedTuple):
    """Who holds a role together: public keys, and how many of them have to sign."""

    keys: Sequence[PublicKey]
    threshold: int = 1


def found(
    repository: Repository,
    keys: Path,
    online: Path,
    *,
    now: datetime,
    lives: Lives,
    together: Mapping[str, Founders],
    more: Iterable[Path | str] = (),
    password_file: Path | None = None,
) -> dict[str, Lack]:
    """Make a repository; return what others still have to sign before it is one.

    Args:
        repository: in a new or empty place.
        keys: folder of the offline keys; those that are not there, and that nobody else holds,
            are made.
        online: folder of the online keys; likewise.
        now: the time from which validity counts.
        lives: validity of each role.
        together: the roles root and targets, where several people hold them.
        more: other private keys to sign with.
        password_file: for keys that are encrypted, or want a PIN.

    Raises:
        UsageError: there is a repository, or one is being founded; it was not touched.
        TrustError: more keys have to sign than there are.
    """
    if repository.newest("root"):
        raise UsageError(
            f"{repository.where} is a repository already; it was not touched",
            hint="see it with 'whimbrel repo show --dir …'",
            code="usage.exists",
        )
    change.require_none(repository)
    public = {
        name: _public(folder, name)
        for folder, names in ((keys, OFFLINE_KEYS), (online, ONLINE_KEYS))
        for name in names
        if name not in together
    }
    with repository.locked():
        root = Root(version=1, expires=expiry(now, lives.root), consistent_snapshot=True)
        for role in ROLES:
            held = together.get(role) or Founders([public[role]])
            _require_enough(role, held)
            for key in held.keys:
                root.add_key(tuf_key(key), role)
            root.roles[role].threshold = held.threshold
        # 1, unless somebody was interrupted here.
        version = repository.newest("targets") + 1
        targets = Targets(version=version, expires=expiry(now, lives.targets))
        bundle, fleet = public["bundle"].pem, public["fleet"].pem
        repository.store(
            targets, trusted.PUBLISHERS, trusted.encode([trusted.Named(bundle, ("*",))])
        )
        repository.store(targets, trusted.FLEET, trusted.encode([trusted.Named(fleet)]))
        ring = Keyring(folders=[keys, online], keys=more, password_file=password_file)
        made = Change(
            repository, {"targets": Metadata(targets), "root": Metadata(root)}, "found a repository"
        )
        made.sign(ring)
        snapshot, timestamp = (
            ring.signers(root.roles[role].keyids, role) for role in ("snapshot", "timestamp")
        )
        # Root last: a directory without one is no repository, and can be made again.
        lacking = made.lacking()
        if lacking:
            repository.sign_online(snapshot, timestamp, targets, now=now, lives=lives, root=None)
            made.stage()
        else:
            repository.put("targets", made.new["targets"])
            repository.sign_online(snapshot, timestamp, targets, now=now, lives=lives, root=None)
            repository.put("root", made.new["root"])
    return lacking


def _public(folder: Path, name: str) -> PublicKey:
    for path in (folder / f"{name}.pem", folder / f"{name}.uri"):
        if path.exists():
            beside = path.with_suffix(".pub")
            return keyfiles.public(beside if beside.is_file() else path)
    return keyfiles.create(folder, name)[0].public


def _require_enough(role: str, held: Founders) -> None:
    if not 1 <= held.threshold <= len({key.id for key in held.keys}):
        raise UsageError(
            f"{held.threshold} of {len(held.keys)} {role} keys cannot sign",
            hint=f"give --{role}-key for each, and --{role}-threshold not above their number",
        )
