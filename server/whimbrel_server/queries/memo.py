"""Answers that are made once for as long as the rows they are made of stay the same.

The key is a digest of the stored bytes themselves: nothing has to be invalidated, an answer can
never be older than its rows, and while devices keep sending only what they touched is made anew.
"""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

T = TypeVar("T")


class Memo(Generic[T]):
    """The ``limit`` answers used last; safe to use from any thread. Answers must be immutable."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._lock = threading.Lock()
        self._answers: OrderedDict[bytes, T] = OrderedDict()

    def get(self, question: Iterable[object], stored: Iterable[bytes], make: Callable[[], T]) -> T:
        """Return the answer to ``question`` over ``stored`` rows, made by ``make`` if it is new."""
        key = _digest(question, stored)
        with self._lock:
            if key in self._answers:
                self._answers.move_to_end(key)
                return self._answers[key]
        # Not under the lock: two who ask at once may both make it, and both are right.
        answer = make()
        with self._lock:
            self._answers[key] = answer
            while len(self._answers) > self._limit:
                self._answers.popitem(last=False)
        return answer

    def __len__(self) -> int:
        return len(self._answers)


def _digest(question: Iterable[object], stored: Iterable[bytes]) -> bytes:
    found = hashlib.blake2b(repr(tuple(question)).encode(), digest_size=16)
    for row in stored:
        # With its length, so that rows cannot be taken for one another's ends.
        found.update(len(row).to_bytes(8, "big"))
        found.update(row)
    return found.digest()
