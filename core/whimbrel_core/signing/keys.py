"""EC keys on P-256 and P-384: load, write, sign, verify.

A key is named by the SHA-256 of its public PEM, as OpenSSF Model Signing does in ``hint``.
Signatures are deterministic (RFC 6979), so that equal inputs give equal bundles.
"""

from __future__ import annotations

import hashlib
from typing import Protocol

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from whimbrel_core.errors import TrustError

_HASHES: dict[str, type[hashes.HashAlgorithm]] = {
    "secp256r1": hashes.SHA256,
    "secp384r1": hashes.SHA384,
}


class Signer(Protocol):
    """Whatever can sign: a key file here; PKCS#11 or a cloud KMS elsewhere."""

    @property
    def public(self) -> PublicKey:
        """The key with which the signatures are verified."""

    def sign(self, data: bytes) -> bytes:
        """Return a DER-encoded ECDSA signature over ``data``."""


class PublicKey:
    """A public EC key; ``pem`` is its canonical text, ``id`` the SHA-256 of that text."""

    def __init__(self, key: ec.EllipticCurvePublicKey) -> None:
        self._key = key
        self._hash = _hash_for(key.curve)
        self.pem: str = key.public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        ).decode("ascii")
        self.id: str = hashlib.sha256(self.pem.encode("ascii")).hexdigest()

    @classmethod
    def from_pem(cls, pem: str | bytes) -> PublicKey:
        """Load a public key, or raise `TrustError` naming what it is instead."""
        data = pem.encode("ascii", "replace") if isinstance(pem, str) else pem
        try:
            key = serialization.load_pem_public_key(data)
        except (ValueError, TypeError) as error:
            msg = "not a PEM public key"
            raise TrustError(msg, code="trust.key", hint="give the .pub file") from error
        if not isinstance(key, ec.EllipticCurvePublicKey):
            msg = f"key is {type(key).__name__}, an EC key on P-256 or P-384 is needed"
            raise TrustError(msg, code="trust.key", hint="make one with 'whimbrel keys new'")
        return cls(key)

    def verifies(self, signature: bytes, data: bytes) -> bool:
        """Return whether ``signature`` over ``data`` was made with this key."""
        try:
            self._key.verify(signature, data, ec.ECDSA(self._hash()))
        except InvalidSignature:
            return False
        return True

    def __repr__(self) -> str:
        """Show the start of the key's id, never key material."""
        return f"PublicKey({self.id[:12]})"


class PrivateKey:
    """A private EC key in memory; implements `Signer`."""

    def __init__(self, key: ec.EllipticCurvePrivateKey) -> None:
        self._key = key
        self._hash = _hash_for(key.curve)
        self.public = PublicKey(key.public_key())

    @classmethod
    def generate(cls) -> PrivateKey:
        """Make a new P-256 key."""
        return cls(ec.generate_private_key(ec.SECP256R1()))

    @classmethod
    def from_pem(cls, pem: bytes, password: bytes | None = None) -> PrivateKey:
        """Load a private key, or raise `TrustError` saying why it cannot be used."""
        try:
            key = serialization.load_pem_private_key(pem, password)
        except TypeError as error:
            msg = "the private key is encrypted and no password was given, or the reverse"
            raise TrustError(msg, code="trust.key", hint="give the password file") from error
        except ValueError as error:
            msg = "not a PEM private key, or a wrong password"
            raise TrustError(
                msg, code="trust.key", hint="make one with 'whimbrel keys new'"
            ) from error
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            msg = f"key is {type(key).__name__}, an EC key on P-256 or P-384 is needed"
            raise TrustError(msg, code="trust.key", hint="make one with 'whimbrel keys new'")
        return cls(key)

    def pem(self, password: bytes | None = None) -> bytes:
        """Return the key as PKCS#8 PEM, encrypted when a password is given."""
        encryption: serialization.KeySerializationEncryption = (
            serialization.BestAvailableEncryption(password)
            if password
            else serialization.NoEncryption()
        )
        return self._key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption
        )

    def sign(self, data: bytes) -> bytes:
        """Return a deterministic DER-encoded ECDSA signature over ``data``."""
        return self._key.sign(data, ec.ECDSA(self._hash(), deterministic_signing=True))

    def __repr__(self) -> str:
        """Show the start of the public key's id, never key material."""
        return f"PrivateKey({self.public.id[:12]})"


def _hash_for(curve: ec.EllipticCurve) -> type[hashes.HashAlgorithm]:
    try:
        return _HASHES[curve.name]
    except KeyError:
        msg = f"curve {curve.name} is not accepted, P-256 or P-384 is needed"
        raise TrustError(
            msg, code="trust.key", hint="make a key with 'whimbrel keys new'"
        ) from None
