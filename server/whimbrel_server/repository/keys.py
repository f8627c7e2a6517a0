"""The folder of online keys: what this server may sign with, each if it was given to it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from securesystemslib.signer import CryptoSigner  # type: ignore[attr-defined]  # public, not listed

from whimbrel_core.errors import TrustError
from whimbrel_core.signing.keys import PrivateKey

if TYPE_CHECKING:
    from pathlib import Path

SNAPSHOT, TIMESTAMP, FLEET = "snapshot.pem", "timestamp.pem", "fleet.pem"


def missing(folder: Path | None) -> tuple[str, ...]:
    """Return the names of the keys that are not in ``folder`` (None: there is no folder)."""
    return tuple(name for name in (SNAPSHOT, TIMESTAMP, FLEET) if _file(folder, name) is None)


def fleet_key(folder: Path | None) -> PrivateKey | None:
    """Return the key of assignments; None: this server can assign nothing."""
    pem = _read(folder, FLEET)
    return None if pem is None else PrivateKey.from_pem(pem)


def online_signers(folder: Path | None) -> tuple[CryptoSigner, CryptoSigner] | None:
    """Return the signers of snapshot and timestamp; None: somebody else signs them.

    Raises:
        TrustError: a key is malformed.
    """
    snapshot, timestamp = _read(folder, SNAPSHOT), _read(folder, TIMESTAMP)
    if snapshot is None or timestamp is None:
        return None
    return load_signer(snapshot), load_signer(timestamp)


def load_signer(pem: bytes) -> CryptoSigner:
    """Return a TUF signer from an EC private key in PEM."""
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        return CryptoSigner(load_pem_private_key(pem, None))
    except (ValueError, TypeError) as error:
        raise TrustError(
            "an online key is not a PEM private key, or it is encrypted", code="trust.key"
        ) from error


def _read(folder: Path | None, name: str) -> bytes | None:
    file = _file(folder, name)
    return None if file is None else file.read_bytes()


def _file(folder: Path | None, name: str) -> Path | None:
    file = folder / name if folder is not None else None
    return file if file is not None and file.is_file() else None
