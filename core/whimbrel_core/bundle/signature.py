"""OpenSSF Model Signing (OMS) 1.0, made and verified with `cryptography` and JSON alone.

The file ``model.sig`` is a Sigstore bundle v0.3 in JSON that holds a DSSE envelope over an in-toto
Statement v1 whose predicate lists the SHA-256 of every other file. The subject's digest is the
SHA-256 over those raw digests in path-parts order (``sub/x`` before ``sub-a/y``).
Specification: https://github.com/ossf/model-signing-spec.

Of what the specification allows, accepted are signatures by an EC key over whole files by SHA-256,
whoever's tool made them. Refused by name are certificates, keyless signatures, files in shards,
other digests and the format before 1.0.
"""

from __future__ import annotations

import hashlib
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

import msgspec

from whimbrel_core import identity
from whimbrel_core.canonical import canonical_json
from whimbrel_core.errors import InputError, TrustError
from whimbrel_core.signing import dsse

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from whimbrel_core.signing.keys import PublicKey, Signer

FILE = "model.sig"
BUNDLE_TYPE = "application/vnd.dev.sigstore.bundle.v0.3+json"
PAYLOAD_TYPE = "application/vnd.in-toto+json"
STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
PREDICATE_TYPE = "https://model_signing/signature/v1.0"
MAX_SIGNATURE_BYTES = 1 << 20


class _Resource(msgspec.Struct, frozen=True):
    name: str
    algorithm: str
    digest: str


class _Predicate(msgspec.Struct, frozen=True):
    resources: tuple[_Resource, ...]
    serialization: dict[str, Any]


class _Subject(msgspec.Struct, frozen=True):
    name: str
    digest: dict[str, str]


class _Statement(
    msgspec.Struct, frozen=True, rename={"type": "_type", "predicate_type": "predicateType"}
):
    type: str
    subject: tuple[_Subject, ...]
    predicate_type: str
    predicate: _Predicate


class _KeyHint(msgspec.Struct, frozen=True):
    hint: str | None = None


class _Material(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    public_key: _KeyHint | None = None
    certificate: Any = None
    x509_certificate_chain: Any = None


class _WrittenMaterial(msgspec.Struct, frozen=True, rename="camel"):
    public_key: _KeyHint
    tlog_entries: tuple[Any, ...] = ()


class _SigstoreBundle(msgspec.Struct, frozen=True, rename="camel"):
    media_type: str
    verification_material: _Material
    dsse_envelope: dsse.Envelope


class _WrittenBundle(msgspec.Struct, frozen=True, rename="camel"):
    media_type: str
    verification_material: _WrittenMaterial
    dsse_envelope: dsse.Envelope


class Verified(msgspec.Struct, frozen=True):
    """What a signature states once a trusted key has verified it.

    Args:
        subject: the name that the signer gave to the model; no identity.
        digests: SHA-256 by path of each signed file.
        key_id: of the key that signed.
        ignored: paths that the signer left out on purpose: what lies there is not signed.
    """

    subject: str
    digests: dict[str, str]
    key_id: str
    ignored: tuple[str, ...] = ()


def sign(digests: Mapping[str, str], subject: str, signer: Signer) -> bytes:
    """Return ``model.sig`` over files with the given hexadecimal SHA-256 ``digests``."""
    resources = [
        {"name": name, "algorithm": "sha256", "digest": digests[name]}
        for name in sorted(digests, key=_path_parts)
    ]
    statement = {
        "_type": STATEMENT_TYPE,
        "subject": [{"name": subject, "digest": {"sha256": _root(digests)}}],
        "predicateType": PREDICATE_TYPE,
        "predicate": {
            "serialization": {
                "method": "files",
                "hash_type": "sha256",
                "allow_symlinks": False,
                "ignore_paths": [FILE],
            },
            "resources": resources,
        },
    }
    envelope = dsse.sign(canonical_json(statement), PAYLOAD_TYPE, signer)
    return canonical_json(
        _WrittenBundle(
            media_type=BUNDLE_TYPE,
            verification_material=_WrittenMaterial(_KeyHint(signer.public.id)),
            dsse_envelope=envelope,
        )
    )


def verify(data: bytes, keys: Iterable[PublicKey], *, what: str) -> Verified:
    """Return what ``model.sig`` states, once one of ``keys`` has verified it.

    Raises:
        TrustError: malformed, of another type, inconsistent, or by a key that is not trusted.
    """
    try:
        bundle = msgspec.json.decode(data, type=_SigstoreBundle)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        msg = f"{what}: {FILE} is malformed: {error}"
        raise TrustError(msg, hint="sign the bundle again") from error
    if bundle.media_type != BUNDLE_TYPE:
        msg = f"{what}: {FILE} is of type {bundle.media_type!r}, expected {BUNDLE_TYPE!r}"
        raise TrustError(msg)
    material = bundle.verification_material
    if material.certificate is not None or material.x509_certificate_chain is not None:
        msg = f"{what}: {FILE} is signed with a certificate (Sigstore's keyless, or X.509)"
        raise TrustError(
            msg,
            code="trust.certificate",
            hint="devices trust keys, offline; sign with one: 'model_signing sign key', or pack it",
        )
    payload, key = dsse.verify(bundle.dsse_envelope, PAYLOAD_TYPE, keys, what=what)
    hint = material.public_key
    if hint is not None and hint.hint and hint.hint != key.id:
        msg = f"{what}: {FILE} hints at key {hint.hint[:12]}, but {key.id[:12]} signed it"
        raise TrustError(msg)
    return _read_statement(payload, key, what)


def _read_statement(payload: bytes, key: PublicKey, what: str) -> Verified:
    try:
        statement = msgspec.json.decode(payload, type=_Statement)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        msg = f"{what}: the signed statement is malformed: {error}"
        raise TrustError(msg) from error
    if statement.type != STATEMENT_TYPE or statement.predicate_type != PREDICATE_TYPE:
        msg = f"{what}: signed as {statement.predicate_type!r}, expected {PREDICATE_TYPE!r}"
        raise TrustError(msg)
    if len(statement.subject) != 1:
        msg = f"{what}: {len(statement.subject)} subjects are signed, exactly one is accepted"
        raise TrustError(msg)
    ignored = _ignored(statement.predicate.serialization, what)
    digests: dict[str, str] = {}
    for resource in statement.predicate.resources:
        if resource.algorithm != "sha256" or resource.name in digests:
            msg = f"{what}: {resource.name!r} is listed twice or not by sha256"
            raise TrustError(msg)
        try:
            # One spelling alone: digests are compared, and name files, as text.
            digests[resource.name] = identity.digest(resource.digest)
        except InputError as error:
            msg = f"{what}: {resource.name!r} is signed with a digest that is none: {error}"
            raise TrustError(msg, code="trust.digest", hint=error.hint) from error
    subject = statement.subject[0]
    if subject.digest.get("sha256") != _root(digests):
        msg = f"{what}: the root digest does not match the listed files"
        raise TrustError(msg, code="trust.digest")
    return Verified(subject=subject.name, digests=digests, key_id=key.id, ignored=ignored)


def _ignored(serialization: dict[str, Any], what: str) -> tuple[str, ...]:
    """Return the paths that are left out, if files became digests in the one way accepted here."""
    method, digest = serialization.get("method"), serialization.get("hash_type")
    if method != "files" or digest != "sha256":
        how = f"{str(method)[:40]!r} with {str(digest)[:40]!r}"
        msg = f"{what}: files are signed as {how}, accepted are whole 'files' with 'sha256'"
        raise TrustError(
            msg, code="trust.serialization", hint="sign it with 'model_signing sign key' as it is"
        )
    paths = serialization.get("ignore_paths", [])
    if not isinstance(paths, list) or not all(isinstance(path, str) for path in paths):
        raise TrustError(f"{what}: the signed ignore_paths are malformed")
    return tuple(paths)


def _root(digests: Mapping[str, str]) -> str:
    hasher = hashlib.sha256()
    for name in sorted(digests, key=_path_parts):
        hasher.update(bytes.fromhex(digests[name]))
    return hasher.hexdigest()


def _path_parts(name: str) -> tuple[str, ...]:
    return PurePosixPath(name).parts
