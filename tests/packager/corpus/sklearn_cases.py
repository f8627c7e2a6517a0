"""scikit-learn."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression

from tests.packager.corpus.case import Case, Given

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

SOURCE = "scikit-learn"


def ask(model: Any, rows: Any) -> dict[str, Any]:  # noqa: ANN401
    """Return the model's own answers."""
    if not hasattr(model, "classes_"):
        return {"value": model.predict(rows)}
    answers = {"label": model.predict(rows)}
    if hasattr(model, "predict_proba"):
        answers["probabilities"] = model.predict_proba(rows)
    return answers


def numbers(*, missing: bool = False) -> pd.DataFrame:
    rng = np.random.default_rng(3)
    made = pd.DataFrame(rng.normal(size=(300, 4)), columns=list("abcd"))
    return made.mask(rng.random(made.shape) < 0.2) if missing else made


def two() -> Any:  # noqa: ANN401
    full = numbers()
    return np.asarray(full.a + full.b * full.c > 0.3)


def fitted(make: Callable[[], Any], x: Any, y: Any) -> Callable[[Path], Given]:  # noqa: ANN401
    return lambda _folder: Given(make().fit(x, y), x)


CASES = [
    Case("LogisticRegression", fitted(LogisticRegression, numbers(), two())),
    Case(
        "RandomForestClassifier trained with NaN",
        fitted(
            lambda: RandomForestClassifier(10, max_depth=5, random_state=0),
            numbers(missing=True),
            two(),
        ),
    ),
]
