"""Build a baseline from the rows that a model was trained or validated on (build machine)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from whimbrel_core.profile.baseline import Baseline
from whimbrel_core.profile.layout import Kind, Role, Task


@dataclass(frozen=True)
class ColumnSpec:
    """One column of reference data.

    Args:
        name: unique feature name.
        role: "input" or "output".
        tensor: name of the model's input or output tensor.
        column: index into the tensor's flattened trailing dimensions.
        values: (n,) numbers (any numeric or bool dtype; NaN is null) or strings (object, str or
            bytes dtype; None and NaN are null). All columns have the same n.
        unit: physical unit, or None.
        kind: None: decided from the values (see `build`).
    """

    name: str
    role: Role
    tensor: str
    column: int
    values: NDArray[Any]
    unit: str | None = None
    kind: Kind | None = None


def build(
    columns: Sequence[ColumnSpec],
    *,
    task: Task,
    classes: Sequence[str] = (),
    positive: int | None = None,
    score_tensor: str | None = None,
    labels: NDArray[Any] | None = None,
    scores: NDArray[Any] | None = None,
    predicted: NDArray[Any] | None = None,
) -> Baseline:
    """Return the baseline of reference ``columns``.

    Kinds: strings are categorical; at most 64 distinct float32 values are discrete; else numeric.

    Args:
        columns: inputs and outputs of the model on the same n ≥ 1 reference rows.
        task: "classification" or "regression".
        classes: class names by index (classification).
        positive: index of the positive class of a two-class model, or None.
        score_tensor: output tensor of the probabilities; required with ``scores``. None: scores
            are not profiled.
        labels: (m,) true classes of held-out rows, as class names or class indices.
        scores: the model's probabilities on the same rows: (m,) or (m, 1) of the positive class,
            or (m, classes).
        predicted: (m,) predicted classes of the same rows; None: the largest probability.

    Raises:
        ProfileError: no rows, lengths that differ, unknown labels, or beyond the layout's limits.
    """
    raise NotImplementedError
