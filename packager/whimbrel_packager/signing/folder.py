"""A folder with an OpenSSF Model Signing signature: an unpacked bundle, or any other model.

Every file has to be signed, apart from the signature itself and what the signer said to ignore.
Links are not followed, and not accepted: what they lead to is not what was signed.
"""

from __future__ import annotations

import hashlib
import os
from typing import TYPE_CHECKING, NamedTuple

from whimbrel_core.bundle import signature
from whimbrel_core.errors import InputError, TrustError, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from whimbrel_core.signing.keys import PublicKey


class Verified(NamedTuple):
    """A folder in which every file is what was signed.

    Attributes:
        stated: what the signature states.
        unsigned: files that the signer said to ignore, and that are there.
    """

    stated: signature.Verified
    unsigned: tuple[str, ...]


def verify(folder: Path, keys: Iterable[PublicKey], signed: Path | None = None) -> Verified:
    """Verify a folder.

    Args:
        folder: the model.
        keys: that are trusted.
        signed: the signature's file; None: ``model.sig`` in the folder.

    Raises:
        UsageError: there is no signature, or a file cannot be read.
        InputError: there is a link.
        TrustError: no trusted key vouches for it, or a file is not what was signed.
    """
    file = signed or folder / signature.FILE
    try:
        data = file.read_bytes()
    except OSError as error:
        raise UsageError(
            f"{file} cannot be read: {error.strerror}",
            hint="name the signature with --signature",
        ) from error
    if len(data) > signature.MAX_SIGNATURE_BYTES:
        raise InputError(f"{file} is larger than {signature.MAX_SIGNATURE_BYTES} bytes")
    stated = signature.verify(data, keys, what=str(folder))
    present = {path.relative_to(folder).as_posix(): path for path in _files(folder)}
    present = {name: path for name, path in present.items() if path.resolve() != file.resolve()}
    unsigned = {
        name
        for name in present
        if name not in stated.digests and any(_below(name, path) for path in stated.ignored)
    }
    if odd := sorted((set(present) - unsigned) ^ set(stated.digests)):
        raise TrustError(
            f"{folder}: not exactly the signed files; differing: {', '.join(odd[:5])}",
            hint="fetch it again, or sign it anew",
            code="trust.digest",
        )
    for name, expected in stated.digests.items():
        if _digest(present[name]) != expected:
            raise TrustError(
                f"{folder}: {name} is not what was signed",
                hint="fetch it again, or sign it anew",
                code="trust.digest",
            )
    return Verified(stated, tuple(sorted(unsigned)))


def _files(folder: Path) -> Iterator[Path]:
    for entry in sorted(os.scandir(folder), key=lambda one: one.name):
        path = folder / entry.name
        if entry.is_symlink() or not (entry.is_file() or entry.is_dir()):
            raise InputError(
                f"{path} is a link, or no file: only files are verified",
                hint="copy what it leads to in its place, and sign it anew",
                code="input.link",
            )
        if entry.is_dir():
            yield from _files(path)
        else:
            yield path


def _below(name: str, path: str) -> bool:
    return name == path or name.startswith(f"{path.rstrip('/')}/")


def _digest(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}") from error
