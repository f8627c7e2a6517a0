"""The adversarial corpus: rows on which a wrong conversion shows.

Each case is a real row with one column changed, so that whatever differs names its cause: NaN and
infinities, unseen, empty and missing categories, one float32 step on either side of each split
threshold, large magnitudes, decimal grids. The same model and data give the same corpus.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from whimbrel_packager.frame import Frame

    Array = np.ndarray[Any, Any]

REAL_ROWS = 1_000
_MAX_REAL_BYTES = 64 << 20  # of images there are fewer
_FEWEST = 16
MAX_PROBES = 4_000  # three rows each
UNSEEN = "☃ never seen"
_GRID_STEPS = 6
_FLOAT32_MAX = float(np.finfo(np.float32).max)
_EXACT_INTEGERS = 1 << 24  # beyond it, float32 skips integers
_INT64 = (-(1 << 63), (1 << 63) - 1)


@dataclass(frozen=True)
class Corpus:
    """Rows, and per row why it is there.

    Attributes:
        frame: the input columns.
        case: (rows,) name of the case.
        column: (rows,) name of the changed column, "" when none or all are.
    """

    frame: Frame
    case: Array
    column: Array

    def take(self, rows: Array) -> Corpus:
        """Return some of the rows."""
        return Corpus(self.frame.take(rows), self.case[rows], self.column[rows])


@dataclass(frozen=True)
class Probe:
    """A split threshold to stand on: of which column, in a copy of which row."""

    column: str
    threshold: float
    row: int


def make(
    frame: Frame,
    probes: Sequence[Probe],
    *,
    tree_only: bool,
    magnitudes: Frame,
    limits: Mapping[str, tuple[int, int]] = MappingProxyType({}),
) -> Corpus:
    """Return the corpus of a model.

    Args:
        frame: real rows of the input columns; the first `REAL_ROWS` at most are used as they are.
        probes: thresholds, with rows of ``frame`` that come past them.
        tree_only: whether every number only meets thresholds, so that any magnitude is exact.
        magnitudes: all reference rows, for each column's range.
        limits: least and largest number of the inputs of whole numbers, by column: what no request
            can hold is no case.
    """
    changes = _Changes(frame.rows, limits)
    for name, column in frame.columns.items():
        if column.dtype == object:
            _words(changes, name, magnitudes.columns[name])
        elif column.ndim > 1:
            _block(changes, name, column, magnitudes.columns[name])
        else:
            _numbers(changes, name, magnitudes.columns[name], tree_only=tree_only)
    for probe in probes:
        _around(changes, probe, whole=frame.columns[probe.column].dtype.kind in "iub")
    floats = [n for n, c in frame.columns.items() if c.dtype.kind == "f"]
    return changes.apply(frame, floats)


class _Changes:
    """A list of (case, base row, column, value), of values that an input can hold."""

    def __init__(self, rows: int, limits: Mapping[str, tuple[int, int]]) -> None:
        self._rows = rows
        self._limits = limits
        self._made: list[tuple[str, int, str, object]] = []

    def limits(self, column: str) -> tuple[int, int]:
        """Return the least and largest number that a column's input holds."""
        return self._limits.get(column, _INT64)

    def fits(self, column: str, value: object) -> bool:
        low, high = self.limits(column)
        return not isinstance(value, int) or low <= value <= high

    def add(self, case: str, column: str, value: object, row: int | None = None) -> None:
        if not self.fits(column, value):
            return
        # Neighbouring cases stand on different rows.
        base = len(self._made) * 7 % self._rows if row is None else row
        self._made.append((case, base, column, value))

    def apply(self, frame: Frame, floats: Sequence[str]) -> Corpus:
        real = min(frame.rows, REAL_ROWS, max(_FEWEST, _MAX_REAL_BYTES // frame.row_bytes))
        every = min(4, frame.rows) if floats else 0  # rows in which all floats are missing
        base = np.array([*range(real), *range(every), *(row for _, row, _, _ in self._made)])
        case = np.array(["real"] * real + ["nan"] * every + [c for c, _, _, _ in self._made])
        column = np.array([""] * (real + every) + [c for _, _, c, _ in self._made])
        taken = frame.take(base)
        places: dict[str, list[int]] = {}
        for i, (_, _, name, _) in enumerate(self._made):
            places.setdefault(name, []).append(i)
        for name, indices in places.items():
            values = [self._made[i][3] for i in indices]
            target = taken.columns[name]
            at = np.array(indices) + real + every
            if target.dtype == object:
                target[at] = np.array([*values, None], dtype=object)[:-1]
            else:
                target[at] = np.array(values).astype(target.dtype)
        for name in floats:
            taken.columns[name][real : real + every] = np.nan
        return Corpus(taken, case, column)


def _words(changes: _Changes, name: str, seen: Array) -> None:
    known = sorted({value for value in seen if value})
    for value in (UNSEEN, "nan", "0"):
        if value not in known:
            changes.add("unseen", name, value)
    for _ in range(2):
        changes.add("empty", name, "")
        changes.add("missing", name, None)
    for word in known[:3]:
        for twisted in (word.swapcase(), f" {word}", f"{word} "):
            if twisted not in known:
                changes.add("unseen", name, twisted)
    for word in known[:64]:
        changes.add("category", name, word)


def _numbers(changes: _Changes, name: str, seen: Array, *, tree_only: bool) -> None:
    finite = seen[np.isfinite(seen)].astype(np.float64)
    low, high = (float(finite.min()), float(finite.max())) if len(finite) else (0.0, 1.0)
    if seen.dtype.kind == "b":
        for value in (0, 1):
            changes.add("grid", name, value)
        return
    whole = seen.dtype.kind in "iu"
    _ends(changes, name, max(abs(low), abs(high), 1.0), whole=whole, tree_only=tree_only)
    for digits in (0, 1, 2):
        for step in np.round(np.linspace(low, high, _GRID_STEPS), digits):
            changes.add("grid", name, int(step) if whole else np.float32(step))


def _block(changes: _Changes, name: str, rows: Array, seen: Array) -> None:
    """Add rows of an image or a sequence: odd at one place, and odd as a whole."""
    finite = seen[np.isfinite(seen)] if seen.dtype.kind == "f" else seen
    low, high = (finite.min().item(), finite.max().item()) if len(finite) else (0, 1)
    size = rows[0].size
    places = {0, size // 2, size - 1}

    def one(case: str, value: object) -> None:
        if not changes.fits(name, value):
            return
        for place in sorted(places):
            row = place * 7 % len(rows)
            changed = rows[row].copy()
            changed.flat[place] = value
            changes.add(case, name, changed, row)

    for value in (low, high):
        changes.add("grid", name, np.full_like(rows[0], value))
        one("grid", value)
    changes.add("grid", name, rows[0][..., ::-1].copy())
    if rows.dtype.kind == "b":
        return
    if rows.dtype.kind != "f":
        ends = _narrow_ends(changes, name)
        for value in dict.fromkeys((low - 1, high + 1, *ends)):
            one("magnitude", value)
        for value in ends:
            changes.add("magnitude", name, np.full_like(rows[0], value))
    else:
        _odd_floats(changes, name, rows, one)


def _odd_floats(
    changes: _Changes, name: str, rows: Array, one: Callable[[str, object], None]
) -> None:
    one("nan", np.nan)
    for value in (np.inf, -np.inf):
        one("infinity", value)
    for row, factor in enumerate((0.0, -1.0, 1e-3, 1e3, -1e3, 1e6)):
        source = row % len(rows)
        with np.errstate(over="ignore", invalid="ignore"):
            changes.add("magnitude", name, rows[source] * rows.dtype.type(factor), source)


def _ends(changes: _Changes, name: str, largest: float, *, whole: bool, tree_only: bool) -> None:
    """Add what is missing, infinite, huge and tiny."""
    factors = [1e3, 1e6] + ([_FLOAT32_MAX / largest] if tree_only and not whole else [])
    for factor in factors:
        for sign in (-1, 1):
            huge = sign * largest * factor
            changes.add("magnitude", name, _whole(huge) if whole else np.float32(huge))
    if whole:
        odd = [-1, 0, 1, _EXACT_INTEGERS + 1, -_EXACT_INTEGERS - 1]
        # Elsewhere no conversion is exact at the very ends; see `hazards`.
        ends = changes.limits(name) if tree_only else _narrow_ends(changes, name)
        for value in (*odd, *ends):
            changes.add("magnitude", name, value)
        return
    for _ in range(4):
        changes.add("nan", name, np.nan)
    for _ in range(2):
        changes.add("infinity", name, np.inf)
        changes.add("infinity", name, -np.inf)
    for small in (0.0, -0.0, 1e-30, -1e-30):
        changes.add("magnitude", name, np.float32(small))


def _narrow_ends(changes: _Changes, name: str) -> tuple[int, ...]:
    """Return both ends of an input of 8 or 16 bits: any request may hold those."""
    low, high = changes.limits(name)
    return (low, high) if high < 1 << 16 else ()


def _whole(value: float) -> int:
    return int(max(min(value, 2.0**62), -(2.0**62)))


def _around(changes: _Changes, probe: Probe, *, whole: bool) -> None:
    if whole:
        below = int(np.clip(np.floor(probe.threshold), -(2**62), 2**62))
        for value in (below, below + 1):
            changes.add("threshold", probe.column, value, probe.row)
        return
    with np.errstate(over="ignore"):
        near = np.float32(probe.threshold)
    for step in (
        np.nextafter(near, np.float32(-np.inf)),
        near,
        np.nextafter(near, np.float32(np.inf)),
    ):
        if np.isfinite(step):
            changes.add("threshold", probe.column, step, probe.row)
