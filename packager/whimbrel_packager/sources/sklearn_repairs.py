"""What is changed in a copy of a scikit-learn model before it is converted, and says the same.

Some repairs are always made, where there is anything to repair: they put right what skl2onnx gets
wrong or refuses, and cost nothing. Others, the *rewrites*, change how the model is computed or fed
and are tried only when the plain conversion failed. All are proven alike.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from whimbrel_core.errors import ConversionError
from whimbrel_packager.sources import booster_steps, sklearn_converters, sklearn_trees
from whimbrel_packager.sources.booster_steps import ZEROS_MISSING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from whimbrel_packager.frame import Frame
    from whimbrel_packager.sources.sklearn_nodes import Step
    from whimbrel_packager.untyped import Estimator

    Array = np.ndarray[Any, Any]

# Rewrites.
FLOAT64 = "float64 inside"
MISSING_WORDS = "a missing word is the empty one"
NUMBERED = "classes by number"
UNICODE = "locale C.UTF-8"
# Repairs.
BRANCHES = "missing branches kept"
SCORES = "scores left out"
INNER = "target transformed back"
_DENSE = "bins dense"
_FLATTEN = "flatten_transform off"
_LOCALE = "locale C"
_TEXTS = ("CountVectorizer", "TfidfVectorizer")


class Prepared(NamedTuple):
    """A copy of a model that is ready to be converted.

    Attributes:
        model: the copy, or what is left of it without an outer transformation of its target.
        applied: names of the repairs that changed anything, in order.
        steps: operators to add to the output; see `sklearn_converters.UFUNCS`.
        classes: the words that stand for numbered classes, or None.
    """

    model: Estimator
    applied: tuple[str, ...]
    steps: tuple[Step, ...]
    classes: tuple[str, ...] | None


def attempts(model: Estimator, frame: Frame) -> tuple[tuple[str, ...], ...]:
    """Return the rewrites that may help a model, by attempt; the first is the plain conversion."""
    found: list[tuple[str, ...]] = [()]
    held = list(sklearn_trees.walk(model))
    kinds = {type(estimator).__name__ for estimator in held}
    words = any(column.dtype == object for column in frame.columns.values())
    if words and any(_meets_missing_words(estimator) for estimator in held):
        found.append((MISSING_WORDS,))
    if any(_lowers(estimator) for estimator in held):
        found.append((UNICODE,))
    if _word_classes(model) is not None and "OneVsOneClassifier" in kinds:
        found.append((NUMBERED,))
    if booster_steps.may_meet_sparse(model):
        found.append((ZEROS_MISSING,))
    # Every rewrite above is a repair of one fault; precision can be short beside it.
    if any(column.dtype != object for column in frame.columns.values()):
        found.extend((*rewrites, FLOAT64) for rewrites in list(found))
    return tuple(found)


def prepare(copied: Estimator, rewrites: tuple[str, ...]) -> Prepared:
    """Change a copy of a model, in place where that can be.

    Raises:
        ConversionError: it holds what is known not to convert.
    """
    _refuse(copied)
    model, steps, applied = _outer(copied)
    if FLOAT64 in rewrites:
        _bound_thresholds(model)
    for estimator in sklearn_trees.walk(model):
        applied.extend(_mend(estimator))
    if ZEROS_MISSING in rewrites:
        booster_steps.mark_sparse(model)
    classes = _word_classes(model) if NUMBERED in rewrites else None
    _count_classes(model, classes)
    if MISSING_WORDS in rewrites:
        for estimator in sklearn_trees.walk(model):
            _empty_for_missing(estimator)
    return Prepared(model, tuple(dict.fromkeys(applied)), steps, classes)


def options(model: Estimator, rewrites: tuple[str, ...]) -> dict[int, dict[str, object]]:
    """Return skl2onnx's options by estimator."""
    found: dict[int, dict[str, object]] = {}
    for estimator in sklearn_trees.walk(model):
        if type(estimator).__name__ in _TEXTS:
            # What a device certainly has; en_US.UTF-8, skl2onnx's own, most have not.
            found[id(estimator)] = {"locale": "C.UTF-8" if UNICODE in rewrites else "C"}
    return found


def remedy(model: Estimator) -> str:
    """Return what to do instead when a model cannot be converted exactly, or ""."""
    for estimator in sklearn_trees.walk(model):
        name = type(estimator).__name__
        if name.startswith("KNeighbors") and estimator.weights == "distance":
            return (
                "use weights='uniform': a weight of one over a tiny distance has no digits left "
                "in float32"
            )
        if name.startswith("KNeighbors") or name == "LocalOutlierFactor":
            return "neighbours at equal distance cannot be told apart; use a tree ensemble instead"
        if getattr(estimator, "method", "") == "isotonic":
            return "use CalibratedClassifierCV(method='sigmoid'), which has no steps"
    return ""


def _outer(model: Estimator) -> tuple[Estimator, tuple[Step, ...], list[str]]:
    """Take off what stands around the last regressor's output: operators to be added instead."""
    piped = bool(getattr(model, "steps", None))
    last = model.steps[-1][1] if piped else model
    name = type(last).__name__
    if name == "TransformedTargetRegressor":
        steps = _back(last.transformer_)
        inner = last.regressor_
        if piped:
            model.steps[-1] = (model.steps[-1][0], inner)
        else:
            model = inner
        further, more, applied = _outer(model)
        return further, (*more, *steps), [*applied, INNER]
    return model, (), []


def _back(transformer: Estimator) -> tuple[Step, ...]:
    """Return the inverse of a target's transformer as operators."""
    name = type(transformer).__name__
    if name == "FunctionTransformer":
        if transformer.inverse_func is None:
            return ()
        steps = sklearn_converters.ufunc_steps(transformer.inverse_func)
        if steps is not None:
            return steps
    elif name == "StandardScaler" and transformer.n_features_in_ == 1:
        scale = () if transformer.scale_ is None else (("Mul", float(transformer.scale_[0])),)
        mean = () if transformer.mean_ is None else (("Add", float(transformer.mean_[0])),)
        return (*scale, *mean)
    elif name == "MinMaxScaler" and transformer.n_features_in_ == 1 and not transformer.clip:
        return (("Sub", float(transformer.min_[0])), ("Div", float(transformer.scale_[0])))
    raise ConversionError(
        f"TransformedTargetRegressor with {name} cannot be converted: its inverse is not known",
        hint=f"use inverse_func= one of numpy's {', '.join(sklearn_converters.UFUNCS)}, or "
        "StandardScaler()",
    )


def _refuse(model: Estimator) -> None:
    for estimator in sklearn_trees.walk(model):
        if type(estimator).__name__ == "OneHotEncoder" and getattr(
            estimator, "infrequent_categories_", None
        ) not in (None, []):
            raise ConversionError(
                "OneHotEncoder puts infrequent categories together, which skl2onnx leaves out",
                hint="leave out min_frequency and max_categories",
            )


def _mend(estimator: Estimator) -> Iterator[str]:
    name = type(estimator).__name__
    if name == "VotingClassifier" and estimator.flatten_transform:
        estimator.flatten_transform = False  # of transform() alone, and a reason to refuse
        yield _FLATTEN
    if name == "KBinsDiscretizer" and estimator.encode == "onehot":
        estimator.encode = "onehot-dense"  # the same columns, stored otherwise
        yield _DENSE
    if name in _TEXTS and _lowers(estimator):
        yield _LOCALE


def _lowers(estimator: Estimator) -> bool:
    return type(estimator).__name__ in _TEXTS and bool(estimator.lowercase)


def _bound_thresholds(model: Estimator) -> None:
    """Make infinite thresholds finite, in place: skl2onnx never returns from them in float64.

    They part missing values from all others, and a forest takes no infinity.
    """
    largest = float(np.finfo(np.float32).max)
    for tree in sklearn_trees.trees_of(model):
        tree.threshold[:] = np.clip(tree.threshold, -largest, largest)


def _count_classes(model: Estimator, words: tuple[str, ...] | None) -> None:
    """Make classes 0, 1, …, in place: some converters know no third kind of class."""
    for estimator in sklearn_trees.walk(model):
        classes = getattr(estimator, "classes_", None)
        if not isinstance(classes, np.ndarray):
            continue
        with contextlib.suppress(AttributeError):  # a pipeline's are its last step's
            if classes.dtype.kind == "b":
                estimator.classes_ = classes.astype(np.int64)
            elif words is not None and tuple(map(str, classes)) == words:
                estimator.classes_ = np.arange(len(classes))


def _word_classes(model: Estimator) -> tuple[str, ...] | None:
    classes = getattr(model, "classes_", None)
    if isinstance(classes, np.ndarray) and classes.dtype.kind in "OU":
        return tuple(map(str, classes))
    return None


def _meets_missing_words(estimator: Estimator) -> bool:
    statistics = getattr(estimator, "statistics_", None)
    if statistics is not None and np.asarray(statistics).dtype.kind in "OU":
        return True
    return any(_has_missing(known) for known in _categories(estimator))


def _categories(estimator: Estimator) -> list[Array]:
    known = getattr(estimator, "categories_", None)
    return [np.asarray(part) for part in known] if isinstance(known, list) else []


def _has_missing(known: Array) -> bool:
    return known.dtype == object and any(not isinstance(word, str) for word in known)


def _empty_for_missing(estimator: Estimator) -> None:
    """Let an encoder or imputer know the missing word as the empty one, in place."""
    statistics = getattr(estimator, "statistics_", None)
    if statistics is not None and np.asarray(statistics).dtype.kind in "OU":
        estimator.missing_values = ""
    if any(_has_missing(known) for known in _categories(estimator)):
        estimator.categories_ = [
            np.array([word if isinstance(word, str) else "" for word in known], dtype=object)
            if _has_missing(known)
            else known
            for known in _categories(estimator)
        ]
