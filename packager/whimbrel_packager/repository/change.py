"""A change of signed metadata: what is to be signed, by whom, and what of it is signed so far.

A role may demand several keys, and these several people, on several machines. Until enough of
them have signed, a change lies in ``staged/change.json`` of the repository, where nothing reads
it: nothing is published. The file is all that has to travel.

Publishing is ordered so that at each moment devices with the old root and devices with the new one
find metadata that holds. A new root may name other keys for roles that are signed already; those
keys *countersign* what is there, the same bytes with one signature more, before the root appears.
So no version is skipped, nobody needs a key that was lost, and whoever is interrupted leaves the
old state or the new one.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, NamedTuple

from tuf.api.exceptions import RepositoryError
from tuf.api.metadata import (  # type: ignore[attr-defined]  # public by its documentation
    Metadata,
    Root,
)
from tuf.api.serialization import DeserializationError

from whimbrel_core.errors import StorageError, TrustError, UsageError
from whimbrel_core.signing.keys import PublicKey
from whimbrel_packager import atomic
from whimbrel_packager.repository.metadata import file_name
from whimbrel_packager.signing.tuf_signer import TufSigner

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from tuf.api.metadata import VerificationResult  # type: ignore[attr-defined]

    from whimbrel_packager.repository.metadata import MetadataDirectory
    from whimbrel_packager.signing.keyring import Keyring

FOLDER, FILE = "staged", "change.json"
ONLINE = ("snapshot", "timestamp")


class Lack(NamedTuple):
    """Signatures that a role still wants: how many it has, and by whose keys more may come."""

    have: int
    need: int
    others: tuple[str, ...]


class Change:
    """New metadata by role, with the signatures that it has so far.

    Args:
        repository: to which it is made.
        new: metadata by role: a next version, or the newest one to be countersigned.
        note: a sentence that says what it is for.
    """

    def __init__(
        self, repository: MetadataDirectory, new: Mapping[str, Metadata[Any]], note: str
    ) -> None:
        self._repository = repository
        self.new = dict(new)
        self.note = note
        self._old_root = repository.root() if repository.newest("root") else None

    @classmethod
    def to_root(cls, repository: MetadataDirectory, root: Root, note: str) -> Change:
        """Return the change to a new root; targets that it would not verify are countersigned."""
        targets = repository.raw("targets", repository.newest("targets"))
        new: dict[str, Metadata[Any]] = {"root": Metadata(root)}
        if not root.get_verification_result(
            "targets", targets.signed_bytes, targets.signatures
        ).verified:
            new["targets"] = targets
        return cls(repository, new, note)

    def sign(self, ring: Keyring) -> tuple[str, ...]:
        """Sign with whatever a ring has for it; return the roles that got a signature.

        Raises:
            UsageError, TrustError, UnavailableError: a key cannot be used.
        """
        signed = []
        for role, metadata in self.new.items():
            wanted = [key for result in self._results(role) for key in result.unsigned]
            signers = ring.signers(list(dict.fromkeys(wanted)), role, least=0)
            for signer in signers:
                metadata.sign(TufSigner(signer), append=True)
            if signers:
                signed.append(role)
        return tuple(signed)

    def merge(self, other: Change) -> tuple[str, ...]:
        """Take over signatures that were made elsewhere; return the roles that got some.

        Raises:
            TrustError: they are of another change.
        """
        got = []
        for role, metadata in self.new.items():
            theirs = other.new.get(role)
            if theirs is None or theirs.signed_bytes != metadata.signed_bytes:
                raise TrustError(
                    f"what was signed elsewhere is another change ({other.note}); "
                    "nothing was taken over",
                    hint="let both begin from the same staged/change.json",
                    code="trust.staged",
                )
            more = {k: s for k, s in theirs.signatures.items() if k not in metadata.signatures}
            metadata.signatures.update(more)
            if more:
                got.append(role)
        return tuple(got)

    def lacking(self) -> dict[str, Lack]:
        """Return what is still to be signed, by role; nothing: it can be published."""
        lacking = {}
        for role in self.new:
            for result in self._results(role):
                if not result.verified:
                    others = tuple(map(key_id, result.unsigned.values()))
                    lacking[role] = Lack(len(result.signed), result.threshold, others)
        return lacking

    def publish(self, online: Keyring | None = None) -> tuple[str, ...]:
        """Write all of it; return the files written. The repository's lock is held.

        Args:
            online: keys that countersign snapshot and timestamp where a new root demands it.

        Raises:
            TrustError: not enough have signed, or it is not the next version any more; nothing
                was written.
            ConflictError, StorageError: what was written before still holds.
        """
        self._check_next()
        if lacking := self.lacking():
            role, lack = next(iter(lacking.items()))
            raise TrustError(
                f"{role} has {lack.have} of {lack.need} signatures; nothing was published",
                hint="sign with more of its keys: whimbrel repo sign",
                code="trust.threshold",
            )
        renewed = self._countersigned(online)
        written = []
        for role in sorted(self.new, key=_order):
            if role == "root":
                for name, (metadata, seen) in renewed.items():
                    written.append(self._repository.put(name, metadata, seen=seen))
            metadata = self.new[role]
            path = f"metadata/{file_name(role, metadata.signed.version)}"
            seen = self._repository.destination.read(path)
            if seen != metadata.to_bytes():
                written.append(self._repository.put(role, metadata, seen=seen))
        self.discard()
        return tuple(written)

    def stage(self) -> Path:
        """Keep it until more have signed; return the file's path. Raises `StorageError`."""
        file = _file(self._repository)
        content = {
            "note": self.note,
            "metadata": {role: one.to_dict() for role, one in self.new.items()},
        }
        atomic.write(file, json.dumps(content, indent=1, sort_keys=True).encode())
        return file

    def discard(self) -> None:
        """Throw away what is staged, if anything is."""
        if not self._repository.in_directory:
            return
        try:
            _file(self._repository).unlink(missing_ok=True)
        except OSError as error:
            raise StorageError(f"what is staged cannot be removed: {error.strerror}") from error

    def _results(self, role: str) -> list[VerificationResult]:
        metadata = self.new[role]
        staged_root = self.new.get("root")
        root: Any = staged_root.signed if staged_root else self._old_root
        if role == "root":
            delegators = [one for one in (self._old_root, metadata.signed) if one is not None]
        elif role == "targets":
            delegators = [root]
        else:
            staged = self.new.get("targets")
            delegators = [staged.signed if staged else self._repository.targets(root)]
        return [
            one.get_verification_result(role, metadata.signed_bytes, metadata.signatures)
            for one in delegators
        ]

    def _check_next(self) -> None:
        """Refuse a change that others have overtaken."""
        for role, metadata in self.new.items():
            version, newest = metadata.signed.version, self._repository.newest(role)
            there = version == newest and (
                self._repository.raw(role, newest).signed_bytes == metadata.signed_bytes
            )
            if not there and version != newest + 1:
                raise TrustError(
                    f"something else was published since {role} version {version} was staged "
                    f"(there is version {newest}); nothing was published",
                    hint="throw it away with 'whimbrel repo discard', and make the change again",
                    code="trust.staged",
                )

    def _countersigned(
        self, online: Keyring | None
    ) -> dict[str, tuple[Metadata[Any], bytes | None]]:
        """Return snapshot and timestamp as a new root wants them, where they are not yet so."""
        if "root" not in self.new:
            return {}
        root: Root = self.new["root"].signed
        found: dict[str, tuple[Metadata[Any], bytes | None]] = {}
        for role in ONLINE:
            if not (version := self._repository.newest(role)):
                continue
            seen = self._repository.destination.read(f"metadata/{file_name(role, version)}")
            metadata = self._repository.raw(role, version)

            def result(metadata: Metadata[Any] = metadata, role: str = role) -> VerificationResult:
                return root.get_verification_result(
                    role, metadata.signed_bytes, metadata.signatures
                )

            if result().verified:
                continue
            if online is not None:
                for signer in online.signers(list(result().unsigned), role, least=0):
                    metadata.sign(TufSigner(signer), append=True)
            if not result().verified:
                raise TrustError(
                    f"{file_name(role, version)} is not signed by the {role} keys of the new root, "
                    "so devices would refuse it; nothing was published",
                    hint=f"give the folder of the new {role} key with --online-keys; or add the "
                    "new key first, let the fleet server sign with it, and revoke the old one then",
                    code="trust.threshold",
                )
            found[role] = (metadata, seen)
        return found


def staged(repository: MetadataDirectory) -> Change | None:
    """Return the change that waits for signatures; None: there is none.

    Raises:
        TrustError: the file is malformed.
    """
    if not repository.in_directory:
        return None
    file = _file(repository)
    return read(repository, file) if file.is_file() else None


def read(repository: MetadataDirectory, file: Path) -> Change:
    """Return a change that was staged here or in a copy of the repository.

    Raises:
        UsageError: there is no such file.
        TrustError: it is malformed.
    """
    try:
        content = json.loads(file.read_bytes())
        new = {
            str(role): Metadata.from_bytes(json.dumps(one).encode())
            for role, one in content["metadata"].items()
        }
        for role, one in new.items():
            if one.signed.type != (role if role == "root" else "targets"):
                raise ValueError(f"{role} is of type {one.signed.type}")  # noqa: TRY301 - one message
        return Change(repository, new, str(content["note"]))
    except OSError as error:
        raise UsageError(f"{file} cannot be read: {error.strerror}") from error
    except (ValueError, KeyError, TypeError, AttributeError, DeserializationError,
            RepositoryError) as error:  # fmt: skip
        raise TrustError(
            f"{file} is no staged change: {error}",
            hint="throw it away with 'whimbrel repo discard', and make the change again",
            code="trust.staged",
        ) from error


def described(repository: MetadataDirectory, change: Change) -> list[str]:
    """Return, line by line, what a change would change, for those who are to sign it."""
    lines = []
    for role, metadata in change.new.items():
        new = metadata.signed
        newest = repository.newest(role)
        old = repository.raw(role, newest).signed if newest else None
        if old is not None and old.version == new.version:
            lines.append(f"{role} version {new.version} is countersigned, as it is")
            continue
        lines.append(f"{role} version {new.version}, valid until {new.expires:%Y-%m-%d}")
        if role == "root":
            lines += _difference("key of", _named_keys(old), _named_keys(new))
        else:
            lines += _difference("", set(old.targets if old else ()), set(new.targets))
            lines += [
                f"changes {path}"
                for path, target in new.targets.items()
                if old is not None and path in old.targets and old.targets[path] != target
            ]
            lines += _difference("key of", _named_keys(old), _named_keys(new))
    return lines


def _named_keys(signed: Any) -> set[str]:  # noqa: ANN401 - root or targets, or None
    holder = signed if isinstance(signed, Root) else getattr(signed, "delegations", None)
    if holder is None or holder.roles is None:
        return set()
    roles = holder.roles
    said = {
        f"{name} {key_id(holder.keys[keyid])[:16]}…"
        for name, role in roles.items()
        for keyid in role.keyids
    }
    return said | {f"{name}: {role.threshold} sign" for name, role in roles.items()}


def key_id(key: Any) -> str:  # noqa: ANN401 - securesystemslib's key
    """Return the id of a key as people see it: the SHA-256 of its public PEM."""
    return PublicKey.from_pem(key.keyval["public"]).id


def _difference(what: str, old: set[str], new: set[str]) -> list[str]:
    words = f"{what} " if what else ""
    return [f"removes {words}{one}" for one in sorted(old - new)] + [
        f"adds {words}{one}" for one in sorted(new - old)
    ]


def require_none(repository: MetadataDirectory) -> None:
    """Refuse to begin a change while another waits for signatures. Raises `UsageError`."""
    if repository.in_directory and (waiting := staged(repository)) is not None:
        raise UsageError(
            f"a change waits for signatures: {waiting.note}",
            hint="sign it with 'whimbrel repo sign', or throw it away with 'whimbrel repo discard'",
            code="usage.staged",
        )


def _file(repository: MetadataDirectory) -> Path:
    return repository.directory / FOLDER / FILE


def _order(role: str) -> int:
    return {"targets": 1, "root": 2}.get(role, 0)
