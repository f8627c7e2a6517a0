"""XGBoost: boosters, the scikit-learn wrappers, and its files in JSON and UBJSON.

A file written by a wrapper answers as the wrapper does, up to the best iteration; any other one as
a `Booster`, with all its trees.
"""

from __future__ import annotations

import itertools
import json
import math
from typing import TYPE_CHECKING, Any

import numpy as np

from whimbrel_core.errors import ConversionError
from whimbrel_packager.sources import booster
from whimbrel_packager.sources.booster import Answer, Boosted, BoosterSource
from whimbrel_packager.sources.booster_graph import Link
from whimbrel_packager.sources.forest import Branch, Cut, Forest, Leaf, members

if TYPE_CHECKING:
    from pathlib import Path

    from whimbrel_packager.sources import Options
    from whimbrel_packager.sources.forest import Tree
    from whimbrel_packager.untyped import Estimator

    Array = np.ndarray[Any, Any]

_SIGMOID = ("binary:logistic", "reg:logistic")
_EXP = ("count:poisson", "reg:gamma", "reg:tweedie", "survival:aft", "survival:cox")
_PLAIN = (
    "reg:squarederror", "reg:squaredlogerror", "reg:absoluteerror", "reg:pseudohubererror",
    "reg:quantileerror", "binary:logitraw", "rank:pairwise", "rank:ndcg", "rank:map",
)  # fmt: skip
_SOFTMAX = ("multi:softprob", "multi:softmax")
_CATEGORICAL = 1
_VECTOR = 1


def load(path: Path, options: Options) -> BoosterSource:
    """Open a file in JSON or UBJSON."""
    xgb = booster.package(f"reading {path.name}", "xgboost")
    model = xgb.Booster()
    try:
        # From bytes, which name their format themselves: a suffix may be any.
        content = bytearray(path.read_bytes())
        model.load_model(content)
    except Exception as error:
        raise booster.unreadable(
            path, f"XGBoost {xgb.__version__}", error, "save it again with save_model('model.ubj')"
        ) from error
    wrapper = _kind_of_wrapper(model)
    if wrapper is not None:
        whole = getattr(xgb, wrapper)()
        whole.load_model(content)
        return source(whole, options)
    return source(model, options)


def source(model: Estimator, options: Options) -> BoosterSource:
    """Open a `Booster` or a fitted wrapper."""
    xgb = booster.package("an XGBoost model", "xgboost")
    if isinstance(model, xgb.Booster):
        return BoosterSource(model, read(model), lambda rows: _of_booster(model, rows), options)
    return BoosterSource(model, read(model), booster.wrapped(model), options)


def read(model: Estimator) -> Boosted:
    """Return a model as trees, link and columns.

    Raises:
        ConversionError: an objective or a booster that is not known here.
    """
    xgb = booster.package("an XGBoost model", "xgboost")
    wrapped = not isinstance(model, xgb.Booster)
    name = type(model).__name__
    try:
        inner = model.get_booster() if wrapped else model
    except Exception as error:
        raise ConversionError(f"{name} is not fitted", hint="fit it, save it again") from error
    learner = json.loads(bytes(inner.save_raw("json")))["learner"]
    objective = str(learner["objective"]["name"])
    what = f"{name} ({objective})"
    link = _link(objective, what, classifier=hasattr(model, "predict_proba"))
    boosting = learner["gradient_booster"]
    if boosting["name"] == "gblinear":
        raise ConversionError(
            f"{what} has the booster gblinear, which is a linear model and has no trees",
            hint="fit booster='gbtree', or a linear model of scikit-learn",
        )
    weights = boosting.get("weight_drop")
    trees = boosting["gbtree"]["model"] if "gbtree" in boosting else boosting["model"]
    params = learner["learner_model_param"]
    outputs = max(int(params["num_class"]), int(params["num_target"]), 1)
    classes = _classes(model, objective, outputs)
    if outputs > 1 and not classes:
        raise booster.several(what, outputs)
    forest = Forest(
        trees=tuple(
            _tree(tree, target, 1.0 if weights is None else float(weights[i]))
            for i, (tree, target) in enumerate(
                zip(trees["trees"], trees["tree_info"], strict=True)
            )
            if i < _used(model, trees, wrapped=wrapped)
        ),
        base=_base(params["base_score"], objective, outputs),
        features=int(params["num_feature"]),
    )  # fmt: skip
    absent = getattr(model, "missing", None)
    return Boosted(
        framework="xgboost",
        version=xgb.__version__,
        estimator=what,
        forest=forest,
        link=link,
        classes=classes,
        names=tuple(inner.feature_names or ()),
        words=_words(trees.get("cats") or {}, inner.feature_types or (), what),
        absent=None if absent is None or math.isnan(absent) else float(absent),
        # 3.2 takes an unknown category for the next known one in the order of letters, and means
        # to refuse it: it does refuse those behind the last one.
        strict=True,
    )


def _link(objective: str, what: str, *, classifier: bool) -> Link:
    if objective in _SIGMOID:
        return Link("sigmoid")
    if objective in _SOFTMAX:
        return Link("softmax")
    if objective in _EXP:
        return Link("exp")
    if objective == "binary:hinge":
        return Link("step")
    if classifier and objective == "binary:logitraw":
        raise ConversionError(
            f"{what} gives sums for probabilities", hint="fit with objective='binary:logistic'"
        )
    if objective in _PLAIN:
        return Link("identity")
    raise ConversionError(
        f"{what} has the objective {objective!r}, of which it is not known what its sums mean",
        hint="fit with one of XGBoost's own objectives, binary:logistic for two classes",
    )


def _classes(model: Estimator, objective: str, outputs: int) -> tuple[int, ...]:
    if hasattr(model, "predict_proba"):
        return tuple(int(c) for c in model.classes_)
    if objective in _SOFTMAX:
        return tuple(range(outputs))
    # reg:logistic gives a share, and a bare booster only says what its objective does.
    return (0, 1) if objective in {"binary:logistic", "binary:hinge"} and outputs == 1 else ()


def _used(model: Estimator, trees: dict[str, Any], *, wrapped: bool) -> int:
    """Return how many trees answer: those up to the best iteration, if it was a wrapper's."""
    count = len(trees["trees"])
    if not wrapped:
        return count
    try:
        best = int(model.best_iteration)
    except AttributeError:
        return count
    starts = trees.get("iteration_indptr")
    return int(starts[best + 1]) if starts and best + 1 < len(starts) else count


def _base(text: str, objective: str, outputs: int) -> tuple[float, ...]:
    """Return the base score as sums: files hold it as an answer, and since 3.0 as a list."""
    scores = [float(word) for word in str(text).strip("[]").split(",")]
    if objective in _SIGMOID or objective == "binary:logitraw":
        scores = [-math.log(1 / p - 1) if 0 < p < 1 else 0.0 for p in scores]
    elif objective in _EXP:
        scores = [math.log(p) for p in scores]
    return tuple(scores * outputs if len(scores) == 1 else scores)


def _tree(tree: dict[str, Any], target: int, weight: float) -> Tree:
    categories = dict(zip(tree["categories_nodes"], _sets(tree), strict=True))
    width = int(tree["tree_param"]["size_leaf_vector"] or 1)
    left, right = tree["left_children"], tree["right_children"]
    nodes: Tree = []
    for i, value in enumerate(tree["split_conditions"]):
        if left[i] < 0:
            if width > _VECTOR:
                # The place of a leaf's vector stands where others have their right child.
                start = right[i] * width
                listed = tree["leaf_weights"][start : start + width]
                nodes.append(Leaf(tuple((k, weight * v) for k, v in enumerate(listed))))
            else:
                nodes.append(Leaf(((target, weight * value),)))
            continue
        if tree["split_type"][i] == _CATEGORICAL:
            # Chosen categories go right; what is no category, negative or unknown, goes left.
            cuts, below = members(categories[i], left=False)
        else:
            cuts, below = (Cut(float(np.float32(value)), before=True),), True
        missing = bool(tree["default_left"][i])
        nodes.append(Branch(tree["split_indices"][i], cuts, below, missing, left[i], right[i]))
    return nodes


def _sets(tree: dict[str, Any]) -> list[list[int]]:
    return [
        tree["categories"][start : start + size]
        for start, size in zip(tree["categories_segments"], tree["categories_sizes"], strict=True)
    ]


def _words(
    held: dict[str, Any], types: tuple[str, ...], what: str
) -> dict[int, tuple[booster.Word, ...]]:
    """Return the categories that a model keeps, by column; XGBoost keeps them since 3.1."""
    found: dict[int, tuple[booster.Word, ...]] = {}
    encodings = held.get("enc") or []
    for i, kind in enumerate(types):
        if kind != "c" or i >= len(encodings):
            continue
        values = encodings[i].get("values") or []
        if "offsets" in encodings[i]:
            starts, data = encodings[i]["offsets"], bytes(v & 0xFF for v in values)
            if not data.isascii():
                # It counts letters and cuts bytes, so that the end of such a word is lost.
                raise ConversionError(
                    f"{what} has categories with letters beyond ASCII in column {i}, which XGBoost "
                    "cuts short",
                    hint="name these categories with ASCII letters, or encode the column yourself",
                )
            words = [data[a:b].decode() for a, b in itertools.pairwise(starts)]
        else:
            words = list(values)
        if len(set(words)) != len(words):
            raise ConversionError(
                f"{what} has two equal categories in column {i}", hint="name them differently"
            )
        if words:
            found[i] = tuple(words)
    return found


def _of_booster(model: Estimator, rows: Estimator) -> Answer:
    xgb = booster.package("an XGBoost model", "xgboost")
    objective = json.loads(model.save_config())["learner"]["objective"]["name"]
    frame = hasattr(rows, "dtypes")
    types = None if frame else model.feature_types
    table = xgb.DMatrix(rows, enable_categorical=True, feature_types=types)
    answer = np.asarray(model.predict(table))
    if objective != "multi:softmax":
        return Answer(answer)
    # It answers with the class alone; its sums say how sure it is.
    sums = np.asarray(model.predict(table, output_margin=True), dtype=np.float64)
    powers = np.exp(sums - sums.max(axis=1, keepdims=True))
    return Answer(powers / powers.sum(axis=1, keepdims=True), answer.astype(np.int64))


def _kind_of_wrapper(model: Estimator) -> str | None:
    """Return the class name of the wrapper that wrote a file."""
    stated = model.attr("scikit_learn")
    kind = json.loads(stated).get("_estimator_type") if stated else None
    return {"classifier": "XGBClassifier", "regressor": "XGBRegressor", "ranker": "XGBRanker"}.get(
        str(kind)
    )
