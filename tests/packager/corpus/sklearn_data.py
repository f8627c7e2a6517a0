"""Small seeded tables for the cases of scikit-learn, and how a case is fitted."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from tests.packager.corpus.case import Given

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Array = np.ndarray[Any, Any]
    Table = Any  # pandas ships no types
    Estimator = Any

ROWS = 300
LETTERS = list("abcd")


def numbers(*, missing: bool = False) -> Table:
    """Four columns of normal numbers, float32-exact, a fifth of them missing or none."""
    rng = np.random.default_rng(3)
    exact = rng.normal(size=(ROWS, 4)).astype(np.float32).astype(np.float64)
    made = pd.DataFrame(exact, columns=LETTERS)
    return made.mask(rng.random(made.shape) < 0.2) if missing else made


def mixed(*, missing: bool = False) -> Table:
    """Numbers, a count, a flag and two columns of words."""
    rng = np.random.default_rng(4)
    made = numbers(missing=missing)
    made["count"] = rng.integers(0, 50, ROWS)
    made["flag"] = rng.random(ROWS) < 0.3
    made["word"] = rng.choice(["x", "yy", "z"], ROWS)
    made["town"] = rng.choice(["Ulm", "Köln", "Bad Urach", "Hof"], ROWS)
    return made


def positive() -> Table:
    """Positive, skewed numbers."""
    exact = np.exp(numbers().to_numpy()).astype(np.float32).astype(np.float64)
    return pd.DataFrame(exact, columns=LETTERS)


def counts() -> Table:
    """Small whole numbers."""
    rng = np.random.default_rng(5)
    return pd.DataFrame(rng.integers(0, 9, (ROWS, 4)), columns=LETTERS)


def texts() -> Table:
    """One column of short sentences."""
    rng = np.random.default_rng(6)
    words = np.array(["late", "early", "rain", "snow", "storm", "clear", "gate", "crew"])
    lines = [" ".join(rng.choice(words, rng.integers(2, 6))) for _ in range(ROWS)]
    return pd.DataFrame({"text": lines})


def two() -> Array:
    """Two classes, True and False."""
    full = numbers()
    noise = np.random.default_rng(7).normal(size=ROWS) / 3
    return np.asarray(full.a + full.b * full.c + noise > 0.3)


def three() -> Array:
    """Three classes, words."""
    a = numbers().a
    return np.asarray(np.where(a > 0.6, "high", np.where(a < -0.6, "low", "mid")), dtype=object)


def value() -> Array:
    """A number to predict."""
    full = numbers()
    noise = np.random.default_rng(8).normal(size=ROWS)
    return np.asarray(full.a * 100 + full.b * full.c * 30 + noise)


def amount() -> Array:
    """A positive number to predict."""
    return np.asarray(np.exp(value() / 150))


def fitted(
    make: Callable[[], Estimator], x: Table, y: Array | None = None, **options: object
) -> Callable[[Path], Given]:
    """Return a case's maker: a new model, fitted."""
    return lambda _folder: Given(make().fit(x, y), x, options)
