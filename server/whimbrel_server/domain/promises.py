"""What labels say of a version's quality, held against what its baseline promised.

Of a classifier it is AUC, or accuracy, that may not be lower than promised by more than a limit; of a
regression the mean absolute error, which may not be higher by more than that share of the promised
one. Both need to be *beyond doubt*, by `SIGMAS` standard errors.

The doubt about a classifier's quality is the labels'. A regression's limit is a few per cent of an
error, and the promise itself is a mean over held-out rows, which may be off by as much: its standard
error is part of the doubt. The root mean squared error is told beside, and not judged: how sure it is
hangs on fourth moments, which no counts have.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Final, Literal

import msgspec

from whimbrel_core.drawing.written import count, percent
from whimbrel_core.profile.quality.estimates import expected, expected_of, realised

if TYPE_CHECKING:
    from whimbrel_core.profile.baseline import Baseline
    from whimbrel_core.profile.counts import QualityCounts
    from whimbrel_core.profile.quality.errormodel import ErrorModel

# Beyond doubt: three standard errors below the limit.
SIGMAS = 3.0
ERROR: Final = "MAE"
_LEAST_ROWS = 2  # a variance needs two


class Kept(msgspec.Struct, frozen=True, kw_only=True):
    """Whether a promise is kept.

    Args:
        measure: "AUC" or "accuracy"; of a regression "MAE".
        realised: by joined labels.
        se: standard error of it (of a regression: of how far it is from the promise); None where
            there are too few of a class.
        promised: by the baseline's own scores and calibration, or errors of held-out rows.
        n: labels.
        rmse: of a regression, by the same labels; ``promised_rmse``: by the same held-out rows.
    """

    measure: Literal["AUC", "accuracy", "MAE"]
    realised: float
    se: float | None
    promised: float
    n: int
    rmse: float | None = None
    promised_rmse: float | None = None

    @property
    def shortfall(self) -> float:
        """How much worse it is than promised; of an error as a share of the promised one."""
        if self.measure != ERROR:
            return self.promised - self.realised
        if not self.promised:
            return math.inf if self.realised else 0.0
        return (self.realised - self.promised) / self.promised

    def broken(self, max_drop: float) -> bool:
        """Return whether it is worse than promised by more than ``max_drop``, beyond doubt."""
        if self.se is None:
            return False
        if self.measure == ERROR:
            return self.realised - SIGMAS * self.se > self.promised * (1 + max_drop)
        return self.realised + SIGMAS * self.se < self.promised - max_drop

    def mended(self, max_drop: float) -> bool:
        """Return whether it is back: an alert ends then, not when it merely is in doubt again."""
        if self.measure == ERROR:
            return self.realised <= self.promised * (1 + max_drop)
        return self.realised >= self.promised - max_drop

    def severity(self, max_drop: float) -> Literal["warn", "severe"]:
        """Return how bad a broken promise is."""
        return "severe" if self.shortfall > 2 * max_drop else "warn"

    def figures(self, max_drop: float) -> dict[str, Any]:
        """Return what a verdict says was found."""
        severity = self.severity(max_drop) if self.broken(max_drop) else None
        found = {"severity": severity, **msgspec.structs.asdict(self)}
        if self.measure != ERROR:
            del found["rmse"], found["promised_rmse"]
        return found

    def told(self, of: str) -> str:
        """Return it as a sentence about ``of``, a version.

        >>> Kept(measure="MAE", realised=6.2, se=0.2, promised=5.0, n=900).told("fares 1.0.0")
        'MAE of fares 1.0.0 is 6.2 over 900 labels, 24.0 % more than the 5 that its baseline promised'
        """
        if self.measure == ERROR:
            more = f"{percent(self.shortfall)} more" if self.promised else "more"
            return (
                f"{self.measure} of {of} is {self.realised:.4g} over {count(self.n)} labels, {more} "
                f"than the {self.promised:.4g} that its baseline promised"
            )
        return (
            f"{self.measure} of {of} is {self.realised:.3f} over {self.n} labels; its baseline "
            f"promised {self.promised:.3f}"
        )


def kept(quality: QualityCounts, baseline: Baseline) -> Kept | None:
    """Return how labels and promise compare; None where nothing was promised, or nothing is known."""
    if baseline.layout.task == "regression":
        return _kept_error(quality, baseline)
    if baseline.calibration is None or baseline.window.score_cells is None:
        return None
    now = realised(quality, binary=baseline.layout.binary)
    promised = expected(baseline.window.score_cells, baseline.calibration)
    if now.auc is not None and promised.auc is not None:
        return Kept(measure="AUC", realised=now.auc, se=now.auc_se, promised=promised.auc, n=now.n)
    if now.accuracy is not None and promised.accuracy is not None:
        return Kept(
            measure="accuracy",
            realised=now.accuracy,
            se=now.accuracy_se,
            promised=promised.accuracy,
            n=now.n,
        )
    return None


def _kept_error(quality: QualityCounts, baseline: Baseline) -> Kept | None:
    promised = expected_of(baseline.window, baseline)
    if promised is None or promised.mae is None or baseline.errors is None:
        return None
    now = realised(quality)
    if now.mae is None:
        return None
    own, known = now.mae_se, _variance(baseline.errors)
    se = None
    if own is not None and known is not None and now.n >= _LEAST_ROWS:
        se = math.sqrt(own**2 + known)
    return Kept(
        measure=ERROR,
        realised=now.mae,
        se=se,
        promised=promised.mae,
        n=now.n,
        rmse=now.rmse,
        promised_rmse=promised.rmse,
    )


def _variance(errors: ErrorModel) -> float | None:
    """Return the variance of a promised MAE: of a mean over as many rows as were held out."""
    rows = sum(errors.rows)
    if rows < _LEAST_ROWS:
        return None
    within = (
        n * max(square - mean**2, 0.0)
        for n, mean, square in zip(errors.rows, errors.absolute, errors.squared, strict=True)
    )
    return sum(within) / rows**2
