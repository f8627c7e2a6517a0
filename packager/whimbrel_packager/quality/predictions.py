"""What a model answered on labelled rows, beside what was true: all that quality is made of.

Classes are names here, so that two models whose class lists are ordered otherwise can be compared
on the same rows.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    Array = np.ndarray[Any, Any]

BINARY = 2


class Predictions(NamedTuple):
    """Answers on n labelled rows.

    Attributes:
        task: "classification" or "regression".
        truth: (n,) object class names, or (n,) float64 values.
        predicted: (n,) object class names or float64 values; None when the model names no class.
        probabilities: (n, k) float64 in the order of ``classes``; None when it gives none.
        classes: class names by index.
        positive: name of the positive class; "" when neither is.
        margin: (n,) float64, the larger the more the positive class is meant, of a model of two
            classes that answers a score instead of probabilities; None for others.
    """

    task: str
    truth: Array
    predicted: Array | None
    probabilities: Array | None = None
    classes: tuple[str, ...] = ()
    positive: str = ""
    margin: Array | None = None

    @property
    def rows(self) -> int:
        """Number of rows."""
        return len(self.truth)

    @property
    def true(self) -> Array:
        """(n,) bool: whether the positive class is true; all false when there is none."""
        return np.asarray(self.truth == self.positive) & bool(self.positive)

    @property
    def score(self) -> Array | None:
        """(n,) float64 probability of the positive class; None when there is none."""
        if self.probabilities is None or self.positive not in self.classes:
            return None
        score: Array = self.probabilities[:, self.classes.index(self.positive)]
        return score

    @property
    def ranking(self) -> Array | None:
        """(n,) float64 that orders rows by how much the positive class is meant, or None."""
        return self.margin if self.score is None else self.score

    def take(self, rows: Array) -> Predictions:
        """Return the rows of an index or mask."""
        return self._replace(
            truth=self.truth[rows],
            predicted=None if self.predicted is None else self.predicted[rows],
            probabilities=None if self.probabilities is None else self.probabilities[rows],
            margin=None if self.margin is None else self.margin[rows],
        )


def of(
    outputs: Mapping[str, Array],
    roles: Mapping[str, str],
    truth: Array,
    *,
    task: str,
    classes: Sequence[str],
    positive: str | None,
) -> Predictions:
    """Return a model's outputs (n rows each) as predictions.

    Args:
        outputs: by name; others than those with a role are passed over.
        roles: "label", "probabilities" or "value" by output name.
        truth: (n,) class names or values.
        task: "classification" or "regression".
        classes: class names by index.
        positive: name of the positive class; None: class 1 of a model of two.
    """
    named = {role: outputs[name] for name, role in roles.items() if name in outputs}
    rows = len(truth)
    if task == "regression":
        value = named["value"].reshape(rows, -1)[:, 0].astype(np.float64)
        return Predictions(task, truth.astype(np.float64), value)
    if positive is None:
        positive = classes[1] if len(classes) == BINARY else ""
    probabilities = named.get("probabilities")
    if probabilities is not None:
        probabilities = probabilities.reshape(rows, -1).astype(np.float64)
        if probabilities.shape[1] == 1 and len(classes) == BINARY:
            # One column is that of the positive class.
            other = 1 - probabilities
            order = [other, probabilities] if positive == classes[1] else [probabilities, other]
            probabilities = np.concatenate(order, axis=1)
        if probabilities.shape[1] != len(classes):
            probabilities = None
    label = named.get("label")
    predicted = None if label is None else class_names(label)
    margin = None
    if "value" in named and len(classes) == BINARY and named["value"].size == rows:
        # As scikit-learn counts it: above zero, the second class is meant.
        margin = named["value"].reshape(rows).astype(np.float64)
        margin = margin if positive == classes[1] else -margin
    return Predictions(
        task, truth.astype(object), predicted, probabilities, tuple(classes), positive, margin
    )


def class_names(values: Array) -> Array:
    """Return a label output as class names, (n,) object."""
    flat = values.reshape(-1)
    return np.array([str(int(v)) if flat.dtype.kind in "iufb" else str(v) for v in flat], object)
