"""A keyring: the keys that somebody gave, opened when one of them is needed to sign.

TUF names keys by ids, people by folders and files. A ring knows the public half of each key it
was given, so that no PIN and no password is asked for a key that has nothing to sign.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from whimbrel_core.errors import TrustError, UsageError
from whimbrel_packager.signing import keyfiles, signers
from whimbrel_packager.signing.tuf_signer import tuf_key

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from whimbrel_core.signing.keys import PublicKey, Signer


class Held(NamedTuple):
    """A key of a ring: its public half, and where the private one is."""

    public: PublicKey
    where: Path | str

    @property
    def keyid(self) -> str:
        """The id by which TUF's metadata names it."""
        return tuf_key(self.public).keyid


class Keyring:
    """Keys by their TUF ids.

    Args:
        folders: folders of key files, ``NAME.pem`` or ``NAME.uri``, each with its ``NAME.pub``.
        keys: single ones: paths or URIs (`signers`).
        password_file: for those that are encrypted, or want a PIN.

    Raises:
        UsageError, TrustError: a single key cannot be read.
    """

    def __init__(
        self,
        *,
        folders: Iterable[Path | None] = (),
        keys: Iterable[Path | str] = (),
        password_file: Path | None = None,
    ) -> None:
        self.folders = [folder for folder in folders if folder is not None]
        self._password_file = password_file
        self._held: dict[str, Held] = {}
        self._open: dict[str, Signer] = {}
        self._unreadable: list[Path] = []
        for where in keys:
            if not signers.is_uri(where) and Path(where).is_dir():
                self.folders.append(Path(where))
            else:
                self._hold(Held(signers.public(where, password_file), where))
        for folder in self.folders:
            for path in sorted([*folder.glob("*.pem"), *folder.glob("*.uri")]):
                self._look(path)

    def __bool__(self) -> bool:
        """Return whether anything was given."""
        return bool(self._held or self.folders)

    def holds(self, keyid: str) -> bool:
        """Return whether a key is here."""
        return keyid in self._held

    def signers(self, keyids: Sequence[str], role: str, *, least: int = 1) -> list[Signer]:
        """Return those of the named keys that are here, opened.

        Raises:
            TrustError: fewer than ``least`` of them are here.
            UsageError, UnavailableError: one that is here cannot be opened.
        """
        here = [keyid for keyid in keyids if keyid in self._held]
        if len(here) < least:
            raise self._without(role)
        return [self._opened(keyid) for keyid in here]

    def _opened(self, keyid: str) -> Signer:
        if keyid not in self._open:
            held = self._held[keyid]
            signer = signers.load(held.where, self._password_file)
            if tuf_key(signer.public).keyid != keyid:
                raise TrustError(
                    f"{held.where} is another key than the .pub file beside it says",
                    hint="write it anew: whimbrel keys show KEY.pem",
                    code="trust.key",
                )
            self._open[keyid] = signer
        return self._open[keyid]

    def _look(self, path: Path) -> None:
        beside = path.with_suffix(".pub")
        try:
            known = keyfiles.public(beside) if beside.is_file() else signers.public(path)
        except TrustError:
            # Encrypted, with no public half beside it: it may be the one that is looked for.
            self._unreadable.append(path)
            return
        self._hold(Held(known, path))

    def _hold(self, held: Held) -> None:
        self._held.setdefault(held.keyid, held)

    def _without(self, role: str) -> Exception:
        for folder in self.folders:
            if not folder.is_dir():
                return UsageError(f"the folder of keys {folder} is not there")
        hint = f"give the folder that holds this repository's {role}.pem, or that key"
        if self._unreadable:
            hint = f"{self._unreadable[0]} is encrypted: put its public half beside it as .pub"
        return TrustError(
            f"the given {role} key is not the one that this repository's root names"
            if self._held
            else f"no {role} key was given",
            hint=hint,
            code="trust.role",
        )


def ring_of(keys: Path | Keyring | None) -> Keyring | None:
    """Return a ring, also for a folder of keys."""
    return Keyring(folders=[keys]) if isinstance(keys, Path) else keys
