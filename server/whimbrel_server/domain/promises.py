"""What labels say of a version's quality, held against what its baseline promised."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import msgspec

from whimbrel_core.profile.quality.estimates import expected, realised

if TYPE_CHECKING:
    from whimbrel_core.profile.baseline import Baseline
    from whimbrel_core.profile.counts import QualityCounts

# Beyond doubt: three standard errors below the limit.
SIGMAS = 3.0


class Kept(msgspec.Struct, frozen=True, kw_only=True):
    """Whether a promise is kept.

    Args:
        measure: "AUC" or "accuracy".
        realised: by joined labels.
        se: standard error of it; None where there are too few of a class.
        promised: by the baseline's own scores and calibration.
        n: labels.
    """

    measure: Literal["AUC", "accuracy"]
    realised: float
    se: float | None
    promised: float
    n: int

    def broken(self, max_drop: float) -> bool:
        """Return whether it is below the promise by more than ``max_drop``, beyond doubt."""
        return self.se is not None and self.realised + SIGMAS * self.se < self.promised - max_drop

    def mended(self, max_drop: float) -> bool:
        """Return whether it is back: an alert ends then, not when it merely is in doubt again."""
        return self.realised >= self.promised - max_drop

    def severity(self, max_drop: float) -> Literal["warn", "severe"]:
        """Return how bad a broken promise is."""
        return "severe" if self.promised - self.realised > 2 * max_drop else "warn"

    def figures(self, max_drop: float) -> dict[str, Any]:
        """Return what a verdict says was found."""
        severity = self.severity(max_drop) if self.broken(max_drop) else None
        return {"severity": severity, **msgspec.structs.asdict(self)}


def kept(quality: QualityCounts, baseline: Baseline) -> Kept | None:
    """Return how labels and promise compare; None where nothing was promised, or nothing is known."""
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
