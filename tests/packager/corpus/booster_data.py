"""Small seeded tables for the cases of boosters: everything that splits can meet."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

Array = np.ndarray[Any, Any]
Table = Any  # pandas ships no types
ROWS = 400
NAMES = list("abcde")


def matrix(*, missing: bool = False, wide: type[np.floating[Any]] = np.float32) -> Array:
    """Three columns of normal numbers, one of tenths, one of twelve codes; float32-exact."""
    rng = np.random.default_rng(11)
    made = rng.normal(size=(ROWS, 5)).astype(np.float32)
    made[:, 3] = np.round(made[:, 3], 1)
    made[:, 4] = rng.integers(0, 12, ROWS)
    if missing:
        made[rng.random(made.shape) < 0.15] = np.nan
    return made.astype(wide)


def table(*, missing: bool = False) -> Table:
    """The matrix with names, in float64."""
    return pd.DataFrame(matrix(missing=missing, wide=np.float64), columns=NAMES)


def mixed() -> Table:
    """Numbers, integers, and two columns of pandas categories: words and numbers."""
    rng = np.random.default_rng(12)
    made = table()[["a", "b"]]
    made["count"] = rng.integers(0, 9, ROWS)
    made["word"] = pd.Categorical(rng.choice(["x", "yy", "z"], ROWS))
    made["gate"] = pd.Categorical(rng.choice([3, 5, 9], ROWS))
    made.loc[:20, "word"] = np.nan
    return made


def worded() -> Table:
    """Numbers, many of them zero, and two columns of plain words."""
    rng = np.random.default_rng(13)
    made = table()[["a", "d"]]
    made["rain"] = np.where(rng.random(ROWS) < 0.6, 0.0, rng.gamma(2, 1, ROWS)).astype(np.float32)
    made["word"] = rng.choice(["x", "yy", "z"], ROWS)
    made["town"] = rng.choice(["Ulm", "Hof", "Kiel", "Bonn", "Jena"], ROWS)
    return made


def risk() -> Array:
    """A value that the columns tell, with noise."""
    x = matrix()
    noise = np.random.default_rng(14).normal(size=ROWS) / 4
    return np.asarray(x[:, 0] + x[:, 1] * x[:, 2] + x[:, 4] % 3 + noise, dtype=np.float64)


def two() -> Array:
    """Two classes, 0 and 1."""
    return (risk() > 1).astype(np.int64)


def three() -> Array:
    """Three classes, 0 to 2."""
    return np.digitize(risk(), [0.3, 1.6])


def positive() -> Array:
    """Values above zero."""
    return np.maximum(risk(), 0) + 0.1


def share() -> Array:
    """Values between 0 and 1."""
    return 1 / (1 + np.exp(-risk()))


def words_told() -> Array:
    """Two classes that the words of `mixed` or `worded` tell as much as its numbers."""
    x = mixed()
    told = ((x.a > 0) ^ (x.word == "yy")) | (x.gate.astype(int) == 5)
    return np.asarray(told, dtype=np.int64)
