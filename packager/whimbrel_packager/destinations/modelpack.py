"""A bundle as an OCI artifact, in the layout of CNCF's ModelPack: one raw layer for each file.

Tools that know the layout see a model, its configuration, data and documents; registries keep
equal files of two versions once. The ``.whim`` is made again from its layers, byte for byte: its
archive has one form for given files, and its digest is an annotation.
"""

from __future__ import annotations

import hashlib
import io
from typing import TYPE_CHECKING

import msgspec

from whimbrel_core.bundle import archive
from whimbrel_core.bundle import bundle as bundles
from whimbrel_core.canonical import canonical_json
from whimbrel_core.errors import BundleError, TrustError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from whimbrel_core.bundle.manifest import Manifest

MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"
ARTIFACT_TYPE = "application/vnd.cncf.model.manifest.v1+json"
CONFIG_TYPE = "application/vnd.cncf.model.config.v1+json"
WEIGHT, WEIGHT_CONFIG, DATASET, DOC = (
    f"application/vnd.cncf.model.{kind}.v1.raw"
    for kind in ("weight", "weight.config", "dataset", "doc")
)
FILE_PATH = "org.cncf.model.filepath"
TITLE, VERSION = "org.opencontainers.image.title", "org.opencontainers.image.version"
BUNDLE_DIGEST = "dev.whimbrel.bundle.sha256"
_KINDS = {bundles.MODEL: WEIGHT, bundles.PARITY: DATASET, bundles.CARD: DOC}
_SUFFIXES = {".onnx": WEIGHT, ".data": WEIGHT, ".md": DOC, ".html": DOC}


class Descriptor(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    """What OCI says of a blob: type, digest (``sha256:…``) and size in bytes."""

    media_type: str
    digest: str
    size: int
    annotations: dict[str, str] = {}


class ImageManifest(msgspec.Struct, frozen=True, rename="camel"):
    """OCI's image manifest, as an artifact."""

    schema_version: int
    media_type: str
    config: Descriptor
    layers: tuple[Descriptor, ...]
    artifact_type: str = ""
    annotations: dict[str, str] = {}


class Artifact(msgspec.Struct, frozen=True):
    """A bundle as a registry keeps it: the manifest's bytes, and blobs by digest."""

    manifest: bytes
    blobs: dict[str, bytes]


def artifact(bundle: bytes, manifest: Manifest) -> Artifact:
    """Return a bundle as an artifact; equal bundles are equal artifacts.

    Raises:
        BundleError: its archive has another form than this version writes.
    """
    opened = archive.Archive(io.BytesIO(bundle))
    files = {name: opened.read(name) for name in opened.names}
    if _whole(files) != bundle:
        raise BundleError(
            f"{manifest.title} cannot be taken apart and made again: its archive has another form",
            hint="pack it again",
        )
    layers = tuple(
        Descriptor(_kind(name), _digest(data), len(data), {FILE_PATH: name, TITLE: name})
        for name, data in files.items()
    )
    config = canonical_json(
        {
            "descriptor": {"name": manifest.name, "version": manifest.version},
            "config": {"format": "onnx"},
            "modelfs": {"type": "layers", "diffIds": [layer.digest for layer in layers]},
        }
    )
    made = ImageManifest(
        schema_version=2,
        media_type=MANIFEST_TYPE,
        artifact_type=ARTIFACT_TYPE,
        config=Descriptor(CONFIG_TYPE, _digest(config), len(config)),
        layers=layers,
        annotations={
            TITLE: f"{manifest.title}{bundles.SUFFIX}",
            VERSION: manifest.version,
            BUNDLE_DIGEST: hashlib.sha256(bundle).hexdigest(),
        },
    )
    blobs = {_digest(data): data for data in (*files.values(), config)}
    return Artifact(canonical_json(msgspec.to_builtins(made)), blobs)


def read(data: bytes, what: str) -> ImageManifest:
    """Return a manifest, checked against what a bundle may be before any blob is fetched.

    Raises:
        BundleError: it is no bundle, or beyond the limits of one.
    """
    try:
        manifest = msgspec.json.decode(data, type=ImageManifest)
    except msgspec.DecodeError as error:
        raise BundleError(f"{what} is not an OCI image manifest: {error}") from error
    limits = archive.DEFAULT_LIMITS
    sizes = [layer.size for layer in manifest.layers]
    if BUNDLE_DIGEST not in manifest.annotations:
        raise BundleError(
            f"{what} is an artifact of type {manifest.artifact_type or 'image'!r}, and no bundle",
            hint="only what 'whimbrel publish --to oci://…' put there can be pulled",
        )
    if len(sizes) > limits.entries or min(sizes, default=0) < 0 or sum(sizes) > limits.total_bytes:
        raise BundleError(
            f"{what} names {len(sizes)} files of {sum(sizes)} bytes: beyond a bundle's limits",
            code="bundle.limit",
        )
    return manifest


def bundle(manifest: ImageManifest, blobs: Mapping[str, bytes], what: str) -> bytes:
    """Return the ``.whim`` that an artifact holds. Its signature is NOT verified here.

    Args:
        manifest: from `read`.
        blobs: by digest; each with the digest that it is called by.
        what: the artifact's name in messages.

    Raises:
        TrustError: what its files make is not what was published.
    """
    files = {layer.annotations.get(FILE_PATH, ""): blobs[layer.digest] for layer in manifest.layers}
    data = _whole(files)
    archive.Archive(io.BytesIO(data))  # names of files come from outside
    if hashlib.sha256(data).hexdigest() != manifest.annotations[BUNDLE_DIGEST]:
        raise TrustError(
            f"the files of {what} do not make the bundle that was published",
            hint="publish it again, and look who can write there",
            code="trust.digest",
        )
    return data


def _whole(files: Mapping[str, bytes]) -> bytes:
    out = io.BytesIO()
    archive.write(out, files)
    return out.getvalue()


def _kind(name: str) -> str:
    suffix = "." + name.rpartition(".")[2]
    return _KINDS.get(name) or _SUFFIXES.get(suffix, WEIGHT_CONFIG)


def _digest(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"
