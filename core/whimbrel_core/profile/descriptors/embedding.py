"""Describe embeddings: their norm, and where they lie among centroids of the reference data.

A vector far from all centroids is unlike anything that the model was trained on; a share of the
nearest centroid that grows says which kind of input there is more of. Distances are Euclidean.

Arithmetic is float64, in blocks that stay in the cache, and rounded to float32 at the end: sums
whose order depends on the CPU then agree nearly always, so that a vector is counted in the same
cell on every device.
"""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np

from whimbrel_core.errors import ProfileError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from whimbrel_core.profile.descriptors.declared import Embedding

_BLOCK = 1 << 15  # numbers in float64 at a time
_NOTHING = 1e-12  # of squared lengths: what is left when equal vectors are subtracted


class Describer:
    """Makes the columns of one `Embedding`."""

    def __init__(self, declared: Embedding) -> None:
        self._declared = declared
        centroids = np.frombuffer(declared.centroids, "<f4").reshape(declared.count, -1)
        self._centroids = centroids.astype(np.float64).T.copy()  # (size, k)
        self._squares = (self._centroids**2).sum(axis=0)
        self._step = max(1, _BLOCK // declared.size)

    def __call__(self, tensor: NDArray[Any]) -> NDArray[np.float32]:
        """Return (n, 3 + k) float32 of vectors (n, …); a vector that is not finite is NaN.

        Raises:
            ProfileError: vectors of another length, or of no numbers.
        """
        rows = self._rows(tensor)
        made = np.empty((len(rows), len(self._declared.columns)), np.float32)
        for at in range(0, len(rows), self._step):
            self._describe(rows[at : at + self._step], made[at : at + self._step])
        return made

    def _rows(self, tensor: NDArray[Any]) -> NDArray[Any]:
        declared = self._declared
        if tensor.dtype.kind not in "fiub" or not tensor.ndim:
            raise ProfileError(
                f"tensor {declared.tensor!r} is described as an embedding and holds something else "
                f"({tensor.dtype}, shape {tensor.shape})",
                code="profile.dtype",
            )
        size = prod(tensor.shape[1:])
        if size != declared.size:
            raise ProfileError(
                f"tensor {declared.tensor!r} has {size} numbers a row; its embeddings have "
                f"{declared.size}",
                code="profile.shape",
            )
        return tensor if tensor.ndim == 2 else tensor.reshape(-1, size)  # noqa: PLR2004 — rows

    def _describe(self, rows: NDArray[Any], into: NDArray[np.float32]) -> None:
        vectors = rows.astype(np.float64)
        with np.errstate(over="ignore", invalid="ignore"):
            squares = np.vecdot(vectors, vectors)
            sums = squares[:, np.newaxis] + self._squares
            squared = vectors @ self._centroids
            squared *= -2
            squared += sums
            squared *= squared > _NOTHING * sums
            np.sqrt(squared, out=squared)
            into[:, 0] = np.sqrt(squares)
            into[:, 1] = squared.min(axis=1)
            into[:, 2] = squared.argmin(axis=1)
            into[:, 3:] = squared
            if not np.isfinite(squares).all():
                into[~np.isfinite(squares)] = np.nan
