"""Two int8 releases of one network, the second fine-tuned from the first: what a delta is for.

A classifier is trained, packed as int8, trained on for a few more steps on newer data at a small
learning rate, and packed again with the scales of the first (`optimise.predecessor`).
"""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import numpy as np

import whimbrel_packager
from whimbrel_packager.recipe import Recipe
from whimbrel_packager.smaller.optimise import Optimise

if TYPE_CHECKING:
    from pathlib import Path

FEATURES, CLASSES = 64, 8


def releases(
    folder: Path, key: Path, *, width: int = 512, steps: int = 10, take_over: bool = True
) -> tuple[Path, Path]:
    """Return the bundles of a network before and after fine-tuning.

    Args:
        folder: for the bundles.
        key: signing key.
        width: of the two hidden layers; the weights are ``width² + 72·width``.
        steps: of fine-tuning, a batch of 200 rows each.
        take_over: whether the second takes over the int8 scales of the first.
    """
    from sklearn.neural_network import MLPClassifier

    rng = np.random.default_rng(5)
    x, y = _rows(rng, 4000, 0.0)
    model = MLPClassifier((width, width), max_iter=8, random_state=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it is not trained to the end
        model.fit(x, y)
    old = _pack(folder, key, (model, x, y), version="1.0.0", predecessor="")
    newer_x, newer_y = _rows(rng, 200 * steps, 0.05)
    model._optimizer.learning_rate_init = 1e-5  # noqa: SLF001 - there is no other way to change it
    for at in range(0, len(newer_x), 200):
        model.partial_fit(newer_x[at : at + 200], newer_y[at : at + 200])
    predecessor = str(old) if take_over else ""
    return old, _pack(folder, key, (model, x, y), version="1.1.0", predecessor=predecessor)


def _rows(
    rng: np.random.Generator, rows: int, drift: float
) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    x = rng.normal(drift, 1, (rows, FEATURES)).astype(np.float32)
    y = (x[:, :CLASSES] + 0.5 * x[:, CLASSES : 2 * CLASSES]).argmax(axis=1)
    return x, y


def _pack(
    folder: Path, key: Path, what: tuple[Any, Any, Any], *, version: str, predecessor: str
) -> Path:
    model, x, y = what
    number = int(version.split(".")[1]) + 1
    recipe = Recipe(
        name="finetuned",
        version=version,
        release=number,
        optimise=Optimise(precision="int8-static", predecessor=predecessor),
    )
    return whimbrel_packager.pack(model, x, y, key=key, out=folder, recipe=recipe).path
