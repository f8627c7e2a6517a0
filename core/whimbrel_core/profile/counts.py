"""What a window counts: per feature, of the service, and of quality once labels are known.

Every structure here adds: ``merge_…(a, b)`` is associative and commutative, with the all-zero
structure as identity.
"""

from __future__ import annotations

from operator import add
from typing import TYPE_CHECKING

import msgspec

from whimbrel_core.errors import ProfileError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from whimbrel_core.profile.feature import Feature
    from whimbrel_core.profile.layout import Layout

LATENCY_CELLS = 32


class FeatureCounts(msgspec.Struct, frozen=True):
    """Counts and sums of one feature.

    Args:
        cells: finite values per cell of the feature.
        nulls: missing values (NaN, None, absent tensor).
        pos_inf: values above the largest float32.
        neg_inf: values below the smallest float32.
        total: Σ (x − centre) over finite values, in the feature's unit; 0 for categories.
        squares: Σ (x − centre)² over finite values; 0 for categories.
        min: smallest finite value, or None when there is none (or for categories).
        max: largest finite value, likewise.
        repeats: rows whose value is the same as in the row before; missing equals missing.
    """

    cells: tuple[int, ...]
    nulls: int = 0
    pos_inf: int = 0
    neg_inf: int = 0
    total: float = 0.0
    squares: float = 0.0
    min: float | None = None
    max: float | None = None
    repeats: int = 0

    @property
    def finite(self) -> int:
        """Number of finite values (or categories)."""
        return sum(self.cells)

    @property
    def invalid(self) -> int:
        """Number of nulls and infinities."""
        return self.nulls + self.pos_inf + self.neg_inf

    @property
    def rows(self) -> int:
        """Number of rows this feature was counted in."""
        return self.finite + self.invalid

    def mean(self, feature: Feature) -> float | None:
        """Return the mean of the finite values, or None for none of them or for categories."""
        n = self.finite
        return feature.centre + self.total / n if n and feature.ordered else None

    def sd(self, feature: Feature) -> float | None:
        """Return the (population) standard deviation of the finite values, or None."""
        n = self.finite
        if not n or not feature.ordered:
            return None
        return float(max(self.squares / n - (self.total / n) ** 2, 0.0) ** 0.5)


class OpsCounts(msgspec.Struct, frozen=True):
    """The service: answered, refused and failed requests, and how long the answered ones took.

    Args:
        requests: answered requests.
        rejected: requests refused before the model ran (shape, type, size, load).
        failed: requests in which the model or runtime failed.
        latency: answered requests per power of two of microseconds: cell 0 is below 1 µs, cell k
            is [2^(k−1), 2^k) µs, the last is open.
        mistyped: of the refused ones, those with a wrong datatype, shape or kind of data.
    """

    requests: int = 0
    rejected: int = 0
    failed: int = 0
    latency: tuple[int, ...] = (0,) * LATENCY_CELLS
    mistyped: int = 0

    def latency_us(self, quantile: float) -> float | None:
        """Return an upper bound of the latency's ``quantile`` (0 to 1] in µs; None for no request.

        The bound is the upper end of the cell that holds it: at most twice the true value.
        """
        total = sum(self.latency)
        if not total:
            return None
        seen = 0
        for cell, count in enumerate(self.latency):
            seen += count
            if seen >= quantile * total:
                return float(1 << cell)
        return float(1 << (LATENCY_CELLS - 1))


class QualityCounts(msgspec.Struct, frozen=True):
    """Predictions whose true labels are known.

    Args:
        rows: joined predictions.
        right: of them, predicted class = true class (classification).
        scores: ``score_bins × 2`` counts in row-major order: per score bin, how often the
            score's claim was false and how often it was true. The claim is "this is the positive
            class" for a layout with a positive class, else "the predicted class is right".
        confusion: ``classes × classes`` counts, predicted (row) × true (column); empty when the
            layout has too many classes.
        error: Σ (predicted − true) (regression).
        absolute: Σ |predicted − true|.
        squared: Σ (predicted − true)².
    """

    rows: int = 0
    right: int = 0
    scores: tuple[int, ...] = ()
    confusion: tuple[int, ...] = ()
    error: float = 0.0
    absolute: float = 0.0
    squared: float = 0.0


class SliceCounts(msgspec.Struct, frozen=True, kw_only=True):
    """The small profile of one slice.

    Args:
        rows: rows in it.
        cells: finite values (or words) per coarse cell, for each feature in the layout's order;
            what is left of the rows is missing or infinite.
        scores: rows per score bin, or per leaf of the error tree; None when the layout has none.
        quality: labelled rows in it; None when there are none. No confusion matrix of more than
            eight classes.
    """

    rows: int
    cells: tuple[tuple[int, ...], ...]
    scores: tuple[int, ...] | None = None
    quality: QualityCounts | None = None


def no_quality(layout: Layout, *, sliced: bool = False) -> QualityCounts:
    """Return the all-zero quality counts of ``layout``, or of a slice of it."""
    if layout.task == "regression":
        return QualityCounts()
    scores = 2 * layout.score_cells
    size = layout.slice_confusion_size if sliced else layout.confusion_size
    return QualityCounts(scores=(0,) * scores, confusion=(0,) * size**2)


def no_slice(layout: Layout) -> SliceCounts:
    """Return the all-zero counts of a slice of ``layout``."""
    scores = (0,) * layout.score_cells or None
    return SliceCounts(
        rows=0, cells=tuple((0,) * size for size in layout.coarse_sizes), scores=scores
    )


def slice_of(
    counts: Sequence[int], sizes: bytes, *, scored: bool, quality: QualityCounts | None
) -> SliceCounts:
    """Return flat counts of one slice (rows, coarse cells, score cells) as an object."""
    cells, at = [], 1
    for size in sizes:
        cells.append(tuple(counts[at : at + size]))
        at += size
    scores = tuple(counts[at:]) if scored else None
    return SliceCounts(rows=counts[0], cells=tuple(cells), scores=scores, quality=quality)


def merge_features(a: FeatureCounts, b: FeatureCounts) -> FeatureCounts:
    """Return the counts of the rows of ``a`` and ``b`` together."""
    return FeatureCounts(
        cells=add_cells(a.cells, b.cells),
        nulls=a.nulls + b.nulls,
        pos_inf=a.pos_inf + b.pos_inf,
        neg_inf=a.neg_inf + b.neg_inf,
        total=a.total + b.total,
        squares=a.squares + b.squares,
        min=_lower(a.min, b.min),
        max=_upper(a.max, b.max),
        repeats=a.repeats + b.repeats,
    )


def merge_ops(a: OpsCounts, b: OpsCounts) -> OpsCounts:
    """Return the service counts of both periods together."""
    return OpsCounts(
        requests=a.requests + b.requests,
        rejected=a.rejected + b.rejected,
        failed=a.failed + b.failed,
        latency=add_cells(a.latency, b.latency),
        mistyped=a.mistyped + b.mistyped,
    )


def merge_quality(a: QualityCounts | None, b: QualityCounts | None) -> QualityCounts | None:
    """Return the quality counts of both; None means that no label is known and adds nothing."""
    if a is None or b is None:
        return b if a is None else a
    return QualityCounts(
        rows=a.rows + b.rows,
        right=a.right + b.right,
        scores=add_cells(a.scores, b.scores),
        confusion=add_cells(a.confusion, b.confusion),
        error=a.error + b.error,
        absolute=a.absolute + b.absolute,
        squared=a.squared + b.squared,
    )


def merge_slices(a: tuple[SliceCounts, ...], b: tuple[SliceCounts, ...]) -> tuple[SliceCounts, ...]:
    """Return the counts of both, slice by slice. Raises `ProfileError` when they differ in number."""
    if len(a) != len(b):
        raise ProfileError(
            f"windows of {len(a)} and {len(b)} slices cannot be merged", code="profile.mismatch"
        )
    return tuple(map(_merge_slice, a, b))


def merge_scores(a: tuple[int, ...] | None, b: tuple[int, ...] | None) -> tuple[int, ...] | None:
    """Return the score bins of both; None adds nothing."""
    if a is None or b is None:
        return b if a is None else a
    return add_cells(a, b)


def add_cells(a: tuple[int, ...], b: tuple[int, ...]) -> tuple[int, ...]:
    """Return the cell-wise sum. Raises `ProfileError` when the lengths differ."""
    if len(a) != len(b):
        raise ProfileError(
            f"counts over {len(a)} and {len(b)} cells cannot be added", code="profile.mismatch"
        )
    return tuple(map(add, a, b))


def _merge_slice(a: SliceCounts, b: SliceCounts) -> SliceCounts:
    return SliceCounts(
        rows=a.rows + b.rows,
        cells=tuple(map(add_cells, a.cells, b.cells)),
        scores=merge_scores(a.scores, b.scores),
        quality=merge_quality(a.quality, b.quality),
    )


def _lower(a: float | None, b: float | None) -> float | None:
    if a is None or b is None:
        return b if a is None else a
    return min(a, b)


def _upper(a: float | None, b: float | None) -> float | None:
    if a is None or b is None:
        return b if a is None else a
    return max(a, b)
