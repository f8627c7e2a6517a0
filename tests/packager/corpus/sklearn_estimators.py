"""Single estimators of scikit-learn."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from sklearn.calibration import CalibratedClassifierCV
from sklearn.cluster import KMeans
from sklearn.covariance import EllipticEnvelope
from sklearn.cross_decomposition import PLSRegression
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis, QuadraticDiscriminantAnalysis
from sklearn.dummy import DummyClassifier
from sklearn.ensemble import (
    AdaBoostClassifier,
    AdaBoostRegressor,
    BaggingClassifier,
    BaggingRegressor,
    ExtraTreesClassifier,
    ExtraTreesRegressor,
    GradientBoostingClassifier,
    GradientBoostingRegressor,
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    IsolationForest,
    RandomForestClassifier,
    RandomForestRegressor,
    StackingClassifier,
    StackingRegressor,
    VotingClassifier,
    VotingRegressor,
)
from sklearn.gaussian_process import GaussianProcessClassifier, GaussianProcessRegressor
from sklearn.gaussian_process.kernels import RBF, WhiteKernel
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import (
    BayesianRidge,
    ElasticNet,
    GammaRegressor,
    HuberRegressor,
    Lasso,
    LinearRegression,
    LogisticRegression,
    Perceptron,
    PoissonRegressor,
    QuantileRegressor,
    RANSACRegressor,
    Ridge,
    RidgeClassifier,
    SGDClassifier,
    TweedieRegressor,
)
from sklearn.multiclass import OneVsOneClassifier, OneVsRestClassifier
from sklearn.multioutput import MultiOutputClassifier, MultiOutputRegressor
from sklearn.naive_bayes import BernoulliNB, ComplementNB, GaussianNB, MultinomialNB
from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor, LocalOutlierFactor
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.svm import SVC, SVR, LinearSVC, LinearSVR, NuSVC, OneClassSVM
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

from tests.packager.corpus.case import Case
from tests.packager.corpus.misbehaving import Crashes, Eats, Hangs
from tests.packager.corpus.sklearn_data import (
    ROWS,
    amount,
    counts,
    fitted,
    numbers,
    positive,
    three,
    two,
    value,
)
from whimbrel_packager.conversion.child import Limits
from whimbrel_packager.sources.sklearn_repairs import (
    BRANCHES,
    FLOAT64,
    NUMBERED,
    SCORES,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

X, GAPS, Y, Y3, V = numbers(), numbers(missing=True), two(), three(), value()


def _trees(kind: type, **settings: object) -> Callable[[], Any]:
    return lambda: kind(max_depth=5, random_state=0, **settings)


LINEAR = [
    Case("LogisticRegression", fitted(LogisticRegression, X, Y)),
    Case("LogisticRegression, three classes of words", fitted(LogisticRegression, X, Y3)),
    Case("LogisticRegression over an array", fitted(LogisticRegression, X.to_numpy(), Y)),
    Case("RidgeClassifier", fitted(RidgeClassifier, X, Y)),
    Case(
        "SGDClassifier, log loss",
        fitted(lambda: SGDClassifier(loss="log_loss", random_state=0), X, Y3),
    ),
    Case("Perceptron", fitted(Perceptron, X, Y)),
    Case("LinearSVC", fitted(LinearSVC, X, Y3)),
    Case("LinearDiscriminantAnalysis", fitted(LinearDiscriminantAnalysis, X, Y3)),
    Case("QuadraticDiscriminantAnalysis", fitted(QuadraticDiscriminantAnalysis, X, Y)),
    Case("LinearRegression", fitted(LinearRegression, X, V)),
    Case("LinearRegression of three values", fitted(LinearRegression, X, np.c_[V, V + 1, -V])),
    Case("Ridge", fitted(Ridge, X, V)),
    Case("Lasso", fitted(Lasso, X, V)),
    Case("ElasticNet", fitted(ElasticNet, X, V)),
    Case("BayesianRidge", fitted(BayesianRidge, X, V)),
    Case("HuberRegressor", fitted(HuberRegressor, X, V)),
    Case("QuantileRegressor", fitted(lambda: QuantileRegressor(alpha=0.01), X, V)),
    Case("RANSACRegressor", fitted(lambda: RANSACRegressor(random_state=0), X, V)),
    Case("PoissonRegressor", fitted(PoissonRegressor, X, amount())),
    Case("GammaRegressor", fitted(GammaRegressor, X, amount())),
    Case("TweedieRegressor", fitted(lambda: TweedieRegressor(power=1.5), X, amount())),
    Case("LinearSVR", fitted(lambda: LinearSVR(C=10), X, V)),
    Case("PLSRegression", fitted(lambda: PLSRegression(2), X, V)),
    Case(
        "IsotonicRegression",
        fitted(lambda: IsotonicRegression(out_of_bounds="clip"), X[["a"]], V),
        refused="conversion.failed",
        says="no converter for IsotonicRegression",
    ),
]
TREES = [
    Case(
        "DecisionTreeClassifier", fitted(_trees(DecisionTreeClassifier), X, Y), rewrites=(BRANCHES,)
    ),
    Case(
        "DecisionTreeRegressor", fitted(_trees(DecisionTreeRegressor), X, V), rewrites=(BRANCHES,)
    ),
    Case(
        "DecisionTreeRegressor of two values",
        fitted(_trees(DecisionTreeRegressor), X, np.c_[V, -V]),
        rewrites=(BRANCHES,),
    ),
    Case(
        "RandomForestClassifier",
        fitted(_trees(RandomForestClassifier, n_estimators=10), X, Y),
        rewrites=(BRANCHES,),
    ),
    Case(
        "RandomForestClassifier, ties of two trees",
        fitted(lambda: RandomForestClassifier(2, max_depth=None, random_state=0), X, Y),
        rewrites=(BRANCHES,),
    ),
    Case(
        "RandomForestClassifier trained with NaN",
        fitted(_trees(RandomForestClassifier, n_estimators=10), GAPS, Y),
        rewrites=(BRANCHES,),
    ),
    Case(
        "RandomForestRegressor trained with NaN",
        fitted(_trees(RandomForestRegressor, n_estimators=10), GAPS, V),
        rewrites=(BRANCHES,),
    ),
    Case(
        "ExtraTreesClassifier trained with NaN",
        fitted(_trees(ExtraTreesClassifier, n_estimators=10), GAPS, Y3),
        rewrites=(BRANCHES,),
    ),
    Case(
        "ExtraTreesRegressor",
        fitted(_trees(ExtraTreesRegressor, n_estimators=10), X, V),
        rewrites=(BRANCHES,),
    ),
    Case(
        "RandomForestRegressor of two values",
        fitted(_trees(RandomForestRegressor, n_estimators=5), X, np.c_[V, -V]),
        rewrites=(BRANCHES,),
    ),
    Case(
        "GradientBoostingClassifier",
        fitted(_trees(GradientBoostingClassifier, n_estimators=10), X, Y),
        rewrites=(BRANCHES,),
    ),
    Case(
        "GradientBoostingClassifier, three classes",
        fitted(_trees(GradientBoostingClassifier, n_estimators=5), X, Y3),
        rewrites=(BRANCHES,),
    ),
    Case(
        "GradientBoostingRegressor",
        fitted(_trees(GradientBoostingRegressor, n_estimators=10), X, V),
        rewrites=(BRANCHES,),
    ),
    Case(
        "HistGradientBoostingClassifier with NaN",
        fitted(_trees(HistGradientBoostingClassifier, max_iter=10), GAPS, Y),
    ),
    Case(
        "HistGradientBoostingClassifier, three classes",
        fitted(_trees(HistGradientBoostingClassifier, max_iter=5), GAPS, Y3),
    ),
    Case(
        "HistGradientBoostingRegressor over an array",
        fitted(_trees(HistGradientBoostingRegressor, max_iter=10), GAPS.to_numpy(), V),
    ),
    Case(
        "HistGradientBoostingRegressor, Poisson",
        fitted(_trees(HistGradientBoostingRegressor, max_iter=10, loss="poisson"), X, amount()),
    ),
    Case(
        "HistGradientBoostingRegressor, gamma, columns by category",
        fitted(
            _trees(
                HistGradientBoostingRegressor,
                max_iter=10,
                loss="gamma",
                categorical_features=["b", "d"],
            ),
            counts().assign(a=X.a, c=GAPS.c),
            amount(),
        ),
    ),
    Case(
        "HistGradientBoostingClassifier, a column by category",
        fitted(
            _trees(HistGradientBoostingClassifier, max_iter=5, categorical_features=["a"]),
            counts(),
            Y,
        ),
    ),
]
ENSEMBLES = [
    Case(
        "AdaBoostClassifier",
        fitted(lambda: AdaBoostClassifier(n_estimators=5, random_state=0), X, Y),
    ),
    Case(
        "AdaBoostRegressor",
        fitted(lambda: AdaBoostRegressor(n_estimators=5, random_state=0), X, V),
        rewrites=(BRANCHES,),
    ),
    Case(
        "BaggingClassifier",
        fitted(
            lambda: BaggingClassifier(DecisionTreeClassifier(max_depth=4), 4, random_state=0), X, Y
        ),
        rewrites=(BRANCHES,),
    ),
    Case("BaggingRegressor", fitted(lambda: BaggingRegressor(Ridge(), 4, random_state=0), X, V)),
    Case(
        "VotingClassifier, soft",
        fitted(
            lambda: VotingClassifier(
                [("l", LogisticRegression()), ("n", GaussianNB())], voting="soft"
            ),
            X,
            Y3,
        ),
        rewrites=("flatten_transform off",),
    ),
    Case(
        "VotingClassifier, hard",
        fitted(
            lambda: VotingClassifier(
                [
                    ("l", LogisticRegression()),
                    ("n", GaussianNB()),
                    ("t", DecisionTreeClassifier(max_depth=4, random_state=0)),
                ]
            ),
            X,
            Y,
        ),
        rewrites=("flatten_transform off", BRANCHES, SCORES),
    ),
    Case(
        "VotingRegressor",
        fitted(
            lambda: VotingRegressor([("r", Ridge()), ("t", DecisionTreeRegressor(max_depth=4))]),
            X,
            V,
        ),
        rewrites=(BRANCHES,),
    ),
    Case(
        "StackingClassifier",
        fitted(
            lambda: StackingClassifier(
                [
                    ("l", LogisticRegression()),
                    ("t", DecisionTreeClassifier(max_depth=4, random_state=0)),
                ],
                cv=2,
            ),
            X,
            Y,
        ),
        rewrites=(BRANCHES,),
    ),
    Case(
        "StackingRegressor",
        fitted(
            lambda: StackingRegressor(
                [("r", Ridge()), ("t", DecisionTreeRegressor(max_depth=4, random_state=0))], cv=2
            ),
            X,
            V,
        ),
        rewrites=(BRANCHES,),
    ),
    Case(
        "CalibratedClassifierCV, sigmoid over LinearSVC",
        fitted(lambda: CalibratedClassifierCV(LinearSVC(), cv=2), X, Y),
    ),
    Case(
        "CalibratedClassifierCV, isotonic over a forest",
        fitted(
            lambda: CalibratedClassifierCV(
                RandomForestClassifier(5, max_depth=4, random_state=0), method="isotonic", cv=2
            ),
            X,
            Y,
        ),
        rewrites=(BRANCHES,),
    ),
    Case(
        "CalibratedClassifierCV, sigmoid, three classes",
        fitted(lambda: CalibratedClassifierCV(LogisticRegression(), cv=2), X, Y3),
    ),
    Case("OneVsRestClassifier", fitted(lambda: OneVsRestClassifier(LogisticRegression()), X, Y3)),
    Case(
        "OneVsOneClassifier",
        fitted(lambda: OneVsOneClassifier(LogisticRegression()), X, Y3),
        rewrites=(NUMBERED,),
    ),
    Case("MultiOutputRegressor", fitted(lambda: MultiOutputRegressor(Ridge()), X, np.c_[V, -V])),
    Case(
        "MultiOutputClassifier",
        fitted(lambda: MultiOutputClassifier(LogisticRegression()), X, np.c_[Y, ~Y]),
        refused="conversion.failed",
        says="predicts several outputs",
    ),
]
OTHERS = [
    Case("SVC", fitted(SVC, X, Y3)),
    Case("SVC with probabilities", fitted(lambda: SVC(probability=True, random_state=0), X, Y)),
    Case("NuSVC", fitted(NuSVC, X, Y)),
    Case("SVR", fitted(lambda: SVR(C=100), X, V)),
    Case("KNeighborsClassifier", fitted(KNeighborsClassifier, X, Y3)),
    Case(
        "KNeighborsRegressor, by distance",
        fitted(lambda: KNeighborsRegressor(weights="distance"), X, V),
        refused="parity.differs",
        says="does not answer as its source",
    ),
    Case("GaussianNB", fitted(GaussianNB, X, Y3)),
    Case("MultinomialNB over counts", fitted(MultinomialNB, counts(), Y)),
    Case("BernoulliNB", fitted(BernoulliNB, X, Y)),
    Case("ComplementNB", fitted(ComplementNB, positive(), Y3)),
    Case("MLPClassifier", fitted(lambda: MLPClassifier((6,), max_iter=30, random_state=0), X, Y3)),
    Case(
        "MLPRegressor",
        fitted(lambda: MLPRegressor(hidden_layer_sizes=(6,), max_iter=30, random_state=0), X, V),
    ),
    Case(
        "GaussianProcessRegressor",
        fitted(
            lambda: GaussianProcessRegressor(
                RBF() + WhiteKernel(), normalize_y=True, random_state=0
            ),
            X[:80],
            V[:80],
        ),
        rewrites=(FLOAT64,),
    ),
    Case(
        "GaussianProcessClassifier",
        fitted(lambda: GaussianProcessClassifier(RBF()), X[:80], Y[:80]),
        refused="conversion.runtime",
        says="no operator Solve",
    ),
    Case(
        "DummyClassifier",
        fitted(DummyClassifier, X, Y),
        refused="conversion.failed",
        says="no converter for DummyClassifier",
    ),
    Case(
        "one class only",
        fitted(lambda: RandomForestClassifier(3, random_state=0), X, np.ones(ROWS, int)),
    ),
    Case("classes 3 and 7", fitted(LogisticRegression, X, np.where(Y, 7, 3))),
    Case("classes 1.0 and 2.0", fitted(LogisticRegression, X, np.where(Y, 2.0, 1.0))),
    Case(
        "KMeans",
        fitted(lambda: KMeans(2, n_init=1, random_state=0), X),
        refused="conversion.failed",
        says="KMeans is neither",
    ),
]
OUTLIERS = [
    Case(
        "IsolationForest",
        fitted(lambda: IsolationForest(n_estimators=10, random_state=0), X),
        rewrites=(BRANCHES,),
    ),
    Case(
        "IsolationForest with contamination",
        fitted(
            lambda: IsolationForest(n_estimators=10, contamination=0.1, random_state=0),
            X.to_numpy(),
        ),
        rewrites=(BRANCHES,),
    ),
    Case(
        "LocalOutlierFactor, novelty",
        fitted(lambda: LocalOutlierFactor(novelty=True), X),
        rewrites=(FLOAT64,),
    ),
    Case("OneClassSVM", fitted(lambda: OneClassSVM(nu=0.1), X)),
    Case("EllipticEnvelope", fitted(lambda: EllipticEnvelope(random_state=0), X)),
    Case(
        "LocalOutlierFactor without novelty",
        fitted(LocalOutlierFactor, X),
        refused="usage",
        says="novelty=False",
    ),
]
DANGERS = [
    Case(
        "a model that never loads",
        fitted(Hangs, X, Y),
        refused="conversion.timeout",
        says="took longer than 8 s and was stopped",
        isolated=True,
        limits=Limits(timeout_s=8),
    ),
    Case(
        "a model that crashes",
        fitted(Crashes, X, Y),
        refused="conversion.crash",
        says="SIGSEGV",
        isolated=True,
    ),
    Case(
        "a model that takes all memory",
        fitted(Eats, X, Y),
        refused="conversion.memory",
        says="needs more than the 3072 MiB of memory it may take",
        isolated=True,
        limits=Limits(memory_bytes=3 << 30),
    ),
]
CASES = [*LINEAR, *TREES, *ENSEMBLES, *OTHERS, *OUTLIERS, *DANGERS]
