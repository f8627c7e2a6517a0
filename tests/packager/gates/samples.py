"""Small contexts and predictions, made as packing makes them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from whimbrel_packager.frame import Frame
from whimbrel_packager.gates.budgets import Measured
from whimbrel_packager.gates.context import Context
from whimbrel_packager.quality import predictions
from whimbrel_packager.quality.intervals import Resamples

if TYPE_CHECKING:
    from whimbrel_packager.quality.predictions import Predictions

Array = np.ndarray[Any, Any]


def scored(
    rows: int, seed: int = 0, strength: float = 1.0, truth: Array | None = None
) -> Predictions:
    """A two-class model whose scores are logistic in what is true, and noise."""
    rng = np.random.default_rng(seed)
    true = rng.random(rows) < 0.4 if truth is None else truth
    noise = rng.normal(0, 1, rows)
    score = 1 / (1 + np.exp(-(strength * (true * 2 - 1) + noise - 0.3)))
    return predictions.of(
        {"label": (score > 0.5).astype(np.int64), "p": np.stack([1 - score, score], axis=1)},
        {"label": "label", "p": "probabilities"},
        np.where(true, "1", "0").astype(object),
        task="classification",
        classes=("0", "1"),
        positive="1",
    )


def valued(rows: int, seed: int = 0, noise: float = 1.0) -> Predictions:
    rng = np.random.default_rng(seed)
    truth = rng.normal(50, 3, rows)
    return predictions.of(
        {"y": truth + rng.normal(0.2, noise, rows)},
        {"y": "value"},
        truth,
        task="regression",
        classes=(),
        positive=None,
    )


def context(
    columns: dict[str, Array],
    answered: Predictions | None = None,
    **more: Any,  # noqa: ANN401 - fields of the context
) -> Context:
    """A context of some columns; predictions are on the held-out rows, which are all by default."""
    frame = Frame(columns)
    held_out = more.pop("held_out", np.ones(frame.rows, dtype=bool))
    kinds = {"f": "FP32", "O": "BYTES"}
    given: dict[str, Any] = {
        "name": "flights",
        "version": "1.0.0",
        "task": answered.task if answered else "classification",
        "frame": frame,
        "inputs": {n: kinds.get(c.dtype.kind, "INT64") for n, c in columns.items()},
        "labels": None,
        "held_out": held_out,
        "split": not held_out.all(),
        "predictions": answered,
        "resamples": Resamples(int(held_out.sum())),
        "measured": Measured({}, {}, "a machine"),
    }
    return Context(**{**given, **more})


def words(values: Array) -> Array:
    return np.array([*[None if v == "" else str(v) for v in values.tolist()], None], object)[:-1]
