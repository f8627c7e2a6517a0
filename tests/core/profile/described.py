"""A baseline of pictures, vectors and texts; without hypothesis, which a fuzzer's environment lacks."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from whimbrel_core.profile.building.columns import ColumnSpec
from whimbrel_core.profile.building.reference import build
from whimbrel_core.profile.descriptors import Descriptor, Embedding, Image, Text, describer

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from whimbrel_core.profile.baseline import Baseline

WORDS = np.array(["AA", "DL", "UA", "WN"], object)


@lru_cache(maxsize=1)
def described_baseline() -> Baseline:
    """Return the baseline of 200 rows of pictures, vectors and texts."""
    rng = np.random.default_rng(0)
    centroids = rng.normal(size=(2, 4)).astype("<f4")
    sources: list[tuple[Descriptor, NDArray[Any]]] = [
        (
            Image(tensor="image", shape=(3, 5, 4), layout="NCHW", range=(0, 1)),
            rng.random((200, 3, 5, 4)),
        ),
        (
            Embedding(tensor="vector", size=4, centroids=centroids.tobytes()),
            rng.normal(size=(200, 4)),
        ),
        (Text(tensor="text"), WORDS[rng.integers(0, 4, 200)]),
    ]
    columns = [
        ColumnSpec(f"{one.tensor}.{name}", "input", one.name, i, made[:, i])
        for one, rows in sources
        for made in [describer(one)(rows)]
        for i, name in enumerate(one.columns)
    ]
    return build(columns, task="regression", descriptors=[one for one, _ in sources])
