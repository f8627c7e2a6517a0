"""Rows that may end the runtime's process: a worker must not be killed by what it is asked.

onnxruntime looks for integers that are divided by zero, and not for the smallest one divided by −1,
which the processor answers by ending the process (SIGFPE). A signed model with such a division is a
way to stop every worker that serves it, so rows like that are asked before a model is packed. What the model answers does not matter
here, nor whether the runtime refuses the row: only that it lives.
"""

from __future__ import annotations

from itertools import permutations
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    Array = np.ndarray[Any, Any]

BATCH = "hazards"
_MAX_PAIRS = 300
_DIVIDES = ((0, 0), (1, 0), (None, -1))  # None: the smallest there is


def rows(fed: Mapping[str, Array]) -> dict[str, Array]:
    """Return inputs of many rows, each a copy of the first of ``fed`` with odd numbers in it.

    Args:
        fed: the model's inputs by name, one row or more.
    """
    changes = list(_changes(fed))
    made = {name: np.repeat(array[:1], max(len(changes), 1), axis=0) for name, array in fed.items()}
    for row, change in enumerate(changes):
        for name, value in change.items():
            made[name][row] = value
    return made


def _changes(fed: Mapping[str, Array]) -> Iterator[dict[str, Any]]:
    integers = [name for name, array in fed.items() if array.dtype.kind in "iu"]
    floats = [name for name, array in fed.items() if array.dtype.kind == "f"]
    ends = {name: np.iinfo(fed[name].dtype) for name in integers}
    for name in integers:
        for value in (ends[name].min, ends[name].max, -1, 0):
            if value >= ends[name].min:
                yield {name: value}
    for least in (True, False):
        yield {name: ends[name].min if least else ends[name].max for name in integers}
    for count, (above, below) in enumerate(permutations(integers, 2)):
        if count == _MAX_PAIRS:
            break
        for dividend, divisor in _DIVIDES:
            if divisor < ends[below].min:
                continue
            yield {above: ends[above].min if dividend is None else dividend, below: divisor}
    for number in (np.nan, np.inf, -np.inf, np.finfo(np.float32).max, -np.finfo(np.float32).max, 0):
        # Casts to integers inside the model make the ends of these.
        yield dict.fromkeys(floats, number)
