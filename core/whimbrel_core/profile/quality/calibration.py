"""How scores came true on labelled rows: the table behind label-free quality (build machine)."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from whimbrel_core.errors import ProfileError
from whimbrel_core.profile.baseline import Calibration

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from whimbrel_core.profile.layout import Layout


def calibrate(
    layout: Layout,
    labels: NDArray[Any],
    scores: NDArray[Any],
    predicted: NDArray[Any] | None = None,
) -> Calibration:
    """Return how ``scores`` came true; arguments as for `build`. Raises `ProfileError`."""
    if layout.task != "classification" or layout.score_tensor is None:
        raise ProfileError(
            "scores can be calibrated for a classifier whose score_tensor is given",
            hint="name the output tensor that holds the probabilities",
        )
    probabilities = _probabilities(layout, scores)
    truth = _class_indices(labels, layout, "label")
    chosen = (
        _chosen(layout, probabilities)
        if predicted is None
        else _class_indices(predicted, layout, "prediction")
    )
    if not len(truth) == len(probabilities) == len(chosen):
        raise ProfileError(
            f"{len(truth)} labels, {len(probabilities)} scores and {len(chosen)} predictions "
            "must be equally many"
        )
    right = chosen == truth
    claim = truth == layout.positive if layout.binary else right
    score = _of_claim(layout, probabilities)
    # As `Layout.score_bin`, for all rows at once.
    bin_ = np.array(layout.score_edges, np.float32).searchsorted(score, "left")

    def per_bin(mask: NDArray[np.bool_]) -> tuple[int, ...]:
        return tuple(np.bincount(bin_[mask], minlength=layout.score_bins).tolist())

    return Calibration(
        false=per_bin(~claim),
        true=per_bin(claim),
        right=per_bin(right),
        means=_means(layout, score, bin_),
        binary=layout.binary,
    )


def scores_of(layout: Layout, scores: NDArray[Any]) -> NDArray[np.float32]:
    """Return the score (m,) of each row of ``scores``, as for `build`. Raises `ProfileError`."""
    return _of_claim(layout, _probabilities(layout, scores))


def _of_claim(layout: Layout, probabilities: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return `Layout.score_of` for every row of (m, 1) or (m, classes)."""
    if probabilities.shape[1] == 1:
        return probabilities[:, 0]
    if layout.positive is not None:
        return probabilities[:, layout.positive]
    best: NDArray[np.float32] = probabilities.max(axis=1)
    return best


def _means(
    layout: Layout, score: NDArray[np.float32], bin_: NDArray[np.int64]
) -> tuple[float, ...]:
    """Return the mean score per bin, or a bin's middle where none fell; within 0 … 1."""
    means = []
    for index, (low, high) in enumerate(pairwise([0.0, *layout.score_edges, 1.0])):
        inside = score[bin_ == index].tolist()
        mean = math.fsum(inside) / len(inside) if inside else (low + high) / 2
        means.append(min(max(mean, 0.0), 1.0))
    return tuple(means)


def _probabilities(layout: Layout, scores: NDArray[Any]) -> NDArray[np.float32]:
    """Return ``scores`` as (m, 1) or (m, classes), or refuse them."""
    array = np.asarray(scores, np.float32)
    if array.ndim == 1:
        array = array[:, np.newaxis]
    classes, width = len(layout.classes), array.shape[-1]
    if array.ndim != 2 or not (width == classes or (width == 1 and layout.binary)):  # noqa: PLR2004 — rows by columns
        raise ProfileError(
            f"scores of shape {np.shape(scores)} do not fit {classes} classes"
            f"{'' if layout.binary else ' without a positive class'}"
        )
    if not np.isfinite(array).all():
        raise ProfileError("scores of held-out rows must be finite")
    return array


def _chosen(layout: Layout, probabilities: NDArray[np.float32]) -> NDArray[np.int64]:
    """Return the classes that the largest probability chooses."""
    if probabilities.shape[1] > 1:
        largest: NDArray[np.int64] = probabilities.argmax(axis=1)
        return largest
    positive = layout.positive or 0
    chosen: NDArray[np.int64] = np.where(
        probabilities[:, 0] >= 0.5,  # noqa: PLR2004 — the larger of two
        positive,
        1 - positive,
    )
    return chosen


def _class_indices(given: NDArray[Any], layout: Layout, what: str) -> NDArray[np.int64]:
    """Return class indices for names or indices; a number that is a class's name is a name."""
    names = {name: index for index, name in enumerate(layout.classes)}
    values = np.asarray(given).ravel().tolist()
    as_names = [
        names.get(str(int(v)) if isinstance(v, float) and v.is_integer() else _text(v))
        for v in values
    ]
    if None not in as_names:
        return np.array(as_names, np.int64)
    in_range = range(len(names))
    if all(isinstance(v, (int, float)) and v in in_range for v in values):
        return np.array(values, np.int64)
    unknown = values[as_names.index(None)]
    raise ProfileError(
        f"the {what} {unknown!r} is none of the model's classes: {', '.join(layout.classes)[:200]}"
    )


def _text(value: object) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)
