"""Whether a slot is asked far more, or far less, than it usually is: the device's own alarm.

The rule is `whimbrel_core.profile.watching.rate`. The usual belongs to the slot and outlives versions. What
a process cannot know to be whole is not judged: the first window that it closes, which may have
begun before it, and those that it closes because it ends.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from whimbrel_agent.telemetry.watchfile import WatchFile
    from whimbrel_core.profile.watching.rate import Rate, RateState
    from whimbrel_core.profile.window import Window

KIND = "rate"


class RateWatch:
    """Follows the requests to one slot.

    Args:
        file: remembers what is usual; None: only this object does.
    """

    def __init__(self, file: WatchFile[RateState] | None = None) -> None:
        self._file = file
        self._state: RateState | None = None
        self._first_ms: int | None = None

    def observe(self, window: Window, *, ending: bool = False) -> Rate | None:
        """Take a closed window in and return its period's rate where the alarm has changed.

        Args:
            window: with the rows of one version.
            ending: whether it was closed because the process ends.
        """
        # Not needed before the first window ends, so not at a cold start either.
        from whimbrel_core.profile.watching import rate

        state = self._file.load() if self._file is not None else self._state
        if self._first_ms is None:
            self._first_ms = window.start_ms
        self._state, said = rate.observe(
            state or rate.RateState(),
            window.start_ms,
            window.end_ms,
            window.ops.requests or window.rows,
            whole=not ending and window.start_ms != self._first_ms,
        )
        if self._file is not None:
            self._file.save(self._state)
        return None if said is None or said.before == said.now else said


def detail(said: Rate) -> dict[str, str]:
    """Return a change of the alarm as the detail of an event."""
    return {
        "before": said.before,
        "now": said.now,
        "requests": str(said.requests),
        "expected": f"{said.expected:.1f}",
        "z": f"{said.z:.2f}",
        "window_start_ms": str(said.start_ms),
        "window_end_ms": str(said.end_ms),
        "what": "" if said.finding is None else said.finding.message,
    }


def form() -> type[RateState]:
    """Return what a `WatchFile` of rates keeps."""
    from whimbrel_core.profile.watching.rate import RateState

    return RateState
