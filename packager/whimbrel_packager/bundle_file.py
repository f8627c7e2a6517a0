"""The bundle's place on disk: whole or not at all, and never over another bundle."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

from whimbrel_core.bundle import bundle as bundles
from whimbrel_core.errors import BundleError, UsageError
from whimbrel_packager import atomic

if TYPE_CHECKING:
    from pathlib import Path

    from whimbrel_core.signing.keys import Signer


def write(target: Path, bundle: bytes, signer: Signer) -> None:
    """Write the bundle; a different one of the same name and version is never replaced.

    Raises:
        UsageError: one is there; it was not touched.
        BundleError, TrustError: a device would refuse these bytes.
        StorageError: the disk refuses; nothing is left behind.
    """
    # What a device would refuse is found here.
    opened = bundles.open_bundle(io.BytesIO(bundle), [signer.public], what=target.name)
    if opened.manifest.title != target.name.removesuffix(bundles.SUFFIX):
        raise BundleError(f"{target.name} holds {opened.manifest.title}")
    try:
        atomic.write(target, bundle, replace=False)
    except FileExistsError:
        if target.read_bytes() != bundle:
            raise taken(target) from None


def taken(target: Path) -> UsageError:
    """Return the refusal to write over ``target``."""
    return UsageError(
        f"{target} is there already, with other content; it was not touched",
        hint="give a new --version, another --out, or remove that file",
        code="usage.exists",
    )
