"""Lay the tensors of a request side by side, as rows of the ring.

A layout's features name a tensor and a column each. Neighbours of one tensor are taken together,
so that a model with one input matrix costs one copy. A tensor that a descriptor makes is worked out
first, from the tensor that it describes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from whimbrel_core.errors import ProfileError
from whimbrel_core.profile.descriptors import describer

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from whimbrel_core.profile.counting.cells import Cells
    from whimbrel_core.profile.layout import Layout

_NUMBERS = "fiub"


class Tensors:
    """How the tensors of one layout become rows.

    Args:
        cells: of the layout; words are encoded by it.
    """

    def __init__(self, cells: Cells) -> None:
        self._cells = cells
        self._layout = cells.layout
        self._segments = _segments(cells.layout, cells.width)
        self._describers = [(d.name, d.tensor, describer(d)) for d in cells.layout.descriptors]

    def blocks(self, tensors: Mapping[str, NDArray[Any]]) -> tuple[list[NDArray[Any]], int]:
        """Return (n, k) arrays that side by side make up rows of the ring, and n.

        Raises:
            ProfileError: no tensor of the layout, numbers of rows that differ, a column that the
                tensor does not have, or a type that cannot be counted.
        """
        if self._describers:
            tensors = self._described(tensors)
        rows = -1
        blocks: list[NDArray[Any] | None] = []
        for segment in self._segments:
            tensor = tensors.get(segment.tensor)
            if tensor is None:
                blocks.append(None)
                continue
            if tensor.ndim != 2:  # noqa: PLR2004 — rows by columns
                tensor = _as_rows(segment.tensor, tensor)
            if tensor.shape[0] != rows:
                if rows >= 0:
                    raise ProfileError(
                        f"tensor {segment.tensor!r} has {tensor.shape[0]} rows, another {rows}",
                        code="profile.shape",
                    )
                rows = tensor.shape[0]
            if segment.category is not None:
                words = _columns(segment, tensor)[:, 0]
                blocks.append(self._cells.encode(segment.category, words).reshape(rows, 1))
                continue
            if tensor.dtype.kind not in _NUMBERS or tensor.itemsize > 4:  # noqa: PLR2004 — float32
                tensor = _as_float32(segment.tensor, tensor)
            blocks.append(
                _score(self._layout, tensor) if segment.is_score else _columns(segment, tensor)
            )
        if rows < 0:
            wanted = sorted(self._wanted())
            raise ProfileError(
                f"none of the tensors {sorted(tensors)[:8]} is in the profile",
                hint=f"the layout was made for: {', '.join(wanted)[:200]}",
                code="profile.tensor",
            )
        return [
            np.full((rows, segment.width), np.nan, np.float32) if block is None else block
            for segment, block in zip(self._segments, blocks, strict=True)
        ], rows

    def _wanted(self) -> set[str]:
        """Return the tensors that can be counted, by the names that a caller knows."""
        sources = {name: source for name, source, _ in self._describers}
        return {sources.get(segment.tensor, segment.tensor) for segment in self._segments}

    def _described(self, tensors: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Return ``tensors`` and those that the descriptors make of them."""
        known = dict(tensors)
        for name, source, describe in self._describers:
            tensor = tensors.get(source)
            if tensor is not None:
                known[name] = describe(tensor)
        return known


class _Segment(NamedTuple):
    """Columns of one tensor that stand side by side in the ring."""

    tensor: str
    columns: tuple[int, ...]
    category: int | None = None  # index of the categorical feature
    is_score: bool = False

    @property
    def width(self) -> int:
        return len(self.columns)


def _segments(layout: Layout, width: int) -> tuple[_Segment, ...]:
    segments: list[_Segment] = []
    for index, feature in enumerate(layout.features):
        if feature.kind == "categorical":
            segments.append(_Segment(feature.tensor, (feature.column,), index))
        elif segments and segments[-1].tensor == feature.tensor and segments[-1].category is None:
            last = segments[-1]
            segments[-1] = last._replace(columns=(*last.columns, feature.column))
        else:
            segments.append(_Segment(feature.tensor, (feature.column,)))
    if width > len(layout.features) and layout.score_tensor is not None:
        segments.append(_Segment(layout.score_tensor, (0,), is_score=True))
    return tuple(segments)


def _columns(segment: _Segment, tensor: NDArray[Any]) -> NDArray[Any]:
    """Return (n, k): the segment's columns of ``tensor`` (n, d), a view where they are a range."""
    columns, width = segment.columns, tensor.shape[1]
    if len(columns) == width and columns == tuple(range(width)):
        return tensor
    if max(columns) >= width:
        raise ProfileError(
            f"tensor {segment.tensor!r} has {width} columns; the profile needs column "
            f"{max(columns)}",
            code="profile.shape",
        )
    first = columns[0]
    if columns == tuple(range(first, first + len(columns))):
        return tensor[:, first : first + len(columns)]
    return tensor[:, columns]


def _score(layout: Layout, probabilities: NDArray[Any]) -> NDArray[Any]:
    """Return (n, 1): `Layout.score_of` of every row."""
    width = probabilities.shape[1]
    if width == 1:
        return probabilities
    if width != len(layout.classes):
        raise ProfileError(
            f"tensor {layout.score_tensor!r} has {width} columns; the model has "
            f"{len(layout.classes)} classes",
            code="profile.shape",
        )
    if layout.positive is not None:
        return probabilities[:, layout.positive : layout.positive + 1]
    best: NDArray[Any] = probabilities.max(axis=1, keepdims=True)
    return best


def _as_rows(name: str, tensor: NDArray[Any]) -> NDArray[Any]:
    if not tensor.ndim:
        raise ProfileError(f"tensor {name!r} is a scalar; rows are needed", code="profile.shape")
    if not tensor.size:
        return tensor.reshape(tensor.shape[0], int(np.prod(tensor.shape[1:])))
    return tensor.reshape(tensor.shape[0], -1)


def _as_float32(name: str, tensor: NDArray[Any]) -> NDArray[np.float32]:
    """Return ``tensor`` as float32; what is too large becomes infinite and is counted as such."""
    kind = tensor.dtype.kind
    try:
        with np.errstate(over="ignore", invalid="ignore"):
            if kind in _NUMBERS:
                return tensor.astype(np.float32)
            if kind == "O":  # None becomes NaN on the way
                return tensor.astype(np.float64).astype(np.float32)
    except (TypeError, ValueError):
        pass  # an object that is no number: refused like any other type
    raise ProfileError(
        f"tensor {name!r} is profiled as numbers and holds something else ({tensor.dtype})",
        code="profile.dtype",
    )
