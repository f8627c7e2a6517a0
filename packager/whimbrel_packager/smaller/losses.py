"""What a smaller model loses: on labelled rows, or by how it answers otherwise."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from whimbrel_core.errors import GateError, UsageError
from whimbrel_packager.gates import gathering
from whimbrel_packager.quality import metrics

if TYPE_CHECKING:
    from collections.abc import Mapping

    from whimbrel_packager.baseline import Labelled
    from whimbrel_packager.conversion.proving import Proven
    from whimbrel_packager.recipe import Recipe

    Array = np.ndarray[Any, Any]

WITH_LABELS = {"accuracy": 0.01, "auc": 0.005, "mae": 0.02, "rmse": 0.02}
WITHOUT_LABELS = {"disagreement": 0.02, "distance": 0.05}
_RELATIVE = ("mae", "rmse")


def measured(
    before: Proven, after: Proven, labelled: Labelled | None, positive: int | None
) -> dict[str, float]:
    """Return what a smaller model loses against the one before, by metric.

    Args:
        before: the float32 model with its answers.
        after: the smaller one.
        labelled: labels of the reference rows; None when there are none.
        positive: index of the positive class, or None.
    """
    result = before.done.result
    a, b = before.answers.outputs["reference"], after.answers.outputs["reference"]
    lost: dict[str, float] = {}
    if labelled is not None:
        old = metrics.figures(gathering.predicted(a, result, labelled, positive))
        new = metrics.figures(gathering.predicted(b, result, labelled, positive))
        for name in WITH_LABELS:
            if name not in old:
                continue
            if name not in new:
                lost[name] = math.inf
            elif name in _RELATIVE:
                lost[name] = new[name] / old[name] - 1 if old[name] else new[name]
            else:
                lost[name] = old[name] - new[name]
    rows = labelled.held_out if labelled is not None else np.ones(before.frame.rows, dtype=bool)
    for name, role in result.description.roles.items():
        if role == "label":
            lost["disagreement"] = float((a[name][rows] != b[name][rows]).mean())
        elif role in ("probabilities", "value"):
            distance = _distance(a[name][rows], b[name][rows])
            lost["distance"] = max(lost.get("distance", 0.0), distance)
    return lost


def _distance(a: Array, b: Array) -> float:
    """Return the mean distance in units of the spread of ``a``; infinite where a number is lost."""
    x, y = a.astype(np.float64), b.astype(np.float64)
    known = np.isfinite(x)
    if not np.isfinite(y[known]).all():
        return math.inf
    if not known.any():
        return 0.0
    spread = float(x[known].std()) or 1.0
    return float(np.abs(x[known] - y[known]).mean() / spread)


def require(
    recipe: Recipe, lost: Mapping[str, float], may: Mapping[str, float],
    labelled: Labelled | None,
) -> None:  # fmt: skip
    """Refuse a loss beyond what is allowed.

    Raises:
        GateError: names each metric, what it loses and what it may.
    """
    beyond = [name for name, most in may.items() if not lost[name] <= most]
    if beyond:
        shown = ", ".join(f"{n} by {lost[n]:.4g}, allowed {may[n]:g}" for n in beyond)
        rows = "held-out" if labelled is not None and not labelled.held_out.all() else "reference"
        raise GateError(
            f"{recipe.title} as {recipe.optimise.precision} is worse on the {rows} rows than as "
            f"float32: {shown}. Nothing was packed",
            hint='take precision = "float16" or "float32", or allow more with optimise.max_loss if '
            "you can live with it",
            code="gate.loss",
        )


def allowed(
    given: Mapping[str, float], lost: Mapping[str, float], *, labelled: bool
) -> dict[str, float]:
    """Return what may be lost of what was measured: as given, and as usual for the rest.

    Raises:
        UsageError: something is given that was not measured.
    """
    unknown = sorted(set(given) - set(lost))
    if unknown:
        raise UsageError(
            f"optimise.max_loss names {', '.join(unknown)}, which cannot be measured here",
            hint=f"measured are {', '.join(lost)}; most need labels (--label)",
        )
    usual = WITH_LABELS if labelled and set(lost) & set(WITH_LABELS) else WITHOUT_LABELS
    return {**{name: most for name, most in usual.items() if name in lost}, **given}
