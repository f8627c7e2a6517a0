"""The thread that does the server's rounds: each job when it is due, one after the other."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import msgspec

from whimbrel_core.errors import WhimbrelError

if TYPE_CHECKING:
    from collections.abc import Sequence

log = logging.getLogger(__name__)

_TICK_S = 0.5
_ROUND_S = 0.1


class Job(msgspec.Struct, frozen=True):
    """A thing to do, at most every ``every_s``; 0: in every round."""

    name: str
    every_s: float
    do: Callable[[], object]


class Rounds:
    """Does the jobs in their order; a round begins when it is woken, and every half second.

    Args:
        jobs: what to do. One that fails is logged, and tried again when it is due again.
    """

    def __init__(self, jobs: Sequence[Job]) -> None:
        self._jobs = tuple(jobs)
        self._stopping = threading.Event()
        self._woken = threading.Event()
        self._thread = threading.Thread(target=self._run, name="jobs", daemon=True)

    def start(self) -> None:
        """Start the thread; every job is due."""
        self._thread.start()

    def wake(self) -> None:
        """Begin a round soon; safe to call from any thread."""
        self._woken.set()

    def stop(self) -> None:
        """End after the round that is under way."""
        self._stopping.set()
        self._woken.set()
        self._thread.join()

    def _run(self) -> None:
        due = dict.fromkeys((job.name for job in self._jobs), time.monotonic())
        while not self._stopping.is_set():
            self._woken.wait(_TICK_S)
            # A busy fleet wakes us at every commit; looking more often finds nothing more.
            self._stopping.wait(_ROUND_S)
            self._woken.clear()
            if self._stopping.is_set():
                return
            now = time.monotonic()
            for job in self._jobs:
                if now >= due[job.name]:
                    due[job.name] = now + job.every_s
                    _do(job)


def _do(job: Job) -> None:
    try:
        job.do()
    except WhimbrelError as error:
        log.warning("%s: %s", job.name, error)
    except Exception:  # one job's fault must not stop the rounds of the others
        log.exception("%s failed; it is tried again", job.name)
