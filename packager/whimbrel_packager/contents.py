"""The contents of a bundle, for people: every part decoded, verified or not.

A device reads only what a trusted key has signed. A person may look without a key, and is told so:
`Contents.signature` says what is known, and every page made of the contents repeats it. A part
that cannot be read does not hide the others: `Contents.unread` says which, and why.
"""

from __future__ import annotations

import hashlib
from typing import IO, TYPE_CHECKING, Any, Literal

import msgspec

from whimbrel_core import identity
from whimbrel_core.bundle import archive, signature
from whimbrel_core.bundle import bundle as bundles
from whimbrel_core.bundle import parity as vectors
from whimbrel_core.bundle.manifest import Manifest
from whimbrel_core.errors import InputError, ProfileError
from whimbrel_core.profile.baseline import MAX_ENCODED_BYTES, Baseline
from whimbrel_packager.record import provenance
from whimbrel_packager.record.card import Card
from whimbrel_packager.record.provenance import Record

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from whimbrel_core.signing.keys import PublicKey

    Read = Callable[[str, int], bytes]

_MAX_SBOM = 16 << 20
_CHUNK = 1 << 20


class Signature(msgspec.Struct, frozen=True):
    """What is known of who signed.

    Args:
        state: "verified" by a key that the reader trusts; "unchecked", when no key was given;
            "none", when there is no signature at all.
        key_id: of the key that signed; without verification, of the key that the file names.
    """

    state: Literal["verified", "unchecked", "none"]
    key_id: str = ""


class Component(msgspec.Struct, frozen=True):
    """One entry of the bill of materials."""

    type: str
    name: str
    version: str = ""
    licence: str = ""
    scope: str = ""


class Contents(msgspec.Struct, frozen=True):
    """All of a bundle but the model itself.

    Args:
        digest: SHA-256 of the bundle's file.
        length: of that file, bytes.
        signature: what is known of who signed.
        manifest: identity and figures.
        baseline: the reference profile.
        sizes: bytes by name of the files inside.
        digests: their SHA-256.
        record: recipe, lineage and environment; None for bundles of before these were recorded.
        card: what a person said of the model, from the recipe.
        components: of the bill of materials.
        vectors: rows that a device proves again; 0 when they cannot be read.
        unread: what is wrong, by name of the file.
    """

    digest: str
    length: int
    signature: Signature
    manifest: Manifest
    baseline: Baseline
    sizes: dict[str, int]
    digests: dict[str, str]
    record: Record | None = None
    card: Card = Card()
    components: tuple[Component, ...] = ()
    vectors: int = 0
    unread: dict[str, str] = {}


def read(file: IO[bytes], *, what: str, keys: Sequence[PublicKey] = ()) -> Contents:
    """Return the contents of a bundle; with ``keys``, once one of them has verified it.

    Args:
        file: seekable.
        what: how to call it in messages, usually its path.
        keys: that are trusted; none: nothing is verified.

    Raises:
        BundleError: malformed, of another format, or beyond limits.
        TrustError: none of ``keys`` vouches for it.
        ProfileError: its baseline is malformed.
    """
    digest, length = _digest(file)
    if keys:
        whole = bundles.open_bundle(file, keys, what=what)
        known = Signature("verified", whole.key_id)
        manifest = whole.manifest
    else:
        manifest, _ = bundles.inspect(file, what=what)
    source = archive.Archive(file)
    if not keys:
        known = _claimed(source)
    digests = {name: _file_digest(source, name) for name in source.names}

    def content(name: str, limit: int) -> bytes:
        data = source.read(name, limit=limit)
        if hashlib.sha256(data).hexdigest() != digests[name]:
            raise InputError(f"{what}: {name} changed while it was read", hint="look at the disk")
        return data

    unread: dict[str, str] = {}
    record = _record(source, content, unread)
    return Contents(
        digest=digest,
        length=length,
        signature=known,
        manifest=manifest,
        baseline=_baseline(content, what),
        sizes={name: source.size(name) for name in source.names},
        digests=digests,
        record=record,
        card=_card(record),
        components=_components(source, content, unread),
        vectors=_vectors(source, content, unread),
        unread=unread,
    )


def _digest(file: IO[bytes]) -> tuple[str, int]:
    hasher, length = hashlib.sha256(), 0
    file.seek(0)
    while piece := file.read(_CHUNK):
        hasher.update(piece)
        length += len(piece)
    return hasher.hexdigest(), length


def _file_digest(source: archive.Archive, name: str) -> str:
    hasher = hashlib.sha256()
    for piece in source.chunks(name):
        hasher.update(piece)
    return hasher.hexdigest()


def _claimed(source: archive.Archive) -> Signature:
    """Return which key a signature names; nobody has checked it."""
    if signature.FILE not in source.names:
        return Signature("none")
    try:
        data = source.read(signature.FILE, limit=signature.MAX_SIGNATURE_BYTES)
        hint = msgspec.json.decode(data)["verificationMaterial"]["publicKey"]["hint"]
        return Signature("unchecked", identity.digest(hint))
    except (
        InputError, msgspec.DecodeError, UnicodeDecodeError, LookupError, TypeError, RecursionError,
    ):  # fmt: skip
        return Signature("unchecked")


def _baseline(content: Read, what: str) -> Baseline:
    try:
        return Baseline.decode(content(bundles.BASELINE, MAX_ENCODED_BYTES))
    except ProfileError as error:
        message = f"{what}: {bundles.BASELINE}: {error.message}"
        raise ProfileError(message, hint=error.hint, code=error.code) from error


def _record(source: archive.Archive, content: Read, unread: dict[str, str]) -> Record | None:
    name = bundles.PROVENANCE
    if name not in source.names:
        return None
    try:
        return provenance.read(content(name, provenance.MAX_BYTES), what=name)
    except InputError as error:
        unread[name] = error.message
        return None


def _card(record: Record | None) -> Card:
    try:
        return msgspec.convert(record.recipe.get("card", {}), Card) if record else Card()
    except msgspec.ValidationError:  # of a newer packager; card.md in the bundle has it all
        return Card()


def _vectors(source: archive.Archive, content: Read, unread: dict[str, str]) -> int:
    try:
        return vectors.decode(content(bundles.PARITY, vectors.MAX_BYTES)).rows
    except InputError as error:
        if bundles.PARITY in source.names:
            unread[bundles.PARITY] = error.message
        return 0


def _components(
    source: archive.Archive, content: Read, unread: dict[str, str]
) -> tuple[Component, ...]:
    name = bundles.SBOM
    if name not in source.names:
        return ()
    try:
        document = msgspec.json.decode(content(name, _MAX_SBOM), type=_Bill)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, InputError) as error:
        unread[name] = f"{name}: {error}"
        return ()
    if document.bom_format != "CycloneDX":
        unread[name] = f"{name}: it is no CycloneDX document"
    return tuple(
        Component(one.type, one.name, one.version, _licence(one.licenses), one.scope)
        for one in document.components
    )


class _Entry(msgspec.Struct, frozen=True):
    type: str
    name: str
    version: str = ""
    scope: str = ""
    licenses: tuple[dict[str, Any], ...] = ()


class _Bill(msgspec.Struct, frozen=True, rename={"bom_format": "bomFormat"}):
    bom_format: str = ""
    components: tuple[_Entry, ...] = ()


def _licence(stated: tuple[dict[str, Any], ...]) -> str:
    """Return the licences of a component: expressions, or names of licences."""
    found = []
    for one in stated:
        named = one.get("license")
        inner = (named.get("id") or named.get("name")) if isinstance(named, dict) else None
        found.append(str(one.get("expression") or inner or ""))
    return ", ".join(text for text in found if text)
