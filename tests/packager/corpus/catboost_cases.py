"""CatBoost: classifiers, regressors, rankers, files, its own ONNX, and pipelines."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import catboost
import numpy as np
from catboost import CatBoostClassifier, CatBoostRegressor
from sklearn.compose import make_column_transformer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from tests.packager.corpus import booster_data as data
from tests.packager.corpus.case import Case, Given

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Array = np.ndarray[Any, Any]

SOURCE = "CatBoost"
SMALL: dict[str, Any] = {
    "iterations": 12,
    "depth": 4,
    "verbose": 0,
    "allow_writing_files": False,
    "thread_count": 1,
}


def fitted(model: Any, x: Any, y: Any, **how: Any) -> Callable[[Path], Given]:  # noqa: ANN401 - of any kind
    """A case's model, fitted when it is asked for."""
    return lambda _folder: Given(model.fit(x, y, **how), x)


def in_file(model: Any, x: Any, y: Any, name: str, **how: str) -> Callable[[Path], Given]:  # noqa: ANN401
    """A model's file."""

    def make(folder: Path) -> Given:
        model.fit(x, y).save_model(str(folder / name), **how)
        return Given(folder / name, x, asked=model)

    return make


def with_threshold(_folder: Path) -> Given:
    model = CatBoostClassifier(**SMALL).fit(X, TWO)
    model.set_probability_threshold(0.3)
    return Given(model, X)


def scaled_sums(_folder: Path) -> Given:
    model = CatBoostRegressor(**SMALL).fit(X, VALUE)
    model.set_scale_and_bias(0.5, 20.0)
    return Given(model, X)


def texts() -> Any:  # noqa: ANN401 - a table
    words = np.random.default_rng(9).choice(["rain", "snow", "storm", "clear"], (data.ROWS, 4))
    return data.table()[["a"]].assign(text=[" ".join(row) for row in words])


X, GAPS, TABLE = data.matrix(), data.matrix(missing=True), data.table(missing=True)
TWO, THREE, VALUE = data.two(), data.three(), data.risk()
WORDS = np.array(["low", "mid", "top"])[THREE]

CASES = [
    Case("two classes", fitted(CatBoostClassifier(**SMALL), X, TWO)),
    Case("missing values, least", fitted(CatBoostClassifier(**SMALL), GAPS, TWO)),
    Case("missing values, most", fitted(CatBoostClassifier(nan_mode="Max", **SMALL), GAPS, TWO)),
    Case("three classes, words", fitted(CatBoostClassifier(**SMALL), TABLE, WORDS)),
    Case("boolean classes", fitted(CatBoostClassifier(**SMALL), X, TWO.astype(bool))),
    Case("MultiClassOneVsAll", fitted(
        CatBoostClassifier(loss_function="MultiClassOneVsAll", **SMALL), X, THREE)),
    Case("CrossEntropy", fitted(
        CatBoostClassifier(loss_function="CrossEntropy", **SMALL), X, TWO)),
    Case("another threshold of probability", with_threshold),
    Case("regression, missing values", fitted(CatBoostRegressor(**SMALL), GAPS, VALUE)),
    *(
        Case(name.split(":")[0], fitted(
            CatBoostRegressor(loss_function=name, **SMALL), X, data.positive()))
        for name in ("Poisson", "Tweedie:variance_power=1.5", "MAE", "Quantile:alpha=0.2",
                     "Huber:delta=1", "LogCosh")
    ),
    Case("scale and bias", scaled_sums),
    Case("ranking", lambda _folder: Given(
        catboost.CatBoostRanker(**SMALL).fit(X, THREE, group_id=np.arange(data.ROWS) // 10), X)),
    Case("trees grown by leaf", fitted(
        CatBoostRegressor(grow_policy="Lossguide", **SMALL), GAPS, VALUE)),
    Case("trees grown by depth", fitted(
        CatBoostClassifier(grow_policy="Depthwise", **SMALL), GAPS, THREE)),
    Case("a file in .cbm", in_file(CatBoostClassifier(**SMALL), TABLE, WORDS, "model.cbm")),
    Case("a file in JSON", in_file(
        CatBoostRegressor(loss_function="Poisson", **SMALL), X, data.positive(), "model.json",
        format="json")),
    Case("pipeline, sparse one-hot", fitted(
        make_pipeline(
            make_column_transformer(
                (OneHotEncoder(handle_unknown="ignore"), ["word", "town"]),
                ("passthrough", ["rain"])),
            CatBoostClassifier(**SMALL)),
        data.worded(), data.words_told())),
    Case("pipeline, scaled", fitted(
        make_pipeline(StandardScaler(), CatBoostClassifier(**SMALL)), data.table(), WORDS)),
    Case("words as categories", fitted(
        CatBoostClassifier(cat_features=["word", "town"], **SMALL),
        data.worded(), data.words_told()),
        "conversion.failed", "categories that CatBoost encodes itself ('word', 'town')"),
    Case("texts", fitted(
        CatBoostClassifier(text_features=["text"], **SMALL), texts(), data.words_told()),
        "conversion.failed", "texts ('text')"),
    Case("RMSEWithUncertainty", fitted(
        CatBoostRegressor(loss_function="RMSEWithUncertainty", **SMALL), X, VALUE),
        "conversion.failed", "predicts 2 values a row at once"),
    Case("MultiRMSE", fitted(
        CatBoostRegressor(loss_function="MultiRMSE", **SMALL), X,
        np.stack([VALUE, data.positive()], axis=1)),
        "conversion.failed", "predicts 2 values a row at once"),
]  # fmt: skip


def ask(model: Any, rows: Any) -> dict[str, Any]:  # noqa: ANN401 - of any kind
    """Return the model's own answers."""
    if not hasattr(model, "predict_proba"):
        return {"value": model.predict(rows)}
    label = np.asarray(model.predict(rows)).reshape(-1)
    if label.dtype.kind in "OU" and set(label) <= {"True", "False"}:
        label = (label == "True").astype(int)
    return {"label": label, "probabilities": model.predict_proba(rows)}
