"""LightGBM: boosters, wrappers, files, and wrappers in scikit-learn's pipelines."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import lightgbm as lgb
import numpy as np
import pandas as pd
from lightgbm import LGBMClassifier, LGBMRegressor
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import make_column_transformer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from tests.packager.corpus import booster_data as data
from tests.packager.corpus.case import Case, Given

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Array = np.ndarray[Any, Any]

SOURCE = "LightGBM"
SMALL: dict[str, Any] = {
    "n_estimators": 12,
    "num_leaves": 12,
    "min_child_samples": 5,
    "verbose": -1,
    "n_jobs": 1,
}


def fitted(model: Any, x: Any, y: Any, **how: Any) -> Callable[[Path], Given]:  # noqa: ANN401 - of any kind
    """A case's model, fitted when it is asked for."""
    return lambda _folder: Given(model.fit(x, y, **how), x)


def in_file(folder: Path) -> Given:
    model = LGBMClassifier(**SMALL).fit(data.mixed(), data.words_told())
    model.booster_.save_model(folder / "model.txt")
    return Given(folder / "model.txt", data.mixed(), asked=model)


def stopped(_folder: Path) -> Given:
    x, y = data.matrix(), data.two()
    model = LGBMClassifier(**{**SMALL, "n_estimators": 200})
    model.fit(x[:250], y[:250], eval_set=[(x[250:], y[250:])],
              callbacks=[lgb.early_stopping(3, verbose=False)])  # fmt: skip
    assert model.best_iteration_ < 200
    return Given(model, x)


def dumped(folder: Path) -> Given:
    import json

    model = LGBMClassifier(**SMALL).fit(data.matrix(), data.two())
    (folder / "model.json").write_text(json.dumps(model.booster_.dump_model()))
    return Given(folder / "model.json", data.matrix())


def times() -> Any:  # noqa: ANN401 - a table
    """Seconds since 1970, of which float32 knows one in 128."""
    rng = np.random.default_rng(8)
    return pd.DataFrame({"at": rng.integers(1_600_000_000, 1_600_400_000, data.ROWS), "a": X[:, 0]})


def spaced() -> Any:  # noqa: ANN401 - a table
    return data.table(missing=True).rename(columns={"a": "wind speed", "b": "label"})


X, GAPS = data.matrix(), data.matrix(missing=True)
TWO, THREE, VALUE = data.two(), data.three(), data.risk()
ZEROS = np.nan_to_num(GAPS)
FOREST: dict[str, Any] = {
    "boosting_type": "rf",
    "bagging_freq": 1,
    "bagging_fraction": 0.6,
    **SMALL,
}

CASES = [
    Case("two classes", fitted(LGBMClassifier(**SMALL), X, TWO)),
    Case("two classes, missing values", fitted(LGBMClassifier(**SMALL), GAPS, TWO)),
    Case("three classes, words", fitted(
        LGBMClassifier(**SMALL), data.table(missing=True), np.array(["low", "mid", "top"])[THREE])),
    Case("boolean classes", fitted(LGBMClassifier(**SMALL), X, TWO.astype(bool))),
    Case("multiclassova", fitted(LGBMClassifier(objective="multiclassova", **SMALL), X, THREE)),
    Case("multiclassova of two classes", fitted(
        LGBMClassifier(objective="multiclassova", num_class=2, **SMALL), X, TWO)),
    Case("sigmoid=2", fitted(LGBMClassifier(sigmoid=2.0, **SMALL), X, TWO)),
    Case("regression, missing values", fitted(LGBMRegressor(**SMALL), GAPS, VALUE)),
    *(
        Case(name, fitted(LGBMRegressor(objective=name, **SMALL), X, data.share()))
        for name in ("poisson", "gamma", "tweedie", "huber", "quantile", "regression_l1", "mape",
                     "fair", "cross_entropy", "cross_entropy_lambda")
    ),
    Case("reg_sqrt", fitted(LGBMRegressor(reg_sqrt=True, **SMALL), X, VALUE)),
    Case("ranking", lambda _folder: Given(
        lgb.LGBMRanker(**SMALL).fit(X, THREE, group=[10] * (data.ROWS // 10)), X)),
    Case("random forest", fitted(LGBMClassifier(**FOREST), X, TWO)),
    Case("random forest, regression", fitted(LGBMRegressor(**FOREST), X, VALUE)),
    Case("dart", fitted(LGBMClassifier(boosting_type="dart", **SMALL), X, TWO)),
    Case("zero_as_missing", fitted(LGBMClassifier(zero_as_missing=True, **SMALL), ZEROS, TWO)),
    Case("zero_as_missing, and NaN", fitted(
        LGBMClassifier(zero_as_missing=True, **SMALL), np.where(X > 1, 0, GAPS), TWO)),
    Case("use_missing=False", fitted(LGBMClassifier(use_missing=False, **SMALL), GAPS, TWO)),
    Case("codes as categories", fitted(
        LGBMClassifier(**SMALL), GAPS, TWO, categorical_feature=[4])),
    Case("pandas categories of words and numbers", fitted(
        LGBMClassifier(**SMALL), data.mixed(), data.words_told())),
    Case("the booster's file, with pandas categories", in_file),
    Case("names with spaces, and one like an output", fitted(
        LGBMClassifier(**SMALL), spaced(), TWO)),
    Case("stopped early", stopped),
    Case("seconds since 1970", fitted(
        LGBMClassifier(**{**SMALL, "num_leaves": 31}), times(), (times()["at"] // 700) % 2),
        rewrites=("thresholds in float64",)),
    Case("every answer the same", fitted(
        LGBMRegressor(n_estimators=2, verbose=-1), X, np.full(data.ROWS, 2.0))),
    Case("pipeline, sparse one-hot", fitted(
        make_pipeline(
            make_column_transformer(
                (OneHotEncoder(handle_unknown="ignore"), ["word", "town"]),
                ("passthrough", ["rain"])),
            LGBMClassifier(**SMALL)),
        data.worded(), data.words_told())),
    Case("pipeline, scaled", fitted(
        make_pipeline(StandardScaler(), LGBMClassifier(**SMALL)), data.table(), THREE)),
    Case("calibrated", fitted(CalibratedClassifierCV(LGBMClassifier(**SMALL), cv=2), X, THREE)),
    Case("linear trees", fitted(LGBMRegressor(linear_tree=True, **SMALL), X, VALUE),
         "conversion.failed", "linear trees"),
    Case("a dump in JSON", dumped, "usage.format", "dump_model"),
    Case("a column of words", lambda _folder: Given(
        LGBMClassifier(**SMALL).fit(data.table(), TWO),
        data.table().assign(a=["w"] * data.ROWS)), "input.column", "column 'a' holds words"),
]  # fmt: skip


def ask(model: Any, rows: Any) -> dict[str, Any]:  # noqa: ANN401 - of any kind
    """Return the model's own answers."""
    if not hasattr(model, "predict_proba"):
        return {"value": model.predict(rows)}
    label = np.asarray(model.predict(rows))
    label = label.astype(int) if label.dtype.kind == "b" else label
    return {"label": label, "probabilities": model.predict_proba(rows)}
