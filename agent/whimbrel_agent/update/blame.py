"""Which model is to blame when a worker crashes, and how long to wait before the next try.

Rules: one crash may be chance. A model that was running, or was being loaded, in `CRASHES` of the
crashes within `WINDOW_S` is the cause, and is left out. Where nobody was running nobody is blamed
and the worker is started again, with pauses that grow up to `MAX_PAUSE_S`. Pure: the time is a
parameter.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

CRASHES = 3
WINDOW_S = 120.0
MAX_PAUSE_S = 30.0
_FIRST_PAUSE_S = 0.2
# Sent from outside: by a person, a service manager, the kernel for want of memory. They say
# nothing about the model that happened to run.
_OUTSIDE = frozenset({"SIGKILL", "SIGTERM", "SIGINT", "SIGHUP"})


class Blame:
    """Remembers the crashes of the last minutes.

    >>> blame = Blame()
    >>> [sorted(blame.crashed({"a", "b"} if n else {"a"}, float(n))) for n in range(3)]
    [[], [], ['a']]
    """

    def __init__(self) -> None:
        # As many as it takes the pause to reach its limit.
        self._crashes: deque[tuple[float, frozenset[str]]] = deque(maxlen=16)

    def crashed(self, running: Iterable[str], now_s: float) -> frozenset[str]:
        """Note a crash while the digests ``running`` were at work; return those that are guilty.

        What is returned begins anew: it is about to be taken out of use.
        """
        self._crashes.append((now_s, frozenset(running)))
        recent = self._recent(now_s)
        guilty = frozenset(
            digest
            for digest in self._crashes[-1][1]
            if sum(digest in at_work for at_work in recent) >= CRASHES
        )
        if guilty:
            # The cause is found: what follows is another story.
            self._crashes.clear()
        return guilty

    def pause_s(self, now_s: float) -> float:
        """Return how long to wait before a worker is started again, in seconds."""
        count = len(self._recent(now_s))
        return 0.0 if count <= 1 else min(MAX_PAUSE_S, _FIRST_PAUSE_S * 2.0 ** (count - 1))

    def _recent(self, now_s: float) -> list[frozenset[str]]:
        return [at_work for at, at_work in self._crashes if now_s - at < WINDOW_S]


def from_outside(ending: str) -> bool:
    """Return whether a process that ended so was ended by somebody else."""
    return ending in _OUTSIDE
