"""scikit-learn: its estimators, its pipelines, and what tables of pandas may hold."""

from __future__ import annotations

from typing import Any

from sklearn.base import is_classifier, is_outlier_detector

from tests.packager.corpus import sklearn_estimators, sklearn_pipelines

SOURCE = "scikit-learn"
CASES = [*sklearn_estimators.CASES, *sklearn_pipelines.CASES]


def ask(model: Any, rows: Any) -> dict[str, Any]:  # noqa: ANN401 - of any kind
    """Return the model's own answers."""
    if is_outlier_detector(model):
        return {"label": model.predict(rows), "value": model.decision_function(rows)}
    if not is_classifier(model):
        return {"value": model.predict(rows)}
    answers = {"label": model.predict(rows)}
    if hasattr(model, "predict_proba"):
        answers["probabilities"] = model.predict_proba(rows)
    elif hasattr(model, "decision_function"):
        answers["value"] = model.decision_function(rows)
    return answers
