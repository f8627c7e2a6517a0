"""What a drift is expected to cost: the quality that drifted scores promise, beside the reference's.

A drift may be harmless: inputs move to where the model is as good as before. From scores alone,
`whimbrel_core.profile.quality.estimates.expected` tells the quality of drifted windows and of the reference by
the same calibration; here is how far apart they are, and how sure that is.

With shares p_b of the scores (m rows; reference q_b, n rows) and rates c_b from k_b labelled rows
per bin, quality is Q(p, c), and to first order

    Var(Q(p, c) − Q(q, c)) = Var_p / m + Var_q / n + Σ_b (∂Q/∂c_b |p − ∂Q/∂c_b |q)² c_b (1 − c_b) / (k_b + 2)

where Var_p = Σ_b p_b g_b² − (Σ_b p_b g_b)² and g_b = ∂Q/∂p_b. The calibration's own error is in both
and mostly cancels. For accuracy g_b = c_b and ∂Q/∂c_b = p_b. For AUC, with P_b = p_b c_b, N_b =
p_b (1 − c_b), their sums P and N, and placements V_b = (Σ_{a<b} N_a + N_b / 2) / N and
W_b = (Σ_{a>b} P_a + P_b / 2) / P:

    ∂A/∂P_b = (V_b − A) / P     ∂A/∂N_b = (W_b − A) / N
    g_b = c_b ∂A/∂P_b + (1 − c_b) ∂A/∂N_b     ∂A/∂c_b = p_b (∂A/∂P_b − ∂A/∂N_b)

A regression's MAE and RMSE come from its error model in the same way: shares of the error tree's
leaves, with mean |e| and e² per leaf in the place of rates.

Rows are taken as independent; windows that hang together are less sure than this says. And none
of it sees a change of the relation between score and truth: that shows in labels alone.
"""

from __future__ import annotations

from math import sqrt
from typing import TYPE_CHECKING, Literal

import msgspec
import numpy as np

from whimbrel_core.profile.quality.estimates import expected, expected_error

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from whimbrel_core.profile.baseline import Baseline, Calibration
    from whimbrel_core.profile.flat import FlatWindow
    from whimbrel_core.profile.quality.errormodel import ErrorModel

    Floats = NDArray[np.float64]

Measure = Literal["AUC", "accuracy", "MAE", "RMSE"]
Reading = Literal["harmless", "costly", "better", "unclear"]

HARMLESS = 0.01  # a hundredth of AUC or accuracy, or a hundredth of the error, is no loss
_SIGMAS = 2.0
_NO_ERROR = 1e-300
ERRORS = frozenset({"MAE", "RMSE"})
"""Measures of which less is better."""


class Loss(msgspec.Struct, frozen=True, kw_only=True):
    """Expected quality of some windows beside that of the reference.

    Args:
        measure: what is measured.
        reference: expected of the reference rows.
        current: expected of the windows.
        se: standard error of their difference.
        rows: scored rows of the windows.
    """

    measure: Measure
    reference: float
    current: float
    se: float
    rows: int

    @property
    def loss(self) -> float:
        """How much worse it is: a difference of AUC or accuracy, or a share of the error."""
        if self.measure in ERRORS:
            return (self.current - self.reference) / self._scale
        return self.reference - self.current

    @property
    def reading(self) -> Reading:
        """What it says: "unclear" when the rows cannot tell a loss of a hundredth from none."""
        doubt = _SIGMAS * self.se / (self._scale if self.measure in ERRORS else 1.0)
        if self.loss - doubt > HARMLESS:
            return "costly"
        if self.loss + doubt <= HARMLESS:
            return "better" if self.loss + doubt < -HARMLESS else "harmless"
        return "unclear"

    @property
    def _scale(self) -> float:
        return self.reference or 1.0


def cells(window: FlatWindow, baseline: Baseline) -> tuple[int, ...]:
    """Return the counts of ``window`` that its quality is expected from; () where none can be.

    Of scores, or of the leaves of a regression's error tree. They add, as windows do.
    """
    if baseline.calibration is None and baseline.errors is None:
        return ()
    return tuple(window.score_cells or ())


def losses(
    counted: Sequence[int], baseline: Baseline, reference: Sequence[int] | None = None
) -> tuple[Loss, ...]:
    """Return the expected quality of rows with these `cells`, the leading measure first.

    Empty without rows, and where nothing can be expected.

    Args:
        counted: of some windows, or of one slice of them.
        baseline: of their layout.
        reference: the same counts of the reference; None: of all its rows.
    """
    usual = baseline.window.score_cells if reference is None else reference
    if not counted or not usual:
        return ()
    if baseline.calibration is not None:
        return between(counted, usual, baseline.calibration)
    if baseline.errors is not None:
        return between_errors(counted, usual, baseline.errors)
    return ()


def between_errors(
    counted: Sequence[int], reference: Sequence[int], model: ErrorModel
) -> tuple[Loss, ...]:
    """Return the expected error of rows with these counts per leaf beside ``reference``'s."""
    if not sum(counted) or not sum(reference):
        return ()
    now, then = expected_error(counted, model), expected_error(reference, model)
    absolute, squared = np.array(model.absolute), np.array(model.squared)
    shares = [np.array(counts, float) / sum(counts) for counts in (counted, reference)]
    rows = (sum(counted), sum(reference))
    # Var |e| and, taking errors within a leaf as normal, Var e² = 2 s².
    variances = (np.maximum(squared - absolute**2, 0.0), 2 * squared**2)
    found: list[Loss] = []
    values: tuple[tuple[Measure, float | None, float | None], ...] = (
        ("MAE", then.mae, now.mae),
        ("RMSE", then.rmse, now.rmse),
    )
    for (measure, before, current), per_leaf, variance in zip(
        values, (absolute, squared), variances, strict=True
    ):
        if before is None or current is None:
            continue
        total = sum(
            float(p @ per_leaf**2 - (p @ per_leaf) ** 2) / n
            for p, n in zip(shares, rows, strict=True)
        )
        total += float((shares[0] - shares[1]) ** 2 @ (variance / np.array(model.rows, float)))
        # A root's slope is 1 / (2 root).
        slope = 1.0 if measure == "MAE" else 1 / max(before + current, _NO_ERROR)
        found.append(
            Loss(
                measure=measure,
                reference=before,
                current=current,
                se=sqrt(max(total, 0.0)) * slope,
                rows=now.rows,
            )
        )
    return tuple(found)


def between(
    counted: Sequence[int], reference: Sequence[int], calibration: Calibration
) -> tuple[Loss, ...]:
    """Return the expected quality of rows with score counts ``counted`` beside ``reference``'s."""
    if not sum(counted) or not sum(reference):
        return ()
    now = expected(tuple(counted), calibration)
    then = expected(tuple(reference), calibration)
    pairs: tuple[tuple[Measure, float | None, float | None], ...] = (
        ("AUC", then.auc, now.auc),
        ("accuracy", then.accuracy, now.accuracy),
    )
    return tuple(
        Loss(
            measure=measure,
            reference=before,
            current=current,
            se=_se(counted, reference, calibration, measure),
            rows=now.rows,
        )
        for measure, before, current in pairs
        if before is not None and current is not None
    )


def _se(
    counted: Sequence[int], reference: Sequence[int], calibration: Calibration, measure: Measure
) -> float:
    """Return the standard error of the difference of a measure."""
    hits = calibration.true if measure == "AUC" else calibration.right
    seen = np.array(calibration.false, float) + calibration.true
    rates = (np.array(hits, float) + 1) / (seen + 2)
    variances = rates * (1 - rates) / (seen + 2)
    slopes = _auc_slopes if measure == "AUC" else _accuracy_slopes
    total, of_rates = 0.0, []
    for counts in (counted, reference):
        rows = sum(counts)
        shares = np.array(counts, float) / rows
        by_share, by_rate = slopes(shares, rates)
        total += float(shares @ by_share**2 - (shares @ by_share) ** 2) / rows
        of_rates.append(by_rate)
    total += float((of_rates[0] - of_rates[1]) ** 2 @ variances)
    return sqrt(max(total, 0.0))


def _accuracy_slopes(shares: Floats, rates: Floats) -> tuple[Floats, Floats]:
    """Return ∂Q/∂p and ∂Q/∂c of accuracy, each (B,)."""
    return rates, shares


def _auc_slopes(shares: Floats, rates: Floats) -> tuple[Floats, Floats]:
    """Return ∂A/∂p and ∂A/∂c of AUC, each (B,)."""
    positives, negatives = shares * rates, shares * (1 - rates)
    p, n = positives.sum(), negatives.sum()
    below = (np.cumsum(negatives) - negatives / 2) / n
    above = (p - np.cumsum(positives) + positives / 2) / p
    auc = float(positives @ below) / p
    by_positive, by_negative = (below - auc) / p, (above - auc) / n
    return (
        rates * by_positive + (1 - rates) * by_negative,
        shares * (by_positive - by_negative),
    )
