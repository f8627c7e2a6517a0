"""Key files: ``NAME.pem`` holds a private key (mode 0600), ``NAME.pub`` its public half.

``NAME.uri`` stands for a private key that is elsewhere, and says where (`signers`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from whimbrel_core.errors import TrustError, UsageError
from whimbrel_core.signing.keys import PrivateKey, PublicKey
from whimbrel_packager import atomic

if TYPE_CHECKING:
    from pathlib import Path

_PRIVATE = b"PRIVATE KEY"


def create(folder: Path, name: str, password: bytes | None = None) -> tuple[PrivateKey, Path]:
    """Make a key in ``folder`` and return it with the private file's path.

    Raises:
        UsageError: there is a key of that name; it was not touched.
    """
    path = folder / f"{name}.pem"
    require_free(folder, name)
    key = PrivateKey.generate()
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    atomic.write(path, key.pem(password), mode=0o600)
    atomic.write(folder / f"{name}.pub", key.public.pem.encode())
    return key, path


def require_free(folder: Path, name: str) -> None:
    """Refuse a name that has a key already. Raises `UsageError`."""
    for path in (folder / f"{name}.pem", folder / f"{name}.uri"):
        if path.exists():
            raise UsageError(
                f"there is a key at {path}; it was not touched",
                hint="choose another name: what was signed with a lost key cannot be signed again",
            )


def write_uri(folder: Path, name: str, uri: str, public: PublicKey) -> Path:
    """Write where a key is, with its public half beside it; return the ``.uri`` file's path."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    atomic.write(folder / f"{name}.pub", public.pem.encode())
    atomic.write(folder / f"{name}.uri", f"{uri}\n".encode())
    return folder / f"{name}.uri"


def private(path: Path, password_file: Path | None = None) -> PrivateKey:
    """Load a private key.

    Raises:
        UsageError: there is no such file.
        TrustError: it is no usable private key; for a public one the message says so.
    """
    data = _read(path)
    if b"PUBLIC KEY" in data and _PRIVATE not in data:
        raise TrustError(
            f"{path} is a public key, a private one is needed to sign",
            hint=f"give {path.with_suffix('.pem').name}",
            code="trust.key",
        )
    password = _password(data, password_file)
    try:
        return PrivateKey.from_pem(data, password)
    except TrustError as error:
        hint = "give --password-file" if "encrypted" in error.message else error.hint
        raise TrustError(f"{path}: {error.message}", hint=hint, code=error.code) from error


def public(path: Path, password_file: Path | None = None) -> PublicKey:
    """Load a public key, also from a private key's file.

    Raises:
        UsageError: there is no such file.
        TrustError: it is no usable key.
    """
    data = _read(path)
    try:
        if _PRIVATE in data:
            password = _password(data, password_file)
            return PrivateKey.from_pem(data, password).public
        return PublicKey.from_pem(data)
    except TrustError as error:
        raise TrustError(f"{path}: {error.message}", hint=error.hint, code=error.code) from error


def _password(data: bytes, file: Path | None) -> bytes | None:
    """Return the password, for a key that has one: others may be signed with beside it."""
    password = _read(file).strip() if file is not None else None
    return password if b"ENCRYPTED" in data else None


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise UsageError(
            f"the key file {path} cannot be read: {error.strerror}",
            hint="make a key with 'whimbrel keys new'",
        ) from error
