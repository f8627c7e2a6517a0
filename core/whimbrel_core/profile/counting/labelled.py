"""Counts of predictions whose true labels are known, in the live memory of an accumulator.

Each label is a few 8-byte stores, rows first: killed in between, there are never more scores than
rows.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from whimbrel_core.errors import ProfileError
from whimbrel_core.profile.counts import QualityCounts

if TYPE_CHECKING:
    from whimbrel_core.profile.layout import Layout


class LabelCells:
    """Cells of one layout: wrong, right, scores and confusion; a regression has n and three sums.

    Args:
        layout: of the model.
        memory: 8 · `length` bytes.
        sliced: of a slice, not of all rows.
    """

    def __init__(self, layout: Layout, memory: memoryview, *, sliced: bool = False) -> None:
        self._layout = layout
        self._scores = _scores(layout)
        self._confusion = layout.slice_confusion_size if sliced else layout.confusion_size
        self._counts = memory.cast("Q")
        self._errors = memory[len(memory) - 24 :].cast("d")

    @staticmethod
    def length(layout: Layout, *, sliced: bool = False) -> int:
        """Return the number of 8-byte cells."""
        errors = 2 if not layout.classes else 0
        size = layout.slice_confusion_size if sliced else layout.confusion_size
        return 2 + _scores(layout) + size**2 + errors

    def record(self, score_bin: int | None, predicted: int, actual: int) -> None:
        """Count a classified row whose true class is known. Raises `ProfileError`."""
        layout, counts = self._layout, self._counts
        classes = len(layout.classes)
        if not (0 <= predicted < classes and 0 <= actual < classes) or not (
            score_bin is None or 0 <= score_bin < layout.score_bins
        ):
            raise ProfileError(
                f"no such label: predicted class {predicted}, true class {actual}, score bin "
                f"{score_bin} in a model of {classes} classes",
                code="profile.label",
            )
        right = predicted == actual
        if self._confusion:
            counts[2 + self._scores + predicted * self._confusion + actual] += 1
        else:
            counts[right] += 1
        if score_bin is not None and self._scores:
            claim = actual == layout.positive if layout.binary else right
            counts[2 + 2 * score_bin + claim] += 1

    def record_error(self, predicted: float, actual: float) -> None:
        """Count a regressed row whose true value is known. Raises `ProfileError`."""
        error = predicted - actual
        if self._layout.task != "regression" or not abs(error) < float("inf"):
            raise ProfileError(
                f"predicted {predicted!r} and true {actual!r} are no pair of a regression",
                code="profile.label",
            )
        errors = self._errors
        errors[0] += error
        errors[1] += abs(error)
        errors[2] += error * error
        self._counts[0] += 1

    def counted(self) -> QualityCounts | None:
        """Return the counts so far, or None when no label is known."""
        live = self._counts.tolist()
        if self._layout.task == "regression":
            return QualityCounts(live[0], 0, (), (), *self._errors.tolist()) if live[0] else None
        scores, confusion = live[2 : 2 + self._scores], live[2 + self._scores :]
        if confusion:
            rows, right = sum(confusion), sum(confusion[:: self._confusion + 1])
        else:
            rows, right = sum(live[:2]), live[1]
        return QualityCounts(rows, right, tuple(scores), tuple(confusion)) if rows else None

    def release(self) -> None:
        """Let go of the memory."""
        self._counts.release()
        self._errors.release()


def _scores(layout: Layout) -> int:
    """Return the number of labelled score counts; a regression's labels are sums, not counts."""
    return 2 * layout.score_cells if layout.classes else 0
