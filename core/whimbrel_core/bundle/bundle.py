"""Bytes in, a verified bundle out.

The order is the design: limits → signature → the set of files and every digest → manifest.
Nothing is parsed before the signature over it holds, and a `Bundle` cannot be had without it;
`inspect` reads an unverified manifest for people who have no keys, and says so in its name.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
from typing import IO, TYPE_CHECKING

from whimbrel_core.bundle import archive, signature
from whimbrel_core.bundle import manifest as manifests
from whimbrel_core.errors import BundleError, TrustError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from whimbrel_core.bundle.manifest import Manifest
    from whimbrel_core.signing.keys import PublicKey, Signer

MANIFEST = "manifest.json"
MODEL = "model.onnx"
BASELINE = "baseline.bin"
PARITY = "parity.npz"
SBOM = "sbom.cdx.json"
PROVENANCE = "provenance.json"
CARD = "card.md"
REQUIRED = (MANIFEST, MODEL, BASELINE, PARITY, signature.FILE)
SUFFIX = ".whim"


class Bundle:
    """A bundle whose signature and every digest have been verified."""

    def __init__(
        self, source: archive.Archive, manifest: Manifest, key_id: str, digests: Mapping[str, str]
    ) -> None:
        self._archive = source
        self.manifest = manifest
        self.key_id = key_id
        self.digests = dict(digests)

    def read(self, name: str) -> bytes:
        """Return a file's bytes, checked once more against the signed digest.

        Raises:
            TrustError: the bytes changed since they were verified.
        """
        data = self._archive.read(name)
        if hashlib.sha256(data).hexdigest() != self.digests.get(name):
            msg = f"{self.manifest.title}: {name} changed after it was verified"
            raise TrustError(
                msg, code="trust.digest", hint="check the disk; fetch the bundle again"
            )
        return data

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the signed files."""
        return tuple(sorted(self.digests))


def open_bundle(
    file: IO[bytes],
    keys: Iterable[PublicKey],
    *,
    what: str = "bundle",
    limits: archive.Limits = archive.DEFAULT_LIMITS,
) -> Bundle:
    """Verify ``file`` and return it as a `Bundle`.

    Args:
        file: seekable; it must stay open as long as the bundle is read.
        keys: publishers' keys that are trusted for it.
        what: how to call it in messages, usually its path.
        limits: refused beyond these before anything is trusted.

    Raises:
        BundleError: malformed or beyond limits.
        TrustError: not signed by a trusted key, or a file differs from what was signed.
    """
    with _named(what):
        return _open(file, keys, what, limits)


def _open(file: IO[bytes], keys: Iterable[PublicKey], what: str, limits: archive.Limits) -> Bundle:
    source = archive.Archive(file, limits)
    stated = signature.verify(
        source.read(signature.FILE, limit=signature.MAX_SIGNATURE_BYTES), keys, what=what
    )
    present = {name for name in source.names if name != signature.FILE}
    if present != set(stated.digests):
        odd = sorted(present ^ set(stated.digests))
        msg = f"{what}: not exactly the signed files; differing: {', '.join(odd[:5])}"
        raise TrustError(msg, code="trust.digest", hint="fetch or pack it again")
    for name, expected in stated.digests.items():
        hasher = hashlib.sha256()
        for piece in source.chunks(name):
            hasher.update(piece)
        if hasher.hexdigest() != expected:
            msg = f"{what}: {name} is not what was signed (sha256 {hasher.hexdigest()[:12]}…, signed {expected[:12]}…)"
            raise TrustError(
                msg, code="trust.digest", hint="fetch or pack it again; nothing was installed"
            )
    for name in REQUIRED:
        if name not in present and name != signature.FILE:
            msg = f"{what}: has no {name}"
            raise BundleError(msg, code="bundle.missing", hint="pack the model again")
    manifest = manifests.decode(source.read(MANIFEST, limit=manifests.MAX_MANIFEST_BYTES))
    if manifest.model.file not in present:
        msg = f"{what}: the manifest names {manifest.model.file}, which is not in the bundle"
        raise BundleError(msg, code="bundle.missing", hint="pack the model again")
    return Bundle(source, manifest, stated.key_id, stated.digests)


def inspect(
    file: IO[bytes], limits: archive.Limits = archive.DEFAULT_LIMITS, *, what: str = "bundle"
) -> tuple[Manifest, dict[str, int]]:
    """Return the UNVERIFIED manifest and the size of each file, for looking only."""
    with _named(what):
        source = archive.Archive(file, limits)
        manifest = manifests.decode(source.read(MANIFEST, limit=manifests.MAX_MANIFEST_BYTES))
        return manifest, {name: source.size(name) for name in source.names}


@contextlib.contextmanager
def _named(what: str) -> Iterator[None]:
    """Put the bundle's name before what its parts have to say about themselves."""
    try:
        yield
    except BundleError as error:
        if error.message.startswith(what):
            raise
        msg = f"{what}: {error.message}"
        raise BundleError(msg, code=error.code, hint=error.hint) from error


def build(files: Mapping[str, bytes], signer: Signer) -> bytes:
    """Return a signed bundle over ``files`` (all but the signature): equal input, equal bytes.

    Raises:
        BundleError: a required file is missing, or the manifest is malformed.
    """
    for name in REQUIRED:
        if name not in files and name != signature.FILE:
            msg = f"cannot build a bundle without {name}"
            raise BundleError(msg, code="bundle.missing")
    manifest = manifests.decode(files[MANIFEST])
    digests = {name: hashlib.sha256(data).hexdigest() for name, data in files.items()}
    signed = {**files, signature.FILE: signature.sign(digests, manifest.title, signer)}
    target = io.BytesIO()
    archive.write(target, signed)
    return target.getvalue()
