"""Baselines without hypothesis, which a fuzzer's environment lacks: described inputs, a regression."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from whimbrel_core.profile.building.columns import ColumnSpec
from whimbrel_core.profile.building.reference import build
from whimbrel_core.profile.descriptors import Descriptor, Embedding, Image, Text, describer
from whimbrel_core.profile.slices import Slice

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


def delays(seed: int, n: int, *, together: float = 0.0) -> dict[str, NDArray[Any]]:
    """Return the tensors of a regression that is far off where wind and traffic are both strong."""
    rng = np.random.default_rng(seed)
    wind, traffic = rng.random((2, n)).astype(np.float32)
    traffic = np.where(rng.random(n) < together, wind, traffic)
    wind[rng.random(n) < 0.02] = np.nan
    carrier = WORDS[rng.choice(4, n, p=[0.4, 0.3, 0.2, 0.1])]
    return {"wind": wind, "traffic": traffic, "carrier": carrier, "delay": 60 * traffic}


@lru_cache(maxsize=1)
def delay_baseline() -> Baseline:
    """Return the baseline of that regression: 3,000 rows, an error tree, a slice."""
    rows = delays(0, 3000)
    strong = (rows["wind"] > 0.7) & (rows["traffic"] > 0.7)
    noise = np.random.default_rng(9).normal(size=3000)
    return build(
        [
            *(ColumnSpec(n, "input", n, 0, rows[n]) for n in ("wind", "traffic", "carrier")),
            ColumnSpec("delay", "output", "delay", 0, rows["delay"], unit="min"),
        ],
        task="regression",
        labels=rows["delay"] - noise * (2 + 20 * strong + 3 * (rows["carrier"] == "UA")),
        slices=(Slice(name="American", feature="carrier", words=("AA",)),),
    )
