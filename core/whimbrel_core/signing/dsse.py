"""DSSE envelopes (Dead Simple Signing Envelope 1.0.2): one payload, its type, one signature.

Verifying returns the payload's bytes only after a trusted key has verified them; the payload is
never parsed before that. An envelope with several signatures is refused: readers that check
"one of them" and readers that check "the first" would disagree about what is signed.
"""

from __future__ import annotations

import base64
import binascii
from typing import TYPE_CHECKING

import msgspec

from whimbrel_core.errors import TrustError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from whimbrel_core.signing.keys import PublicKey, Signer


class Signature(msgspec.Struct, frozen=True):
    """A base64 signature; ``keyid`` is a hint only and is not signed."""

    sig: str
    keyid: str = ""


class Envelope(msgspec.Struct, frozen=True, rename="camel"):
    """The JSON form of an envelope: base64 payload, its type, signatures."""

    payload: str
    payload_type: str
    signatures: tuple[Signature, ...]


def pae(payload_type: str, payload: bytes) -> bytes:
    """Return the pre-authentication encoding: the exact bytes that are signed."""
    kind = payload_type.encode("utf-8")
    return b"DSSEv1 %d %s %d %s" % (len(kind), kind, len(payload), payload)


def sign(payload: bytes, payload_type: str, signer: Signer, *, keyid: str = "") -> Envelope:
    """Wrap ``payload`` in an envelope signed by ``signer``."""
    signature = signer.sign(pae(payload_type, payload))
    return Envelope(
        payload=base64.b64encode(payload).decode("ascii"),
        payload_type=payload_type,
        signatures=(Signature(base64.b64encode(signature).decode("ascii"), keyid),),
    )


def verify(
    envelope: Envelope, payload_type: str, keys: Iterable[PublicKey], *, what: str
) -> tuple[bytes, PublicKey]:
    """Return the payload and the key that verified it.

    Args:
        envelope: as decoded from outside.
        payload_type: the only type accepted here; an envelope made for one purpose
            must not be taken for another.
        keys: the keys trusted for this purpose.
        what: name of the thing for messages, e.g. ``bundle flights-1.0.0``.

    Raises:
        TrustError: no trusted key verifies it. What was installed before still stands.
    """
    trusted = tuple(keys)
    if envelope.payload_type != payload_type:
        msg = f"{what}: signed as {envelope.payload_type!r}, expected {payload_type!r}"
        raise TrustError(msg, code="trust.payload_type")
    if len(envelope.signatures) != 1:
        msg = f"{what}: {len(envelope.signatures)} signatures, exactly one is accepted"
        raise TrustError(msg, code="trust.signature_count", hint="sign it again")
    try:
        payload = base64.b64decode(envelope.payload, validate=True)
        signature = base64.b64decode(envelope.signatures[0].sig, validate=True)
    except (binascii.Error, ValueError) as error:
        msg = f"{what}: the envelope is not valid base64"
        raise TrustError(msg, code="trust.envelope") from error
    message = pae(payload_type, payload)
    for key in trusted:
        if key.verifies(signature, message):
            return payload, key
    named = envelope.signatures[0].keyid[:12]
    shown = ", ".join(key.id[:12] for key in trusted) or "none"
    msg = f"{what}: no trusted key verifies the signature (trusted: {shown}" + (
        f"; signed by {named})" if named else ")"
    )
    raise TrustError(msg, hint="check which key signed it; nothing was changed")
