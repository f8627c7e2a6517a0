"""Who is trusted for what: keys are added, exchanged and taken away, each by the same few steps.

- root, targets, snapshot, timestamp: named by root; the change is a new root, signed by enough of
  the old root's keys and enough of the new one's.
- bundle (keys that sign bundles, for all models or for some) and fleet (keys that assign): named
  by ``trust/publishers.json`` and ``trust/fleet.json``; the change is new targets.
- a team's role, to which targets delegates the bundles of some models: named by targets.

Here a change is made; `change.Change` has it signed and published.
"""

from __future__ import annotations

import copy
import io
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec
from tuf.api.metadata import (  # type: ignore[attr-defined]  # public by its documentation
    DelegatedRole,
    Metadata,
    Targets,
)

from whimbrel_core.bundle import bundle as bundles
from whimbrel_core.canonical import canonical_json
from whimbrel_core.errors import TrustError, UsageError
from whimbrel_core.signing.keys import PublicKey
from whimbrel_packager.repository.change import Change, key_id
from whimbrel_packager.repository.metadata import ROLES, expiry
from whimbrel_packager.signing.tuf_signer import tuf_key

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from whimbrel_packager.repository.metadata import Lives
    from whimbrel_packager.repository.released import Released
    from whimbrel_packager.repository.repository import Repository

PUBLISHERS, FLEET = "trust/publishers.json", "trust/fleet.json"
TRUST = {"bundle": PUBLISHERS, "fleet": FLEET}
_SHORT = 8  # letters of an id that name a key


class Named(msgspec.Struct, frozen=True, omit_defaults=True):
    """A key in a trust file: bundles of which models it may sign, and whose it is.

    ``models`` is there for publishers alone; ``*`` is all of them.
    """

    pem: str
    models: tuple[str, ...] | None = None
    name: str = ""

    @property
    def public(self) -> PublicKey:
        """The key."""
        return PublicKey.from_pem(self.pem)


class Holder(NamedTuple):
    """A key as people see it: its id, whose it is, and what for."""

    role: str
    key_id: str
    name: str = ""
    models: tuple[str, ...] = ()


class _File(msgspec.Struct, frozen=True, omit_defaults=True):
    keys: tuple[Named, ...]


def encode(keys: Sequence[Named]) -> bytes:
    """Return the content of a trust file."""
    return canonical_json(_File(tuple(keys)))


def named(repository: Repository, path: str, targets: Targets | None = None) -> tuple[Named, ...]:
    """Return the keys of a trust file.

    Raises:
        TrustError: it is not there, not what was signed, or malformed.
    """
    try:
        return msgspec.json.decode(repository.read(path, targets), type=_File).keys
    except msgspec.DecodeError as error:
        raise TrustError(f"{path} is malformed: {error}", code="trust.metadata") from error


def publishers(
    repository: Repository, model: str, targets: Targets | None = None
) -> dict[str, Named]:
    """Return the keys that may sign a model's bundles, by id."""
    return {
        one.public.id: one
        for one in named(repository, PUBLISHERS, targets)
        if {"*", model} & set(one.models or ("*",))
    }


def holders(repository: Repository) -> list[Holder]:
    """Return every key that is trusted for something."""
    root = repository.root()
    targets = repository.targets(root)
    found = [
        Holder(role, key_id(root.keys[keyid]))
        for role in ROLES
        for keyid in root.roles[role].keyids
    ]
    for role, path in TRUST.items():
        found += [
            Holder(role, one.public.id, one.name, one.models or ())
            for one in named(repository, path, targets)
        ]
    if targets.delegations and targets.delegations.roles:
        for name, team in targets.delegations.roles.items():
            keys = targets.delegations.keys
            found += [
                Holder(name, key_id(keys[keyid]), models=models_of(team)) for keyid in team.keyids
            ]
    return found


def untrusted(repository: Repository) -> list[Released]:
    """Return the released bundles whose signing key is not trusted for their model (any more)."""
    targets = repository.targets()
    keys = named(repository, PUBLISHERS, targets)
    found = []
    for one in repository.released(targets):
        trusted = [k.public for k in keys if {"*", one.name} & set(k.models or ("*",))]
        data = io.BytesIO(repository.read(one.path, targets))
        try:
            bundles.open_bundle(data, trusted, what=one.path)
        except TrustError:
            found.append(one)
    return found


def models_of(team: DelegatedRole) -> tuple[str, ...]:
    """Return the models that are delegated to a team."""
    return tuple(
        path.removeprefix("bundles/").removesuffix("/*")
        for path in team.paths or ()
        if path.startswith("bundles/")
    )


def change(
    repository: Repository,
    role: str,
    *,
    add: Sequence[Named] = (),
    revoke: Sequence[str] = (),
    threshold: int | None = None,
    now: datetime,
    lives: Lives,
) -> Change:
    """Return the change that adds keys to a role, takes keys away, or asks for more of them.

    Args:
        repository: whose keys.
        role: of the four, ``bundle``, ``fleet``, or a team's.
        add: keys to add.
        revoke: beginnings of ids (SHA-256 of the public PEM, or TUF's) of keys to take away.
        threshold: how many of the keys have to sign from now on; None: as many as now.
        now: the time from which validity counts.
        lives: validity of each role.

    Raises:
        UsageError: there is no such role or key, or it is there already.
        TrustError: fewer keys would be left than have to sign.
    """
    said = ", ".join(
        [f"add {one.public.id[:_SHORT]}… to {role}" for one in add]
        + [f"revoke {key[:_SHORT]}… of {role}" for key in revoke]
        + ([f"{threshold} of them sign"] if threshold else [])
    )
    if role in ROLES:
        root = copy.deepcopy(repository.root())
        exchange(
            root, role, root.roles[role], root.keys, add=add, revoke=revoke, threshold=threshold
        )
        root.version += 1
        root.expires = expiry(now, lives.root)
        return Change.to_root(repository, root, said)
    targets = copy.deepcopy(repository.targets())
    targets.version += 1
    targets.expires = expiry(now, lives.targets)
    new: dict[str, Metadata[Any]] = {"targets": Metadata(targets)}
    if role in TRUST:
        if threshold not in {None, 1}:
            raise UsageError(f"one {role} key signs alone, always; a threshold cannot be given")
        path = TRUST[role]
        keys = _edited(role, named(repository, path, targets), add, revoke)
        repository.store(targets, path, encode(keys))
        return Change(repository, new, said)
    team = team_of(targets, role)
    assert targets.delegations is not None  # noqa: S101 - it has the team
    exchange(
        targets, role, team, targets.delegations.keys, add=add, revoke=revoke, threshold=threshold
    )
    if version := repository.newest(role):
        signed = repository.raw(role, version)
        if not targets.get_verification_result(
            role, signed.signed_bytes, signed.signatures
        ).verified:
            new[role] = signed
    return Change(repository, new, said)


def team_of(targets: Targets, role: str) -> DelegatedRole:
    """Return a team's role. Raises `UsageError`: there is none."""
    roles = (targets.delegations.roles if targets.delegations else None) or {}
    if role not in roles:
        known = [*ROLES, *TRUST, *roles]
        raise UsageError(
            f"there is no role {role}; there are {', '.join(known)}",
            hint="a team's role is made with 'whimbrel repo delegate'",
        )
    return roles[role]


def exchange(
    signed: Any,  # noqa: ANN401 - root or targets, which share no public type
    role: str,
    entry: Any,  # noqa: ANN401 - Role or DelegatedRole
    keys: dict[str, Any],
    *,
    add: Sequence[Named],
    revoke: Sequence[str],
    threshold: int | None,
) -> None:
    """Exchange keys of a role that TUF's metadata names."""
    for one in add:
        key = tuf_key(one.public)
        if key.keyid in entry.keyids:
            raise _there(one.public.id, role)
        signed.add_key(key, role)
    for beginning in revoke:
        known = {keyid: (keyid, key_id(keys[keyid])) for keyid in entry.keyids if keyid in keys}
        signed.revoke_key(_one(beginning, known, role), role)
    wanted = entry.threshold if threshold is None else threshold
    if not 1 <= wanted <= len(entry.keyids):
        raise TrustError(
            f"{role} would have {len(entry.keyids)} keys, and {wanted} of them have to sign; "
            "nothing was changed",
            hint="add a key in the same step ('whimbrel repo rotate'), or give --threshold",
            code="trust.threshold",
        )
    entry.threshold = wanted


def _edited(
    role: str, keys: Sequence[Named], add: Sequence[Named], revoke: Sequence[str]
) -> list[Named]:
    """Return the keys of a trust file, exchanged."""
    found = {one.public.id: one for one in keys}
    for beginning in revoke:
        known = {key: (key, tuf_key(one.public).keyid) for key, one in found.items()}
        del found[_one(beginning, known, role)]
    for one in add:
        models = (one.models or ("*",)) if role == "bundle" else None
        new = Named(one.pem, models, one.name)
        if found.get(one.public.id) == new:
            raise _there(one.public.id, role)
        found[one.public.id] = new
    if not found:
        raise TrustError(
            f"no {role} key would be left: devices would accept nothing; nothing was changed",
            hint="exchange it with 'whimbrel repo rotate'",
            code="trust.threshold",
        )
    return list(found.values())


def _one(beginning: str, known: Mapping[str, tuple[str, ...]], role: str) -> str:
    fits = [key for key, ids in known.items() if any(i.startswith(beginning) for i in ids)]
    if len(fits) != 1 or len(beginning) < _SHORT:
        raise UsageError(
            f"{role} has {len(fits)} keys whose id begins with {beginning[:12]}",
            hint="'whimbrel repo show' lists the keys; give the .pub file or 8 letters of the id",
            code="usage.key",
        )
    return fits[0]


def _there(key_id: str, role: str) -> UsageError:
    return UsageError(
        f"key {key_id[:_SHORT]}… is a {role} key already; nothing was changed",
        code="usage.exists",
        hint="'whimbrel repo show' lists the keys",
    )
