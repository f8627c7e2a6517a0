"""How sure a figure of quality is that a bundle holds, by what the bundle itself says.

Gates record intervals, which are exact. Where none was declared, the calibration table (counts per
score bin on the same held-out rows) still has the standard error of accuracy and AUC.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from whimbrel_core.profile.counts import QualityCounts
from whimbrel_core.profile.quality import estimates as quality

if TYPE_CHECKING:
    from whimbrel_core.bundle.manifest import Manifest
    from whimbrel_core.profile.baseline import Baseline

NOT_QUALITY = frozenset({"rows", "latency_us", "latency_16_us"})
"""Metrics of a manifest that say nothing of how good its answers are."""
Z = 1.96  # of a two-sided interval of 95 %


def interval(manifest: Manifest, baseline: Baseline, name: str) -> tuple[float, float] | None:
    """Return the interval of a figure: the one that a gate recorded, else the calibration's.

    None when neither is known. A gate's is exact; that of the calibration table (95 %) is
    DeLong's over score bins for the AUC, and the binomial one for accuracy.
    """
    for gate in manifest.gates:
        if gate.name == f"quality.{name}" and gate.interval is not None:
            return gate.interval
    error, figure = standard_error(manifest, baseline, name), manifest.metrics.get(name)
    if error is None or figure is None:
        return None
    return max(figure - Z * error, 0.0), min(figure + Z * error, 1.0)


def standard_error(manifest: Manifest, baseline: Baseline, name: str) -> float | None:
    """Return the standard error of accuracy or AUC from the calibration table; None if unknown."""
    calibration = baseline.calibration
    figure = manifest.metrics.get(name)
    if calibration is None or figure is None:
        return None
    rows = sum(calibration.true) + sum(calibration.false)
    if not rows:
        return None
    if name == "accuracy":
        return math.sqrt(max(figure * (1 - figure), 0.0) / rows)
    if name != "auc" or not calibration.binary:
        return None
    scores = [n for pair in zip(calibration.false, calibration.true, strict=True) for n in pair]
    counts = QualityCounts(rows=rows, right=sum(calibration.right), scores=tuple(scores))
    return quality.realised(counts, binary=True).auc_se
