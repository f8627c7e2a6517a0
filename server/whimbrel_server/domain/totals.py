"""Counts of any number of windows, for adding to.

`Totals` holds the same counts as a profile window in flat arrays, so that an add is three
vectorised additions. Counts are integers and sums are multiples of a power of two (see
`whimbrel_core.profile.layout`), so any order of adding gives the same bits.
"""

# ruff: noqa: SLF001 - `Totals` reads other `Totals`

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from whimbrel_core.errors import ProfileError
from whimbrel_core.profile.counts import LATENCY_CELLS, no_quality
from whimbrel_core.profile.encoding.fields import Sliced
from whimbrel_core.profile.flat import FlatWindow, encode, flatten
from whimbrel_core.profile.window import OpsCounts, QualityCounts, Window

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from whimbrel_core.profile.layout import Layout

# Level 1 of zlib is many times quicker than 9 and gives a few per cent more bytes.
_STORED_LEVEL = 1


class Totals:
    """Counts of any number of windows of one layout, for adding to.

    Args:
        layout: of the bundle that the windows are of.
    """

    __slots__ = ("_extremes", "_ints", "_layout", "_sums", "end_ms", "start_ms", "windows")

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        features = len(layout.features)
        self._ints: NDArray[np.int64] = np.zeros(_width(layout), dtype=np.int64)
        self._sums: NDArray[np.float64] = np.zeros(2 * features + 3 * (1 + len(layout.slices)))
        # (2F,) smallest values, then negated largest ones: one minimum for both.
        self._extremes: NDArray[np.float64] = np.full(2 * features, np.inf)
        self.start_ms: int | None = None
        self.end_ms: int | None = None
        self.windows = 0

    @classmethod
    def of(cls, layout: Layout, window: Window, windows: int = 1) -> Totals:
        """Return the totals of one window (which must fit ``layout``).

        Raises:
            ProfileError: it has other cells than the layout.
        """
        return cls.of_flat(layout, flatten(window), windows)

    @classmethod
    def of_flat(cls, layout: Layout, window: FlatWindow, windows: int = 1) -> Totals:
        """Return `of` a window that is arrays already. Raises `ProfileError` as `of`."""
        quality, ops = window.quality or _NO_QUALITY, window.ops
        n_scores, n_quality, n_confusion = _parts(layout)
        rest = (
            window.rows,
            window.duplicates,
            ops.requests,
            ops.rejected,
            ops.failed,
            ops.mistyped,
            *ops.latency,
            *(window.score_cells or (0,) * n_scores),
            quality.rows,
            quality.right,
            *(quality.scores or (0,) * n_quality),
            *(quality.confusion or (0,) * n_confusion),
            *_slice_counts(layout, window.sliced),
        )
        held = len(window.counts) + len(rest)
        if held != _width(layout) or len(window.sums) != 2 * len(layout.features):
            raise ProfileError(
                f"a window holds {held} counts where its profile has {_width(layout)}",
                code="profile.mismatch",
            )
        totals = cls.__new__(cls)
        totals._layout = layout
        totals._ints = np.concatenate([window.counts, rest])
        labelled = [quality] if window.sliced is None else [quality, *window.sliced.quality]
        known = [one or _NO_QUALITY for one in labelled]
        errors = [(one.error, one.absolute, one.squared) for one in known]
        totals._sums = np.append(window.sums, errors)
        totals._extremes = np.concatenate([window.low, -window.high])
        totals.start_ms, totals.end_ms, totals.windows = window.start_ms, window.end_ms, windows
        return totals

    @property
    def rows(self) -> int:
        """Predicted rows."""
        return int(self._ints[self._ops_at()])

    @property
    def labels(self) -> int:
        """Predictions with a known label."""
        return int(self._ints[self._quality_at()])

    @property
    def size_bytes(self) -> int:
        """How much memory the counts take."""
        return self._ints.nbytes + self._sums.nbytes + self._extremes.nbytes

    def add(self, other: Totals) -> None:
        """Add ``other``, of the same layout."""
        self._ints += other._ints
        self._sums += other._sums
        np.minimum(self._extremes, other._extremes, out=self._extremes)
        self.windows += other.windows
        if other.start_ms is not None and (self.start_ms is None or other.start_ms < self.start_ms):
            self.start_ms = other.start_ms
        if other.end_ms is not None and (self.end_ms is None or other.end_ms > self.end_ms):
            self.end_ms = other.end_ms

    def without(self, part: Totals) -> Totals:
        """Return these totals less ``part``, which was added to them before.

        Extremes cannot be taken back and stay as they are; no distance uses them.
        """
        rest = self.copy()
        rest._ints -= part._ints
        rest._sums -= part._sums
        rest.windows -= part.windows
        return rest

    def copy(self) -> Totals:
        """Return an independent copy."""
        twin = Totals.__new__(Totals)
        twin._layout = self._layout
        twin._ints, twin._sums = self._ints.copy(), self._sums.copy()
        twin._extremes = self._extremes.copy()
        twin.start_ms, twin.end_ms, twin.windows = self.start_ms, self.end_ms, self.windows
        return twin

    def flat(self) -> FlatWindow:
        """Return the totals as arrays: views, until the next `add`."""
        layout, features = self._layout, len(self._layout.features)
        at = self._ops_at()
        rest: list[int] = self._ints[at:].tolist()
        rows, duplicates, requests, rejected, failed, mistyped = rest[:_OTHERS]
        latency = tuple(rest[_OTHERS : _OTHERS + LATENCY_CELLS])
        ops = OpsCounts(requests, rejected, failed, latency, mistyped)
        n_scores, n_quality, n_confusion = _parts(layout)
        rest = rest[_OTHERS + LATENCY_CELLS :]
        scores, (labels, right) = tuple(rest[:n_scores]), rest[n_scores : n_scores + 2]
        rest = rest[n_scores + 2 :]
        quality = None
        errors: list[float] = self._sums[2 * features :].tolist()
        end = n_quality + n_confusion
        if labels:
            matrices = (tuple(rest[:n_quality]), tuple(rest[n_quality:end]))
            quality = QualityCounts(labels, right, *matrices, *errors[:3])
        sums = self._sums[: 2 * features].copy()
        np.maximum(sums[features:], 0.0, out=sums[features:])
        return FlatWindow(
            profile_id=layout.profile_id,
            start_ms=self.start_ms or 0,
            end_ms=self.end_ms or 0,
            rows=rows,
            sizes=layout.sizes,
            counts=self._ints[:at],
            sums=sums,
            low=self._extremes[:features],
            high=-self._extremes[features:],
            ops=ops,
            score_cells=scores or None,
            quality=quality,
            duplicates=duplicates,
            sliced=_sliced(layout, rest[end:], errors[3:]),
        )

    def encode(self) -> bytes:
        """Return the totals as bytes of a profile window, quickly: for storing, not for sending."""
        return encode(self.flat(), level=_STORED_LEVEL)

    def window(self) -> Window:
        """Return the totals as a profile window."""
        return self.flat().window()

    def __eq__(self, other: object) -> bool:
        """Return whether both hold the same counts of the same layout."""
        if not isinstance(other, Totals):
            return NotImplemented
        return (
            self.window() == other.window()
            and self.windows == other.windows
            and self._layout.profile_id == other._layout.profile_id
        )

    __hash__ = None  # type: ignore[assignment]  # mutable

    def _ops_at(self) -> int:
        return self._layout.cells + 4 * len(self._layout.features)

    def _quality_at(self) -> int:
        return self._ops_at() + _OTHERS + LATENCY_CELLS + _parts(self._layout)[0]


_NO_QUALITY = QualityCounts()
_OTHERS = 6  # rows, duplicates, and four counts of the service


def _parts(layout: Layout) -> tuple[int, int, int]:
    """Return the lengths of score cells, labelled score cells and confusion matrix."""
    scores = layout.score_cells
    if layout.task == "regression":
        return scores, 0, 0
    return scores, 2 * scores, layout.confusion_size**2


def _slice_counts(layout: Layout, sliced: Sliced | None) -> list[int]:
    """Return the counts of all slices, then what labels say of each."""
    if sliced is None:
        return []
    counts = list(sliced.counts)
    none = no_quality(layout, sliced=True)
    for one in sliced.quality:
        quality = one or none
        counts += (quality.rows, quality.right, *quality.scores, *quality.confusion)
    return counts


def _sliced(layout: Layout, counts: list[int], errors: list[float]) -> Sliced | None:
    """Return what `_slice_counts` made flat."""
    if not layout.slices:
        return None
    number, none = len(layout.slices), no_quality(layout, sliced=True)
    n_scores = len(none.scores)
    length = 2 + n_scores + len(none.confusion)
    labels_at = len(counts) - number * length
    quality: list[QualityCounts | None] = []
    for index in range(number):
        rows, right, *rest = counts[labels_at + index * length :][:length]
        sums = errors[3 * index : 3 * index + 3]
        matrices = (tuple(rest[:n_scores]), tuple(rest[n_scores:]))
        quality.append(QualityCounts(rows, right, *matrices, *sums) if rows else None)
    return Sliced(number, layout.coarse_sizes, tuple(counts[:labels_at]), tuple(quality))


def _width(layout: Layout) -> int:
    parts = sum(_parts(layout))
    if layout.slices:
        none = no_quality(layout, sliced=True)
        bins = _parts(layout)[0]
        own = 1 + sum(layout.coarse_sizes) + bins + 2 + len(none.scores) + len(none.confusion)
        parts += len(layout.slices) * own
    return layout.cells + 4 * len(layout.features) + _OTHERS + LATENCY_CELLS + 2 + parts
