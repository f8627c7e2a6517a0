"""Baselines and manifests of the bundles on this device, by digest.

Windows and labels outlive the version that they are of: whoever closes or joins them later finds
its layout here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from whimbrel_core import identity
from whimbrel_core.bundle import bundle as bundles
from whimbrel_core.errors import StorageError
from whimbrel_core.profile.baseline import Baseline
from whimbrel_core.signing.keys import PublicKey

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from whimbrel_core.bundle.manifest import Manifest

_BASELINE = "baseline.bin"


class KnownBundles:
    """Finds what is needed of a bundle, verified, and remembers it.

    Args:
        store: directory of ``<digest>.whim`` files.
        keys: PEM public keys of publishers.
        running: baseline and manifest of the bundles that are loaded.
    """

    def __init__(
        self,
        store: Path,
        keys: Iterable[str],
        running: Mapping[str, tuple[Baseline, Manifest]],
    ) -> None:
        self._store = store
        self._keys = tuple(dict.fromkeys(keys))
        self._known = dict(running)

    def get(self, digest: str) -> tuple[Baseline, Manifest]:
        """Return baseline and manifest of the bundle ``digest``.

        Raises:
            StorageError: it is not in the store any more.
            TrustError: it is signed by no key that is trusted now.
            BundleError, ProfileError: it is damaged.
        """
        if digest not in self._known:
            path = self._store / f"{identity.digest(digest)}.whim"
            try:
                with path.open("rb") as file:
                    keys = [PublicKey.from_pem(pem) for pem in self._keys]
                    bundle = bundles.open_bundle(file, keys, what=path.name)
                    baseline = Baseline.decode(bundle.read(_BASELINE))
                    self._known[digest] = (baseline, bundle.manifest)
            except OSError as error:
                msg = f"bundle {digest[:12]}… is not in the store: {error.strerror}"
                raise StorageError(msg, code="storage.bundle") from error
        return self._known[digest]

    def baseline(self, digest: str) -> Baseline:
        """Return the baseline of the bundle ``digest``; raises as `get` does."""
        return self.get(digest)[0]
