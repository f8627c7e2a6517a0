"""Core's keys for python-tuf: deterministic signatures, and whatever else implements `Signer`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cryptography.hazmat.primitives.serialization import load_pem_public_key
from securesystemslib.signer import (  # type: ignore[attr-defined]  # public, not listed
    Key,
    Signature,
    Signer,
    SSlibKey,
)

if TYPE_CHECKING:
    from securesystemslib.signer import SecretsHandler  # type: ignore[attr-defined]

    from whimbrel_core.signing import keys


def tuf_key(key: keys.PublicKey) -> SSlibKey:
    """Return a public key as TUF's root names it."""
    return SSlibKey.from_crypto(load_pem_public_key(key.pem.encode()))


class TufSigner(Signer):
    """Signs TUF metadata with a `whimbrel_core.signing.keys.Signer`."""

    def __init__(self, signer: keys.Signer) -> None:
        self._signer = signer
        self._key = tuf_key(signer.public)

    @property
    def public_key(self) -> Key:
        """The key as root names it."""
        return self._key

    @classmethod
    def from_priv_key_uri(
        cls, priv_key_uri: str, public_key: Key, secrets_handler: SecretsHandler | None = None
    ) -> TufSigner:
        """Refuse: key files are loaded by `whimbrel_packager.signing.keyfiles`."""
        raise NotImplementedError("key files are loaded by keyfiles.private, not by an address")

    def sign(self, payload: bytes) -> Signature:
        """Return the signature over ``payload``."""
        return Signature(self._key.keyid, self._signer.sign(payload).hex())
