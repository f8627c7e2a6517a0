"""A profiled column, and the cells that its values are counted in.

Cells of a feature, by kind:

- ``numeric``: ``edges`` e₀ < e₁ < … cut the line into ``len(edges) + 1`` right-closed cells
  (−inf, e₀], (e₀, e₁], …, (eₖ, inf): a cumulative count is the empirical distribution function
  at an edge.
- ``discrete``: one cell per value of ``values``, in ascending order, and one for any other.
- ``categorical``: one cell per word of ``vocabulary``, most frequent first, and one for any other.

Nulls (a missing tensor, NaN, None) and infinities are counted apart and are in no cell. Numbers
are compared as float32, in the baseline and on the device alike, so ``edges`` and ``values``
must be exact float32 numbers.
"""

from __future__ import annotations

import math
import struct
from itertools import pairwise
from typing import TYPE_CHECKING, Literal

import msgspec

from whimbrel_core.errors import ProfileError

if TYPE_CHECKING:
    from collections.abc import Sequence

Kind = Literal["numeric", "discrete", "categorical"]
Role = Literal["input", "output"]

MAX_CELLS = 103  # 79 quantile edges and a tail ladder of at most 23
MAX_VALUES = 64
MAX_VOCABULARY = 63  # with `other`, a byte's worth of cells
MAX_WORD_CHARS = 256
MAX_COLUMN = 1 << 20
_MIN_SCALE = 1e-60  # float32 columns have scales within ± 1e45; squares of it stay in float64
MAX_COARSE_EDGES = 9

# Sums are rounded to 2^-6 of a feature's scale when a window closes. Sums of such numbers are
# exact in float64 up to 2^47 standard deviations, so that merging windows in any order gives the
# same bits; the error, 2^-7 standard deviations once per window, is far below sampling noise (10 of
# them for the total of a hundred rows).
_QUANTUM_BITS = 6


class Feature(msgspec.Struct, frozen=True, kw_only=True):
    """One profiled column of one tensor, and its cells.

    Args:
        name: unique within the layout; what a person reads.
        kind: how values are sorted into cells.
        role: whether the model reads or produces it.
        tensor: name of the input or output tensor of the model.
        column: index into the tensor's flattened trailing dimensions (0 for shape (n,) or (n, 1)).
        unit: physical unit, or None when there is none or it is not known.
        edges: ascending interior cell edges (numeric).
        values: ascending distinct values (discrete).
        vocabulary: distinct words, most frequent first (categorical).
        centre: the reference mean; sums are kept about it.
        scale: the reference standard deviation, or 1 where that is zero or has no meaning.
        coarse: ascending interior edges of the coarse cells in slices, at most nine of the
            feature's own: edges, values, or indices of words. Needed only where there are slices.
    """

    name: str
    kind: Kind
    role: Role
    tensor: str
    column: int = 0
    unit: str | None = None
    edges: tuple[float, ...] = ()
    values: tuple[float, ...] = ()
    vocabulary: tuple[str, ...] = ()
    centre: float = 0.0
    scale: float = 1.0
    coarse: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        """Refuse a feature whose cells are not well defined."""
        if not self.name or len(self.name) > MAX_WORD_CHARS or not self.tensor:
            raise ProfileError(
                f"a feature needs a name (1 to {MAX_WORD_CHARS} characters) and a tensor"
            )
        if not 0 <= self.column < MAX_COLUMN:
            raise ProfileError(f"feature {self.name!r}: column {self.column} is out of range")
        require_ascending(f"feature {self.name!r}", "edges", self.edges, MAX_CELLS - 1)
        require_ascending(f"feature {self.name!r}", "values", self.values, MAX_VALUES)
        words = self.vocabulary
        if len(words) > MAX_VOCABULARY or len(set(words)) != len(words):
            raise ProfileError(
                f"feature {self.name!r}: the vocabulary must be distinct words, "
                f"{MAX_VOCABULARY} at most; it has {len(words)}"
            )
        if any(len(word) > MAX_WORD_CHARS for word in words):
            raise ProfileError(
                f"feature {self.name!r}: a word is longer than {MAX_WORD_CHARS} characters"
            )
        if not (math.isfinite(self.centre) and _MIN_SCALE <= self.scale <= 1 / _MIN_SCALE):
            raise ProfileError(
                f"feature {self.name!r}: centre must be finite and scale positive, "
                f"got {self.centre!r} and {self.scale!r}"
            )
        owners = {"numeric": "edges", "discrete": "values", "categorical": "vocabulary"}
        for kind, field in owners.items():
            if kind != self.kind and getattr(self, field):
                raise ProfileError(f"feature {self.name!r} is {self.kind} and must have no {field}")
        if self.coarse:
            _require_coarse(self)

    @property
    def cells(self) -> int:
        """Number of cells (nulls and infinities are not among them)."""
        return len(self.edges) + len(self.values) + len(self.vocabulary) + 1

    @property
    def ordered(self) -> bool:
        """Whether cells have an order, so that distances along the axis make sense."""
        return self.kind != "categorical"

    @property
    def total_quantum(self) -> float:
        """Power of two of which a closed window's ``total`` is a multiple."""
        return math.ldexp(1.0, math.frexp(self.scale)[1] - 1 - _QUANTUM_BITS)

    @property
    def squares_quantum(self) -> float:
        """Power of two of which a closed window's ``squares`` is a multiple."""
        return math.ldexp(1.0, 2 * (math.frexp(self.scale)[1] - 1) - _QUANTUM_BITS)

    def cell_names(self) -> tuple[str, ...]:
        """Return a readable name per cell, in order: intervals, values or words."""
        if self.kind == "numeric":
            if not self.edges:
                return ("any",)
            inner = [f"({a:.6g}, {b:.6g}]" for a, b in pairwise(self.edges)]
            return (f"≤ {self.edges[0]:.6g}", *inner, f"> {self.edges[-1]:.6g}")
        if self.kind == "discrete":
            return (*(f"{value:.9g}" for value in self.values), "other")
        return (*self.vocabulary, "other")


def is_float32(value: float) -> bool:
    """Return whether ``value`` is a finite number that float32 holds exactly."""
    try:
        return math.isfinite(value) and struct.unpack("<f", struct.pack("<f", value))[0] == value
    except OverflowError:
        return False


def require_ascending(owner: str, what: str, numbers: tuple[float, ...], limit: int) -> None:
    """Require ``limit`` float32 numbers at most that ascend strictly. Raises `ProfileError`."""
    if len(numbers) > limit:
        raise ProfileError(f"{owner}: {len(numbers)} {what}, {limit} are allowed")
    if not all(is_float32(number) for number in numbers):
        raise ProfileError(f"{owner}: {what} must be finite float32 numbers")
    if any(a >= b for a, b in pairwise(numbers)):
        raise ProfileError(f"{owner}: {what} must ascend strictly")


def _require_coarse(feature: Feature) -> None:
    """Require coarse edges that ascend and are edges of ``feature``. Raises `ProfileError`."""
    known: Sequence[float] = feature.edges or feature.values
    if feature.kind == "categorical":
        known = [float(code) for code in range(len(feature.vocabulary))]
    edges = feature.coarse
    ascending = all(a < b for a, b in zip(edges, edges[1:]))  # noqa: B905, RUF007 — neighbours
    if len(edges) > MAX_COARSE_EDGES or not ascending or not set(edges) <= set(known):
        raise ProfileError(
            f"feature {feature.name!r}: coarse edges are at most {MAX_COARSE_EDGES} of its own, "
            "ascending"
        )
