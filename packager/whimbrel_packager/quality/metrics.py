"""Quality figures of predictions, each as a function of sums over rows.

A metric gives every row a few numbers, and is a function of their sums: accuracy is
``Σ right / Σ 1``, R² is a function of ``Σ y``, ``Σ y²`` and ``Σ (ŷ − y)²``. So one matrix product
gives the metric of every bootstrap resample at once, of whole groups of rows too. The area under
the ROC curve is the exception: it is a mean over pairs, and has its variance in closed form
(`whimbrel_packager.quality.intervals.delong`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    from whimbrel_packager.quality.predictions import Predictions

    Array = np.ndarray[Any, Any]

BINS = 15  # of the calibration error
_TINY = np.finfo(np.float64).eps  # a probability of zero is not infinitely wrong


class Metric(NamedTuple):
    """One figure.

    Attributes:
        name: as in the recipe.
        task: of the models that have it.
        better: which way is better.
        needs: what predictions must hold beside the truth.
        rows: predictions of n rows → (n, k) float64.
        finish: sums (…, k) → (…); NaN where the figure is not defined.
        what: in words, for messages.
    """

    name: str
    task: str
    better: Literal["higher", "lower"]
    needs: Literal["predicted", "probabilities", "score", "ranking", "predicted positive"]
    rows: Callable[[Predictions], Array]
    finish: Callable[[Array], Array]
    what: str

    def missing(self, predictions: Predictions) -> str:
        """Return what predictions lack for this figure; "" when they have it."""
        if self.task != predictions.task:
            return f"a {predictions.task} model has no {self.name}"
        if self.needs == "probabilities" and predictions.probabilities is None:
            return f"{self.name} needs probabilities, and the model gives none"
        if self.needs in {"score", "ranking", "predicted positive"} and not predictions.positive:
            return f"{self.name} needs a positive class (data.positive)"
        if self.needs == "score" and predictions.score is None:
            return f"{self.name} needs the probability of the positive class"
        if self.needs == "ranking" and predictions.ranking is None:
            return f"{self.name} needs the probability of the positive class, or a score"
        if self.needs.startswith("predicted") and predictions.predicted is None:
            return f"{self.name} needs a class per row, and the model names none"
        return ""

    def value(self, predictions: Predictions) -> float:
        """Return the figure; NaN when it is not defined on these rows."""
        if self.name == "auc":
            score = predictions.ranking
            return float("nan") if score is None else auc(score, predictions.true)
        return float(self.finish(self.rows(predictions).sum(axis=0)))

    def worse_by(self, a: float, b: float) -> float:
        """Return by how much ``a`` is worse than ``b``; negative when it is better."""
        return b - a if self.better == "higher" else a - b

    def holds(self, value: float, limit: float) -> bool:
        """Return whether a value is on the good side of a limit; NaN never is."""
        return value >= limit if self.better == "higher" else value <= limit

    @property
    def rule(self) -> Literal["at least", "at most"]:
        """How a limit of this figure is meant."""
        return "at least" if self.better == "higher" else "at most"


def auc(score: Array, true: Array) -> float:
    """Return the area under the ROC curve, ties counted half; NaN when one class is missing.

    >>> auc(np.array([.1, .4, .4, .8]), np.array([False, False, True, True]))
    0.875
    """
    _, inverse, counts = np.unique(score, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    rank = (last - (counts - 1) / 2)[inverse]
    yes = int(true.sum())
    no = len(true) - yes
    if not yes or not no:
        return float("nan")
    return float((rank[true].sum() - yes * (yes + 1) / 2) / (yes * no))


def figures(predictions: Predictions) -> dict[str, float]:
    """Return all figures that predictions bear, rounded to what they can bear.

    ``rows`` is the number of rows; ``positive_rate`` the share of the positive class.
    """
    found: dict[str, float] = {"rows": float(predictions.rows)}
    for metric in METRICS.values():
        if metric.name in RECORDED and not metric.missing(predictions):
            found[metric.name] = metric.value(predictions)
    if predictions.ranking is not None:
        found["positive_rate"] = float(predictions.true.mean())
    return {name: float(f"{value:.5g}") for name, value in found.items() if np.isfinite(value)}


def _ones(predictions: Predictions) -> Array:
    return np.ones(predictions.rows)


def _stack(*columns: Any) -> Array:  # noqa: ANN401 - numpy calls a comparison Any
    return np.stack([np.asarray(c, np.float64) for c in columns], axis=1)


def _ratio(above: Array, below: Array) -> Array:
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio: Array = np.where(below > 0, above / below, np.nan)
    return ratio


def _right(predictions: Predictions) -> Array:
    return _stack(predictions.predicted == predictions.truth, _ones(predictions))


def _share(sums: Array) -> Array:
    return _ratio(sums[..., 0], sums[..., 1])


def _per_class(predictions: Predictions) -> Array:
    """Return hits per true class, then rows per true class: (n, 2k)."""
    of = np.array([predictions.truth == name for name in predictions.classes]).T
    right = np.asarray(predictions.predicted == predictions.truth)[:, None]
    return np.concatenate([of & right, of], axis=1).astype(np.float64)


def _mean_recall(sums: Array) -> Array:
    hits, rows = np.split(sums, 2, axis=-1)
    seen = rows > 0
    recall = np.where(seen, hits / np.where(seen, rows, 1), 0)
    mean: Array = recall.sum(axis=-1) / np.maximum(seen.sum(axis=-1), 1)
    return mean


def _confusion(predictions: Predictions) -> Array:
    """Return true positives, false positives, false negatives: (n, 3)."""
    said = np.asarray(predictions.predicted == predictions.positive)
    true = predictions.true
    return _stack(said & true, said & ~true, ~said & true)


def _f1(sums: Array) -> Array:
    both, false_yes, false_no = np.moveaxis(sums, -1, 0)
    return _ratio(2 * both, 2 * both + false_yes + false_no)


def _precision(sums: Array) -> Array:
    return _ratio(sums[..., 0], sums[..., 0] + sums[..., 1])


def _recall(sums: Array) -> Array:
    return _ratio(sums[..., 0], sums[..., 0] + sums[..., 2])


def _selected(predictions: Predictions) -> Array:
    return _stack(predictions.predicted == predictions.positive, _ones(predictions))


def _brier(predictions: Predictions) -> Array:
    return _stack((_known(predictions.score) - predictions.true) ** 2, _ones(predictions))


def _logloss(predictions: Predictions) -> Array:
    probabilities = _known(predictions.probabilities)
    at = {name: i for i, name in enumerate(predictions.classes)}
    index = np.array([at.get(name, -1) for name in predictions.truth.tolist()])
    of_true = np.where(index >= 0, probabilities[np.arange(len(index)), index], 0.0)
    return _stack(-np.log(np.clip(of_true, _TINY, 1.0)), _ones(predictions))


def _calibration(predictions: Predictions) -> Array:
    """Return score and truth in the row's bin, then rows: (n, 2·BINS + 1)."""
    score, true = predictions.score, predictions.true
    if score is None:
        probabilities = _known(predictions.probabilities)
        top = probabilities.argmax(axis=1)
        score = probabilities[np.arange(len(top)), top]
        true = np.array(predictions.classes, object)[top] == predictions.truth
    in_bin = np.minimum((score * BINS).astype(np.int64), BINS - 1)[:, None] == np.arange(BINS)
    columns = [in_bin * score[:, None], in_bin * true[:, None], _ones(predictions)[:, None]]
    return np.concatenate(columns, axis=1)


def _calibration_error(sums: Array) -> Array:
    """Expected calibration error (Guo et al., "On calibration of modern neural networks", 2017)."""
    said, was = sums[..., :BINS], sums[..., BINS : 2 * BINS]
    return _ratio(np.abs(said - was).sum(axis=-1), sums[..., -1])


def _absolute(predictions: Predictions) -> Array:
    return _stack(np.abs(_known(predictions.predicted) - predictions.truth), _ones(predictions))


def _squares(predictions: Predictions) -> Array:
    # About the mean, so that R² does not drown where the values are far from zero.
    y = predictions.truth - predictions.truth.mean()
    error = _known(predictions.predicted) - predictions.truth
    return _stack(error**2, _ones(predictions), y, y**2)


def _rmse(sums: Array) -> Array:
    root: Array = np.sqrt(_share(sums))
    return root


def _r2(sums: Array) -> Array:
    error, rows, y, squared = np.moveaxis(sums, -1, 0)
    return 1 - _ratio(error, squared - _ratio(y**2, rows))


def _known(values: Array | None) -> Array:
    """Return what `Metric.missing` has found to be there."""
    if values is None:
        raise ValueError("the predictions lack what this figure needs: ask `Metric.missing`")
    return values


def _no_sums(_: Any) -> Array:  # noqa: ANN401 - predictions or sums
    raise ValueError("the area under the ROC curve is no function of sums: use `auc`")


_LISTED = (
    Metric("accuracy", "classification", "higher", "predicted", _right, _share, "share of right"),
    Metric("balanced_accuracy", "classification", "higher", "predicted", _per_class, _mean_recall,
           "mean recall of the classes"),
    Metric("auc", "classification", "higher", "ranking", _no_sums, _no_sums, "area under the ROC"),
    Metric("f1", "classification", "higher", "predicted positive", _confusion, _f1, "F1"),
    Metric("precision", "classification", "higher", "predicted positive", _confusion, _precision,
           "share of right among those called positive"),
    Metric("recall", "classification", "higher", "predicted positive", _confusion, _recall,
           "share found of the positive"),
    Metric("brier", "classification", "lower", "score", _brier, _share, "Brier score"),
    Metric("logloss", "classification", "lower", "probabilities", _logloss, _share, "log loss"),
    Metric("calibration_error", "classification", "lower", "probabilities", _calibration,
           _calibration_error, "expected calibration error"),
    Metric("selection_rate", "classification", "higher", "predicted positive", _selected, _share,
           "share called positive"),
    Metric("mae", "regression", "lower", "predicted", _absolute, _share, "mean absolute error"),
    Metric("rmse", "regression", "lower", "predicted", _squares, _rmse, "root mean square error"),
    Metric("r2", "regression", "higher", "predicted", _squares, _r2, "R²"),
)  # fmt: skip
METRICS = {metric.name: metric for metric in _LISTED}
RECORDED = ("accuracy", "auc", "brier", "logloss", "calibration_error", "f1", "mae", "rmse", "r2")
