"""Whether a slot is asked far more, or far less, than it usually is: the device's own alarm.

The rule is `whimbrel_core.profile.watching.rate`. The usual belongs to the slot and outlives versions. What
a process cannot know to be whole is not judged: the first window that it closes, which may have
begun before it, and those that it closes because it ends.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from whimbrel_agent.telemetry.watchfile import WatchFile
    from whimbrel_core.profile.watching.rate import Rate, RateState
    from whimbrel_core.profile.window import Window

KIND = "rate"


class Turned(NamedTuple):
    """An alarm that began, changed or ended: with which period, and what was usual before it."""

    rate: Rate
    usual: RateState


class RateWatch:
    """Follows the requests to one slot.

    Args:
        file: remembers what is usual; None: only this object does.
    """

    def __init__(self, file: WatchFile[RateState] | None = None) -> None:
        self._file = file
        self._state: RateState | None = None
        self._first_ms: int | None = None

    def observe(self, window: Window, *, ending: bool = False) -> Turned | None:
        """Take a closed window in, and return the period before where the alarm changed with it.

        Args:
            window: with the rows of one version.
            ending: whether it was closed because the process ends.
        """
        # Not needed before the first window ends, so not at a cold start either.
        from whimbrel_core.profile.watching import rate

        state = self._file.load() if self._file is not None else self._state
        before = state or rate.RateState()
        if self._first_ms is None:
            self._first_ms = window.start_ms
        self._state, said = rate.observe(
            before,
            window.start_ms,
            window.end_ms,
            window.ops.requests or window.rows,
            whole=not ending and window.start_ms != self._first_ms,
        )
        if self._file is not None:
            self._file.save(self._state)
        return None if said is None or said.before == said.now else Turned(said, before)


def detail(turned: Turned) -> dict[str, str]:
    """Return a change of the alarm as the detail of an event.

    With an alarm goes what it stands on, so that others can judge the period again.
    """
    from whimbrel_core.profile.watching import rate, testimony

    said = turned.rate
    told = {
        "before": said.before,
        "now": said.now,
        "requests": str(said.requests),
        "expected": testimony.written(said.expected),
        "z": testimony.written(said.z),
        "window_start_ms": str(said.start_ms),
        "window_end_ms": str(said.end_ms),
        "what": "" if said.finding is None else said.finding.message,
    }
    if said.now in rate.ALARMING:
        told |= {"rule_version": str(rate.VERSION), "usual": testimony.sealed(turned.usual)}
    return told


def form() -> type[RateState]:
    """Return what a `WatchFile` of rates keeps."""
    from whimbrel_core.profile.watching.rate import RateState

    return RateState
