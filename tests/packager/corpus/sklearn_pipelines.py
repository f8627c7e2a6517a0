"""Pipelines of scikit-learn, and the columns that tables have."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from sklearn.compose import TransformedTargetRegressor, make_column_transformer
from sklearn.decomposition import PCA, TruncatedSVD
from sklearn.ensemble import (
    GradientBoostingClassifier,
    HistGradientBoostingClassifier,
    IsolationForest,
    RandomForestClassifier,
)
from sklearn.feature_extraction.text import CountVectorizer, HashingVectorizer, TfidfVectorizer
from sklearn.feature_selection import RFE, SelectFromModel, SelectKBest, VarianceThreshold
from sklearn.impute import KNNImputer, SimpleImputer
from sklearn.linear_model import LinearRegression, LogisticRegression, Ridge
from sklearn.model_selection import GridSearchCV
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline, make_union
from sklearn.preprocessing import (
    Binarizer,
    FunctionTransformer,
    KBinsDiscretizer,
    MaxAbsScaler,
    MinMaxScaler,
    Normalizer,
    OneHotEncoder,
    OrdinalEncoder,
    PolynomialFeatures,
    PowerTransformer,
    QuantileTransformer,
    RobustScaler,
    SplineTransformer,
    StandardScaler,
    TargetEncoder,
)

from tests.packager.corpus.case import Case
from tests.packager.corpus.sklearn_data import (
    LETTERS,
    ROWS,
    amount,
    counts,
    fitted,
    mixed,
    numbers,
    positive,
    texts,
    three,
    two,
    value,
)
from whimbrel_packager.sources.sklearn_repairs import (
    BRANCHES,
    FLOAT64,
    INNER,
    MISSING_WORDS,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from typing import Any

    from tests.packager.corpus.case import Given

X, GAPS, Y, Y3, V = numbers(), numbers(missing=True), two(), three(), value()
TABLE, HOLES = mixed(), mixed(missing=True)
ONE_HOT = (OneHotEncoder(handle_unknown="ignore"), ["word", "town"])
ORDINAL = (OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1), ["word", "town"])


def _then(*steps: Any, x: Any = X, y: Any = Y, last: Any = None) -> Callable[[Path], Given]:  # noqa: ANN401
    end = LogisticRegression(max_iter=500) if last is None else last
    return fitted(lambda: make_pipeline(*steps, end), x, y)


def _forest() -> RandomForestClassifier:
    return RandomForestClassifier(5, max_depth=4, random_state=0)


def _boosting() -> HistGradientBoostingClassifier:
    return HistGradientBoostingClassifier(max_iter=5, random_state=0)


def _double(x: Any) -> Any:  # noqa: ANN401
    return x * 2


STEPS = [
    Case("StandardScaler", _then(StandardScaler())),
    Case("MinMaxScaler, clipped", _then(MinMaxScaler(clip=True))),
    Case("RobustScaler and MaxAbsScaler", _then(RobustScaler(), MaxAbsScaler())),
    Case("Normalizer", _then(Normalizer())),
    Case("SimpleImputer", _then(SimpleImputer(), x=GAPS)),
    Case("SimpleImputer with indicator", _then(SimpleImputer(add_indicator=True), x=GAPS)),
    Case(
        "SimpleImputer, median, then forest",
        _then(SimpleImputer(strategy="median"), x=GAPS, last=_forest()),
        rewrites=(BRANCHES,),
    ),
    Case(
        "KNNImputer",
        _then(KNNImputer(), x=GAPS),
        refused="conversion.runtime",
        says="what skl2onnx made of it does not run",
    ),
    Case("PolynomialFeatures", _then(PolynomialFeatures(3), last=Ridge(), y=V)),
    Case("PCA", _then(StandardScaler(), PCA(2))),
    Case("PCA, whitened", _then(PCA(2, whiten=True), last=Ridge(), y=V)),
    Case("TruncatedSVD", _then(TruncatedSVD(2))),
    Case("SelectKBest", _then(SelectKBest(k=2))),
    Case(
        "SelectFromModel and RFE",
        _then(SelectFromModel(Ridge(), threshold=-np.inf), RFE(Ridge(), n_features_to_select=2)),
    ),
    Case("VarianceThreshold", _then(VarianceThreshold())),
    Case(
        "KBinsDiscretizer, one-hot",
        _then(KBinsDiscretizer(5, quantile_method="averaged_inverted_cdf")),
        rewrites=("bins dense",),
    ),
    Case(
        "KBinsDiscretizer, ordinal",
        _then(KBinsDiscretizer(5, encode="ordinal", quantile_method="averaged_inverted_cdf")),
    ),
    Case("Binarizer", _then(Binarizer(threshold=0.5))),
    Case("PowerTransformer, Yeo-Johnson", _then(PowerTransformer())),
    Case("PowerTransformer, Box-Cox", _then(PowerTransformer(method="box-cox"), x=positive())),
    Case("QuantileTransformer", _then(QuantileTransformer(n_quantiles=50))),
    Case(
        "QuantileTransformer, normal",
        _then(QuantileTransformer(n_quantiles=50, output_distribution="normal")),
        refused="conversion.failed",
        says="output_distribution='normal'",
    ),
    Case(
        "SplineTransformer",
        _then(SplineTransformer(4)),
        refused="conversion.failed",
        says="no converter for SplineTransformer",
    ),
    Case("FunctionTransformer, identity", _then(FunctionTransformer())),
    Case("FunctionTransformer, log1p", _then(FunctionTransformer(np.log1p), x=positive())),
    Case(
        "FunctionTransformer, own function",
        _then(FunctionTransformer(_double)),
        refused="conversion.failed",
        says="FunctionTransformer(_double)",
    ),
    Case("FeatureUnion", _then(make_union(StandardScaler(), PCA(2)))),
    Case(
        "GridSearchCV",
        fitted(lambda: GridSearchCV(LogisticRegression(), {"C": [0.1, 1]}, cv=2), X, Y),
    ),
    Case(
        "TransformedTargetRegressor",
        fitted(
            lambda: TransformedTargetRegressor(
                LinearRegression(), func=np.log, inverse_func=np.exp
            ),
            X,
            amount(),
        ),
        rewrites=(INNER,),
    ),
    Case(
        "StandardScaler, then forest", _then(StandardScaler(), last=_forest()), rewrites=(BRANCHES,)
    ),
    Case(
        "StandardScaler, then histogram boosting",
        _then(StandardScaler(), x=GAPS, last=_boosting()),
    ),
    Case(
        "StandardScaler, then KNN",
        _then(StandardScaler(), last=KNeighborsClassifier(3)),
        rewrites=(FLOAT64,),
    ),
    Case(
        "StandardScaler, then boosting over large offsets",
        _then(
            StandardScaler(),
            x=(X + 1000).astype(np.float32).astype(float),
            last=GradientBoostingClassifier(n_estimators=10, random_state=0),
        ),
        rewrites=(BRANCHES,),
    ),
    Case(
        "PCA, then forest trained with NaN's imputation",
        _then(SimpleImputer(), PCA(3), x=GAPS, last=_forest()),
        rewrites=(BRANCHES,),
    ),
    Case(
        "StandardScaler, then IsolationForest",
        _then(StandardScaler(), y=None, last=IsolationForest(n_estimators=10, random_state=0)),
        rewrites=(BRANCHES,),
    ),
]
WORDS = [
    Case(
        "OneHotEncoder", _then(make_column_transformer(ONE_HOT, remainder="passthrough"), x=TABLE)
    ),
    Case(
        "OneHotEncoder, scaled numbers, rest dropped",
        _then(make_column_transformer(ONE_HOT, (StandardScaler(), LETTERS)), x=TABLE),
    ),
    Case(
        "OneHotEncoder, first dropped",
        _then(
            make_column_transformer(
                (OneHotEncoder(drop="first", handle_unknown="ignore"), ["word"]),
                (StandardScaler(), LETTERS),
            ),
            x=TABLE,
        ),
    ),
    Case(
        "OneHotEncoder, infrequent ones together",
        _then(
            make_column_transformer(
                (
                    OneHotEncoder(min_frequency=90, handle_unknown="infrequent_if_exist"),
                    ["word", "town"],
                )
            ),
            x=TABLE,
        ),
        refused="conversion.failed",
        says="infrequent categories",
    ),
    Case(
        "OneHotEncoder that refuses unseen words",
        _then(
            make_column_transformer((OneHotEncoder(), ["word"]), (StandardScaler(), LETTERS)),
            x=TABLE,
        ),
    ),
    Case(
        "OrdinalEncoder, then histogram boosting",
        _then(make_column_transformer(ORDINAL, remainder="passthrough"), x=HOLES, last=_boosting()),
    ),
    Case(
        "OrdinalEncoder, then boosting by category",
        _then(
            make_column_transformer(ORDINAL, ("passthrough", LETTERS)),
            x=HOLES,
            last=HistGradientBoostingClassifier(max_iter=5, categorical_features=[0, 1]),
        ),
    ),
    Case(
        "OrdinalEncoder that refuses unseen words",
        _then(
            make_column_transformer((OrdinalEncoder(), ["word"]), ("passthrough", LETTERS)),
            x=TABLE,
            last=_forest(),
        ),
        rewrites=(BRANCHES,),
    ),
    Case(
        "TargetEncoder",
        _then(
            make_column_transformer(
                (TargetEncoder(random_state=0), ["word", "town"]), ("passthrough", LETTERS)
            ),
            x=TABLE,
        ),
    ),
    Case(
        "SimpleImputer for words",
        _then(
            make_column_transformer(
                (
                    make_pipeline(
                        SimpleImputer(strategy="most_frequent"),
                        OneHotEncoder(handle_unknown="ignore"),
                    ),
                    ["word"],
                ),
                (StandardScaler(), LETTERS),
            ),
            x=TABLE,
        ),
        rewrites=(MISSING_WORDS,),
    ),
    Case(
        "ColumnTransformer, imputed and scaled",
        _then(
            make_column_transformer(
                (make_pipeline(SimpleImputer(add_indicator=True), StandardScaler()), LETTERS),
                ONE_HOT,
            ),
            x=HOLES,
        ),
    ),
    Case(
        "ColumnTransformer over an array",
        _then(
            make_column_transformer(
                (StandardScaler(), [0, 1]), ("passthrough", [2]), remainder="drop"
            ),
            x=X.to_numpy(),
        ),
    ),
    Case(
        "ColumnTransformer in a ColumnTransformer",
        _then(
            make_column_transformer(
                (
                    make_column_transformer(
                        (StandardScaler(), ["a", "b"]), remainder="passthrough"
                    ),
                    LETTERS,
                ),
                ONE_HOT,
            ),
            x=TABLE,
        ),
    ),
    Case(
        "HistGradientBoostingClassifier over words",
        fitted(
            lambda: HistGradientBoostingClassifier(max_iter=5, categorical_features="from_dtype"),
            TABLE.astype({"word": "category", "town": "category"}),
            Y,
        ),
    ),
    Case(
        "HistGradientBoostingClassifier over words, some missing, three classes",
        fitted(
            lambda: HistGradientBoostingClassifier(max_iter=5, categorical_features="from_dtype"),
            HOLES.assign(word=HOLES.word.mask(HOLES["count"] % 5 == 0)).astype(
                {"word": "category", "town": "category"}
            ),
            Y3,
        ),
    ),
    Case(
        "CountVectorizer",
        _then(make_column_transformer((CountVectorizer(), "text")), x=texts()),
        rewrites=("locale C",),
    ),
    Case(
        "TfidfVectorizer",
        _then(make_column_transformer((TfidfVectorizer(), "text")), x=texts()),
        rewrites=("locale C",),
    ),
    Case(
        "TfidfVectorizer, pairs of words",
        _then(
            make_column_transformer(
                (TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True), "text")
            ),
            x=texts(),
        ),
        rewrites=("locale C",),
    ),
    Case(
        "TfidfVectorizer, characters",
        _then(
            make_column_transformer((TfidfVectorizer(analyzer="char", ngram_range=(2, 3)), "text")),
            x=texts(),
        ),
        rewrites=("locale C",),
    ),
    Case(
        "HashingVectorizer",
        _then(make_column_transformer((HashingVectorizer(n_features=64), "text")), x=texts()),
        refused="conversion.failed",
        says="no converter for HashingVectorizer",
    ),
]
TYPES = [
    Case(
        "whole numbers",
        fitted(lambda: RandomForestClassifier(5, max_depth=4, random_state=0), counts(), Y),
        rewrites=(BRANCHES,),
    ),
    Case("pandas' Int64 without NA", _then(StandardScaler(), x=counts().astype("Int64"))),
    Case(
        "pandas' Int64 with NA",
        _then(SimpleImputer(), x=counts().astype("Int64").mask(counts() > 7)),
    ),
    Case(
        "pandas' category of words",
        _then(
            make_column_transformer(ONE_HOT, (StandardScaler(), LETTERS)),
            x=TABLE.astype({"word": "category", "town": "category"}),
        ),
    ),
    Case(
        "pandas' string",
        _then(
            make_column_transformer(ONE_HOT), x=TABLE.astype({"word": "string", "town": "string"})
        ),
    ),
    Case(
        "booleans alone",
        fitted(lambda: RandomForestClassifier(3, random_state=0), X > 0, Y),
        rewrites=(BRANCHES,),
    ),
    Case("pandas' boolean", _then(x=(X > 0).astype("boolean"))),
    Case("float32 columns", _then(StandardScaler(), x=X.astype(np.float32))),
    Case(
        "float64 columns that float32 cannot hold",
        fitted(
            lambda: GradientBoostingClassifier(n_estimators=10, random_state=0),
            pd.DataFrame(np.random.default_rng(1).normal(size=(ROWS, 4)) + 1e6, columns=LETTERS),
            Y,
        ),
        rewrites=(BRANCHES,),
    ),
    Case(
        "a date",
        _then(
            make_column_transformer(("drop", ["when"]), (StandardScaler(), LETTERS)),
            x=X.assign(when=pd.date_range("2026-01-01", periods=ROWS)),
        ),
        refused="input.data",
        says="'when' is of type datetime64",
    ),
    Case(
        "column names that are numbers",
        fitted(LogisticRegression, X.set_axis([0, 1, 2, 3], axis=1), Y),
    ),
    Case(
        "columns named like tensors",
        fitted(
            LogisticRegression,
            X.set_axis(["label", "probabilities", "variable", "input"], axis=1),
            Y,
        ),
    ),
]
CASES = [*STEPS, *WORDS, *TYPES]
