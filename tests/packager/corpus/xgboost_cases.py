"""XGBoost: boosters, wrappers, files, and wrappers in scikit-learn's pipelines."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import xgboost as xgb
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import make_column_transformer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from xgboost import XGBClassifier, XGBRegressor, XGBRFClassifier

from tests.packager.corpus import booster_data as data
from tests.packager.corpus.case import Case, Given

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Array = np.ndarray[Any, Any]

SOURCE = "XGBoost"
SMALL: dict[str, Any] = {"n_estimators": 12, "max_depth": 4, "n_jobs": 1}


def fitted(model: Any, x: Any, y: Any, **how: Any) -> Callable[[Path], Given]:  # noqa: ANN401 - of any kind
    """A case's model, fitted when it is asked for."""
    return lambda _folder: Given(model.fit(x, y, **how), x)


def trained(x: Any, y: Any, rounds: int = 8, **parameters: Any) -> Callable[[Path], Given]:  # noqa: ANN401
    """A bare booster."""
    return lambda _folder: Given(xgb.train(parameters, xgb.DMatrix(x, y), rounds), x)


def stopped(kind: type[Any], name: str) -> Callable[[Path], Given]:
    """A file of a model that was stopped early; its best iteration is not its last."""

    def make(folder: Path) -> Given:
        x, y = data.matrix(), np.random.default_rng(1).permutation(data.two())
        model = XGBClassifier(n_estimators=60, learning_rate=0.6, early_stopping_rounds=9)
        model.fit(x[:250], y[:250], eval_set=[(x[250:], y[250:])], verbose=False)
        assert model.best_iteration + 1 < model.get_booster().num_boosted_rounds()
        saved = model if kind is XGBClassifier else model.get_booster()
        saved.save_model(folder / name)
        return Given(folder / name, x, asked=saved)

    return make


def survival(objective: str) -> Callable[[Path], Given]:
    def make(_folder: Path) -> Given:
        rows = xgb.DMatrix(data.matrix(), data.positive())
        if objective == "survival:aft":
            rows.set_float_info("label_lower_bound", data.positive())
            rows.set_float_info("label_upper_bound", data.positive())
        return Given(xgb.train({"objective": objective}, rows, 8), data.matrix())

    return make


def one_hot(*, sparse: bool) -> Any:  # noqa: ANN401 - a pipeline's first step
    encoder = OneHotEncoder(handle_unknown="ignore", sparse_output=sparse)
    return make_column_transformer(
        (encoder, ["word", "town"]), ("passthrough", ["rain"]), sparse_threshold=float(sparse)
    )


def dry_or_wet() -> Array:
    """No rain is like much of it, so that a zero and a small number go different ways."""
    rain = data.worded().rain.to_numpy()
    return np.asarray((rain == 0) | (rain > 2.5), dtype=np.int64)


def foreign_letters() -> Any:  # noqa: ANN401 - a table
    return data.mixed().assign(
        word=pd.Categorical(np.random.default_rng(3).choice(["Ulm", "Köln"], data.ROWS))
    )


def old_binary(folder: Path) -> Given:
    """The head of a file as XGBoost 2.1 writes it with the suffix .deprecated."""
    head = b"binf" + np.float32(0.48).tobytes() + (3).to_bytes(4, "little") + bytes(128)
    path = folder / "model.bin"
    path.write_bytes(head + (15).to_bytes(8, "little") + b"binary:logistic" + bytes(600))
    return Given(path, data.matrix())


def other_json(folder: Path) -> Given:
    path = folder / "model.json"
    path.write_text('{"weights": [1, 2, 3]}')
    return Given(path, data.matrix())


X, GAPS, TABLE = data.matrix(), data.matrix(missing=True), data.table(missing=True)
FILLED = np.where(np.isnan(GAPS), np.float32(-999), GAPS)
TWO, THREE, VALUE = data.two(), data.three(), data.risk()
CATEGORICAL: dict[str, Any] = {"enable_categorical": True, "tree_method": "hist", **SMALL}
CODES = [*["q"] * 4, "c"]

CASES = [
    Case("two classes, missing values", fitted(XGBClassifier(**SMALL), GAPS, TWO)),
    Case("three classes, a table", fitted(XGBClassifier(**SMALL), TABLE, THREE)),
    # Its sum is the base score in every row, which onnxruntime forgets of a target without leaves.
    Case("three classes, one of them never told from the others", fitted(
        XGBClassifier(min_child_weight=8, **SMALL), X, np.where(np.arange(data.ROWS) < 6, 2, TWO))),
    Case("multi:softmax", fitted(XGBClassifier(objective="multi:softmax", **SMALL), X, THREE)),
    Case("a booster of multi:softmax", trained(X, THREE, objective="multi:softmax", num_class=3)),
    Case("vector leaves", fitted(
        XGBClassifier(multi_strategy="multi_output_tree", tree_method="hist", **SMALL), X, THREE)),
    Case("binary:hinge", fitted(XGBClassifier(objective="binary:hinge", **SMALL), X, TWO)),
    Case("base_score 0.9", fitted(XGBClassifier(base_score=0.9, **SMALL), X, TWO)),
    Case("regression", fitted(XGBRegressor(**SMALL), GAPS, VALUE)),
    *(
        Case(name, fitted(XGBRegressor(objective=name, **SMALL), X, data.positive()))
        for name in ("reg:absoluteerror", "reg:gamma", "reg:tweedie", "count:poisson",
                     "reg:squaredlogerror", "reg:pseudohubererror")
    ),
    Case("reg:logistic", fitted(XGBRegressor(objective="reg:logistic", **SMALL), X, data.share())),
    Case("reg:quantileerror", fitted(
        XGBRegressor(objective="reg:quantileerror", quantile_alpha=0.3, **SMALL), X, VALUE)),
    Case("survival:cox", survival("survival:cox")),
    Case("survival:aft", survival("survival:aft")),
    Case("ranking", lambda _folder: Given(
        xgb.XGBRanker(**SMALL).fit(X, THREE, qid=np.arange(data.ROWS) // 10), X)),
    Case("dart", fitted(XGBClassifier(booster="dart", rate_drop=0.3, **SMALL), X, TWO)),
    Case("random forest", fitted(XGBRFClassifier(**SMALL), GAPS, TWO)),
    Case("missing=-999", fitted(XGBClassifier(missing=-999.0, **SMALL), FILLED, TWO)),
    Case("missing=0", fitted(XGBClassifier(missing=0.0, **SMALL), np.nan_to_num(GAPS), TWO)),
    Case("codes as categories", fitted(
        XGBClassifier(feature_types=CODES, **CATEGORICAL), GAPS, THREE)),
    Case("codes as categories, one against all", fitted(
        XGBClassifier(feature_types=CODES, max_cat_to_onehot=99, **CATEGORICAL), X, TWO)),
    Case("pandas categories of words and numbers", fitted(
        XGBClassifier(**CATEGORICAL), data.mixed(), data.words_told())),
    Case("stopped early, the wrapper's file", stopped(XGBClassifier, "model.ubj")),
    Case("stopped early, the booster's file", stopped(xgb.Booster, "model.json")),
    Case("every answer the same", fitted(XGBRegressor(n_estimators=2), X, np.full(data.ROWS, 3.0))),
    Case("pipeline, dense one-hot", fitted(
        make_pipeline(one_hot(sparse=False), XGBClassifier(**SMALL)),
        data.worded(), data.words_told())),
    Case("pipeline, sparse one-hot", fitted(
        make_pipeline(one_hot(sparse=True), XGBClassifier(**SMALL)), data.worded(), dry_or_wet()),
        rewrites=("zeros of a sparse matrix are missing",)),
    Case("pipeline, scaled", fitted(
        make_pipeline(StandardScaler(), XGBClassifier(**SMALL)), data.table(), THREE),
        rewrites=("float64 inside",)),
    Case("calibrated", fitted(CalibratedClassifierCV(XGBClassifier(**SMALL), cv=2), X, TWO)),
    Case("gblinear", fitted(XGBRegressor(booster="gblinear"), X, VALUE),
         "conversion.failed", "gblinear"),
    Case("binary:logitraw", fitted(XGBClassifier(objective="binary:logitraw", **SMALL), X, TWO),
         "conversion.failed", "gives sums for probabilities"),
    Case("three quantiles at once", fitted(
        XGBRegressor(objective="reg:quantileerror", quantile_alpha=[0.1, 0.5, 0.9], **SMALL),
        X, VALUE), "conversion.failed", "predicts 3 values a row at once"),
    Case("categories with an umlaut", fitted(
        XGBClassifier(**CATEGORICAL), foreign_letters(), TWO),
        "conversion.failed", "letters beyond ASCII"),
    Case("one class", fitted(XGBClassifier(n_estimators=2), X, np.zeros(data.ROWS, int)),
         "conversion.failed", "one class 0"),
    Case("a file of the old binary format", old_binary, "usage.format", "old binary format"),
    Case("JSON that is no model", other_json, "usage.format", "no model of XGBoost or CatBoost"),
]  # fmt: skip


def ask(model: Any, rows: Any) -> dict[str, Any]:  # noqa: ANN401 - of any kind
    """Return the model's own answers."""
    if isinstance(model, xgb.Booster):
        return _of_booster(model, rows)
    if not hasattr(model, "predict_proba"):
        return {"value": model.predict(rows)}
    return {"label": model.predict(rows), "probabilities": model.predict_proba(rows)}


def _of_booster(model: xgb.Booster, rows: Any) -> dict[str, Any]:  # noqa: ANN401
    answer = model.predict(xgb.DMatrix(rows))
    if '"multi:softmax"' in model.save_config():
        return {"label": answer}
    if '"binary:logistic"' in model.save_config():
        return {
            "label": (answer > 0.5).astype(int),
            "probabilities": np.stack([1 - answer, answer], axis=1),
        }
    return {"value": answer}
