"""Where rows lie in wide cells, and rows with never-seen values: as a window's sums say."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Sides = NDArray[np.int8]

_ROUNDS = 4
_FLAT = 1e-3
_TAIL = (
    1.6  # mean square of distances beyond an end over the squared mean: even 1.33, exponential 2
)


def never_seen(  # noqa: PLR0917 — six columns of one table
    values: Floats, rows: Floats, total: Floats, squares: Floats, low: Floats, high: Floats
) -> tuple[Floats, Floats]:
    """Return where rows with never-seen values are, (N, 2), and how many at each place.

    At their mean; or where a window goes beyond the known values at both ends, equally far beyond
    either: with the middle and half the range of the known values, R, the second moment about the
    middle gives that distance z, (R + z)² + (κ − 1) z², and the mean how many are where.

    Args:
        values: (K,) known values, ascending.
        rows: (N,) rows with other values.
        total: (N,) their sums.
        squares: (N,) their sums of squares.
        low: (N,) smallest value of the window.
        high: (N,) largest value of the window.
    """
    middle, half = (values[0] + values[-1]) / 2, (values[-1] - values[0]) / 2
    mean = total / rows
    spread = squares / rows - 2 * middle * mean + middle**2
    beyond = (low < values[0]) & (high > values[-1]) & (spread > half**2)
    root = np.sqrt(np.maximum(half**2 - _TAIL * (half**2 - spread), 0.0))
    away = half + np.where(beyond, (root - half) / _TAIL, 0.0)
    lean = np.clip((mean - middle) / np.maximum(away, 1e-300), -1.0, 1.0)
    one = np.clip(mean, low, high)
    at = np.where(beyond[:, np.newaxis], np.column_stack([middle - away, middle + away]),
                  np.column_stack([one, one]))  # fmt: skip
    return at, np.column_stack([rows * (1 - lean) / 2, rows * (1 + lean) / 2])


def leaning_to(  # noqa: PLR0917 — six columns of one table
    total: Floats, squares: Floats, rows: Floats, a: Floats, h: Floats, side: Sides
) -> Floats:
    """Return where in its cell the mean of each is, 0 to 1, such that the sums come out.

    Within a cell the density is taken to grow or fall as from the cell before to the one behind;
    one correction for the cells of each side then makes total and squares those that are known.

    Args:
        total: (P,) sums of the rows on both sides.
        squares: (P,) their sums of squares.
        rows: (P, K) rows of neighbouring cells.
        a: (P, K) their lower ends.
        h: (P, K) their widths; 0 for none.
        side: (P, K) −1 for cells of the lower side, 1 for those of the upper one, 0 for others.
    """
    leaning = _leaning(rows, a, h)
    below, above = np.where(side < 0, rows, 0.0), np.where(side > 0, rows, 0.0)
    of_below, of_above = (below * h).sum(axis=-1), (above * h).sum(axis=-1)
    for _ in range(_ROUNDS):
        at = a + leaning * h
        square = at**2 + h**2 * leaning * (1 - leaning) / 3
        slope = 2 * at * h + h**2 * (1 - 2 * leaning) / 3
        short = total - ((below + above) * at).sum(axis=-1)
        short_squares = squares - ((below + above) * square).sum(axis=-1)
        by_below, by_above = (below * slope).sum(axis=-1), (above * slope).sum(axis=-1)
        divisor = of_below * by_above - of_above * by_below
        divisor = np.where(divisor == 0, np.inf, divisor)
        down = (short * by_above - of_above * short_squares) / divisor
        up = (of_below * short_squares - short * by_below) / divisor
        move = np.where(side < 0, down[:, np.newaxis], up[:, np.newaxis])
        leaning = np.clip(leaning + np.where(side == 0, 0.0, move), 0.02, 0.98)
    return leaning


def _leaning(rows: Floats, a: Floats, h: Floats) -> Floats:
    """Return where in its cell the mean of each is, 0 to 1, from the densities of its neighbours.

    The mean of the density e^(κu) on [0, 1] is 1 / (1 − e^(−κ)) − 1 / κ.

    Args:
        rows: (P, K) rows of neighbouring cells.
        a: (P, K) their lower ends.
        h: (P, K) their widths; 0 for none.
    """
    there = h > 0
    density = np.log(np.maximum(rows, 0.5) / np.where(there, h, 1.0))
    middle = a + h / 2
    own = np.arange(rows.shape[1])
    before = own - np.pad(there[:, :-1], ((0, 0), (1, 0))) * there
    after = own + np.pad(there[:, 1:], ((0, 0), (0, 1))) * there

    def difference(of: Floats) -> Floats:
        found: Floats = np.take_along_axis(of, after, -1) - np.take_along_axis(of, before, -1)
        return found

    reach = difference(middle)
    k = np.clip(difference(density) * h / np.where(reach > 0, reach, np.inf), -40.0, 40.0)
    flat = np.abs(k) < _FLAT
    steep = np.where(flat, 1.0, k)
    leaning: Floats = np.where(flat, 0.5 + k / 12, -1 / np.expm1(-steep) - 1 / steep)
    return leaning
