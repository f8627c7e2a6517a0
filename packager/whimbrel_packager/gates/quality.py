"""Declared quality: figures on the held-out rows against limits."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import msgspec

from whimbrel_packager.gates.outcome import Outcome, between, limit, number, refused
from whimbrel_packager.quality import intervals
from whimbrel_packager.quality.metrics import METRICS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from whimbrel_packager.gates.context import Context

KIND = "quality"


class Quality(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Limits by figure: at least, where more is better; at most, where less is.

    Args:
        judged_by: "estimate" compares the figure itself; "interval" its worse end, so that a model
            passes only when there were rows enough to be sure.
        min_rows: held-out rows without which nothing is said of quality, and the gate fails.
        accuracy: share of rows with the right class.
        balanced_accuracy: mean recall of the classes.
        auc: area under the ROC curve of the positive class.
        f1: of the positive class.
        precision: of the positive class.
        recall: of the positive class.
        brier: mean squared error of the positive class's probability; at most.
        logloss: mean −log of the true class's probability, nats; at most.
        calibration_error: expected calibration error over 15 bins; at most.
        mae: mean absolute error, in the label's unit; at most.
        rmse: root mean square error, in the label's unit; at most.
        r2: share of the variance explained.
    """

    judged_by: Literal["estimate", "interval"] = "estimate"
    min_rows: int = 30
    accuracy: float | None = None
    balanced_accuracy: float | None = None
    auc: float | None = None
    f1: float | None = None
    precision: float | None = None
    recall: float | None = None
    brier: float | None = None
    logloss: float | None = None
    calibration_error: float | None = None
    mae: float | None = None
    rmse: float | None = None
    r2: float | None = None

    @property
    def limits(self) -> dict[str, float]:
        """The declared limits by figure."""
        found = {name: getattr(self, name, None) for name in METRICS}
        return {name: value for name, value in found.items() if value is not None}


def judge(declared: Quality, context: Context) -> Iterator[Outcome]:
    """Yield an outcome per declared limit."""
    predictions = context.predictions
    for name, threshold in declared.limits.items():
        metric, title = METRICS[name], f"quality.{name}"
        if predictions is None:
            yield refused(title, KIND, "there are no labels to measure it with (data.label)")
            continue
        lacking = metric.missing(predictions)
        if lacking:
            yield refused(title, KIND, lacking)
            continue
        if predictions.rows < declared.min_rows:
            yield refused(
                title, KIND, f"{predictions.rows} held-out rows are too few, {declared.min_rows} "
                "are needed", predictions.rows,
            )  # fmt: skip
            continue
        found = intervals.of_metric(metric, predictions, context.resamples)
        outcome = limit(
            title, KIND, found.value, threshold, rule=metric.rule, rows=predictions.rows,
            interval=found.ends, message="",
        )  # fmt: skip
        held = outcome.held
        if declared.judged_by == "interval":
            worse_end = found.low if metric.better == "higher" else found.high
            held = metric.holds(worse_end, threshold)
        yield msgspec.structs.replace(
            outcome,
            held=held,
            message=f"{metric.what} is {number(found.value)}"
            f"{between(found.ends, context.resamples.confidence)}, {metric.rule} "
            f"{number(threshold)} is asked for"
            f"{' of the whole interval' if declared.judged_by == 'interval' else ''}{context.note}",
        )
