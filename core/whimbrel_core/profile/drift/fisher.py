"""Fisher's exact test: whether something is so in more rows than usual, by more than chance."""

from __future__ import annotations

import math

_EXACT_ROWS = 1e8  # beyond, logarithms of factorials lose their last digits, and nobody needs them


def more_than_usual(count: int, rows: int, usual: int, usual_rows: int) -> float:
    """Return how probable ``count`` of ``rows`` or more are where both have one rate.

    Fisher's exact test, one-sided: given all that were found, how they fall on the two sides is
    hypergeometric.

    >>> round(more_than_usual(3, 10, 1, 20), 4)
    0.0952
    >>> more_than_usual(0, 10, 5, 20)
    1.0
    """
    found, total = count + usual, rows + usual_rows
    if total > _EXACT_ROWS:
        return _by_normal(count, rows, usual, usual_rows)
    if count <= max(0, found - usual_rows):
        return 1.0
    term = _log_choose(rows, count) + _log_choose(usual_rows, usual) - _log_choose(total, found)
    ratio, summed = 1.0, 1.0
    for k in range(count, min(found, rows)):
        ratio *= (found - k) * (rows - k) / ((k + 1) * (usual_rows - found + k + 1))
        summed += ratio
        if ratio < summed * 1e-12:
            break
    return min(1.0, math.exp(min(0.0, term + math.log(summed))))


def _by_normal(count: int, rows: int, usual: int, usual_rows: int) -> float:
    rate = (count + usual) / (rows + usual_rows)
    spread = math.sqrt(rate * (1 - rate) * (1 / rows + 1 / usual_rows))
    if not spread:
        return 1.0
    return math.erfc((count / rows - usual / usual_rows) / spread / math.sqrt(2)) / 2


def _log_choose(n: int, k: int) -> float:
    return math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)
