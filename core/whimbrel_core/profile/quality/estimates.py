"""How good the predictions are: expected from scores alone, realised once labels are known.

All of it from counts per score bin b, so that it can be computed for any merge of windows.

Expected (no labels). With n_b rows in bin b and, from the calibration, c_b = P(claim true | b) and
r_b = P(predicted class right | b):

- accuracy = Σ n_b r_b / Σ n_b
- AUC (claim about a positive class): with P_b = n_b c_b and N_b = n_b (1 − c_b),
  AUC = Σ_b P_b (Σ_{a<b} N_a + N_b / 2) / (Σ P_b Σ N_b); two rows of one bin count as a tie, half.

This is confidence-based performance estimation. It holds while the relation of score and truth is
that of the reference (covariate shift), and says nothing about a change of that relation.
c_b and r_b are shrunk with one pseudo-row, so that an empty bin has a value: to the bin's mean
score x_b for c_b, and for r_b to what a calibrated model has, max(x_b, 1 − x_b) or x_b (a confidence).

Regressions have no scores. Their error model has, per leaf of the layout's error tree, how far off
predictions were: MAE = Σ n_b a_b / Σ n_b, RMSE = √(Σ n_b s_b / Σ n_b) (`expected_error`).

Realised (labels joined). The same AUC with counted P_b and N_b; its standard error is DeLong's:
for placements V_b = (Σ_{a<b} N_a + N_b / 2) / ΣN of positives and W_b likewise of negatives,
Var(AUC) = Var(V) / ΣP + Var(W) / ΣN. (DeLong, DeLong, Clarke-Pearson 1988.)
"""

from __future__ import annotations

from itertools import accumulate
from math import sqrt
from typing import TYPE_CHECKING

import msgspec

from whimbrel_core.errors import ProfileError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from whimbrel_core.profile.baseline import Baseline, Calibration
    from whimbrel_core.profile.counts import QualityCounts
    from whimbrel_core.profile.quality.errormodel import ErrorModel
    from whimbrel_core.profile.window import Window


class ExpectedQuality(msgspec.Struct, frozen=True, kw_only=True):
    """Quality that the scores, or kinds of rows, promise. None: no rows, or does not apply.

    Args:
        rows: scored rows.
        accuracy: expected share of right predictions.
        auc: expected area under the ROC curve; of a claim about a positive class.
        mae: expected mean absolute error (regression).
        rmse: expected root mean squared error (regression).
    """

    rows: int
    accuracy: float | None = None
    auc: float | None = None
    mae: float | None = None
    rmse: float | None = None


class RealisedQuality(msgspec.Struct, frozen=True, kw_only=True):
    """Quality against true labels. Fields that do not apply, or have no rows, are None.

    Args:
        n: labelled predictions.
        accuracy: share of right predictions, and its binomial standard error.
        auc: area under the ROC curve from score bins (ties half), and DeLong's standard error.
        positive_rate: share of rows whose claim was true.
        bias: mean error (regression).
        mae: mean absolute error (regression).
        mae_se: standard error of it.
        rmse: root mean squared error (regression).
    """

    n: int
    accuracy: float | None = None
    accuracy_se: float | None = None
    auc: float | None = None
    auc_se: float | None = None
    positive_rate: float | None = None
    bias: float | None = None
    mae: float | None = None
    mae_se: float | None = None
    rmse: float | None = None


def expected(score_cells: tuple[int, ...], calibration: Calibration) -> ExpectedQuality:
    """Return the quality expected of rows with these score counts.

    Raises:
        ProfileError: the counts and the calibration have different numbers of bins.
    """
    bins = len(calibration.true)
    if len(score_cells) != bins:
        raise ProfileError(
            f"{len(score_cells)} score counts do not fit a calibration of {bins} bins",
            code="profile.mismatch",
        )
    rows = sum(score_cells)
    if not rows:
        return ExpectedQuality(rows=0, accuracy=None, auc=None)
    seen = [false + true for false, true in zip(calibration.false, calibration.true, strict=True)]
    means = calibration.means
    hoped = [max(x, 1 - x) for x in means] if calibration.binary else means
    right = [(r + h) / (n + 1) for r, h, n in zip(calibration.right, hoped, seen, strict=True)]
    accuracy = sum(n * r for n, r in zip(score_cells, right, strict=True)) / rows
    if not calibration.binary:
        return ExpectedQuality(rows=rows, accuracy=accuracy, auc=None)
    claim = [(true + x) / (n + 1) for true, x, n in zip(calibration.true, means, seen, strict=True)]
    positives = [n * c for n, c in zip(score_cells, claim, strict=True)]
    negatives = [n * (1 - c) for n, c in zip(score_cells, claim, strict=True)]
    return ExpectedQuality(rows=rows, accuracy=accuracy, auc=_auc(positives, negatives))


def expected_error(counted: Sequence[int], model: ErrorModel) -> ExpectedQuality:
    """Return the quality expected of rows with these counts per leaf of the error tree.

    Args:
        counted: of any merge of windows.
        model: of the baseline.

    Raises:
        ProfileError: the counts and the model have different numbers of leaves.
    """
    if len(counted) != len(model.rows):
        raise ProfileError(
            f"{len(counted)} counts do not fit an error model of {len(model.rows)} leaves",
            code="profile.mismatch",
        )
    rows = sum(counted)
    if not rows:
        return ExpectedQuality(rows=0)
    absolute = sum(n * a for n, a in zip(counted, model.absolute, strict=True))
    squared = sum(n * s for n, s in zip(counted, model.squared, strict=True))
    return ExpectedQuality(rows=rows, mae=absolute / rows, rmse=sqrt(squared / rows))


def expected_of(window: Window, baseline: Baseline) -> ExpectedQuality | None:
    """Return the quality expected of ``window``; None where the baseline promises nothing."""
    if window.score_cells is None:
        return None
    if baseline.calibration is not None:
        return expected(window.score_cells, baseline.calibration)
    if baseline.errors is not None:
        return expected_error(window.score_cells, baseline.errors)
    return None


def realised(counts: QualityCounts, *, binary: bool = True) -> RealisedQuality:
    """Return the quality of labelled predictions.

    Args:
        counts: of any merge of windows.
        binary: whether the score's claim is about a positive class (`Layout.binary`); AUC, Brier
            score and positive rate are of that claim.
    """
    n = counts.rows
    if not n:
        return RealisedQuality(n=0)
    if not counts.scores and not counts.confusion and not counts.right:
        mae, square = counts.absolute / n, counts.squared / n
        return RealisedQuality(
            n=n,
            bias=counts.error / n,
            mae=mae,
            mae_se=sqrt(max(square - mae**2, 0.0) / n),
            rmse=sqrt(square),
        )
    accuracy = counts.right / n
    quality = RealisedQuality(
        n=n, accuracy=accuracy, accuracy_se=sqrt(accuracy * (1 - accuracy) / n)
    )
    false, true = counts.scores[0::2], counts.scores[1::2]
    scored = sum(counts.scores)
    if not scored or not binary:
        return quality
    auc = _auc(true, false)
    return msgspec.structs.replace(
        quality,
        auc=auc,
        auc_se=None if auc is None else _auc_se(true, false, auc),
        positive_rate=sum(true) / scored,
    )


def _placements(row: Sequence[float]) -> list[float]:
    """Return Σ_{a<b} row_a + row_b / 2, per b."""
    return [below - own / 2 for below, own in zip(accumulate(row), row, strict=True)]


def _auc(positives: Sequence[float], negatives: Sequence[float]) -> float | None:
    pairs = sum(positives) * sum(negatives)
    if not pairs:
        return None
    below = _placements(negatives)
    return sum(p * v for p, v in zip(positives, below, strict=True)) / pairs


def _auc_se(positives: Sequence[int], negatives: Sequence[int], auc: float) -> float | None:
    n_pos, n_neg = sum(positives), sum(negatives)
    if min(n_pos, n_neg) < 2:  # noqa: PLR2004 — a variance needs two
        return None
    of_positives = _placements(negatives)
    of_negatives = _placements(positives)
    spread_pos = sum(
        p * (v / n_neg - auc) ** 2 for p, v in zip(positives, of_positives, strict=True)
    )
    spread_neg = sum(
        n * (1 - w / n_pos - auc) ** 2 for n, w in zip(negatives, of_negatives, strict=True)
    )
    return sqrt(spread_pos / (n_pos - 1) / n_pos + spread_neg / (n_neg - 1) / n_neg)
