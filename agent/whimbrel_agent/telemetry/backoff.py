"""When to try again: full jitter, reset only by a stable session.

After an outage every device of a fleet wants to come back at once. A pause is drawn evenly from
zero to a bound that doubles, so that they come back spread out; paho's own pauses double without
any randomness, so it is not asked.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

_MAX_EXPONENT = 32
_LEAST = 16


class Reconnect:
    """Decides the pause before each try to connect.

    Args:
        max_s: largest bound of a pause.
        stable_s: a session this long was stable.
        uniform: draws evenly between two numbers (`random.uniform`).
    """

    def __init__(
        self, max_s: float, stable_s: float, uniform: Callable[[float, float], float]
    ) -> None:
        self._max_s = max_s
        self._stable_s = stable_s
        self._uniform = uniform
        self._tries = 0

    def after_failure(self) -> float:
        """Return the pause after a try that gave no session, in seconds."""
        pause = self._uniform(0.0, min(self._max_s, 2.0 ** min(self._tries, _MAX_EXPONENT)))
        self._tries += 1
        return pause

    def after_session(self, lasted_s: float, spread_s: float) -> float:
        """Return the pause after a session was lost, in seconds.

        Args:
            lasted_s: how long it was.
            spread_s: over how long the server wants the fleet to come back, 0 if it did not say.
        """
        if lasted_s < self._stable_s:
            return max(self.after_failure(), self._uniform(0.0, max(0.0, spread_s)))
        self._tries = 0
        return self._uniform(0.0, spread_s if spread_s > 0 else 1.0)


class Resend:
    """Decides how long silence may last before what is unacknowledged is sent again, and how much.

    Rows that are sent again wait in the same queue as those sent before. Where a whole fleet comes
    back to a slow broker, sending as much again after every silence would fill that queue faster
    than it drains, and acknowledgements, which wait in it too, would never arrive in time. So each
    silence halves what may be on its way, and each acknowledged row lets one more go (Jacobson,
    "Congestion avoidance and control", 1988).

    Args:
        first_s: the shortest silence.
        most: rows that may be on their way at best.
        max_s: the longest silence.
    """

    def __init__(self, first_s: float, most: int, max_s: float = 60.0) -> None:
        self._first_s = first_s
        self._max_s = max_s
        self._most = most
        self.wait_s = first_s
        self.window = most

    def heard(self, rows: int) -> None:
        """Note an acknowledgement of ``rows``."""
        self.wait_s = self._first_s
        self.window = min(self._most, self.window + rows)

    def somebody_else(self) -> None:
        """Note that another server is there, which may have nothing of what was sent."""
        self.wait_s = self._first_s

    def sent_again(self) -> None:
        """Note that it was in vain, or lost again: wait longer next time, for less."""
        self.wait_s = min(self._max_s, self.wait_s * 2)
        self.window = max(min(_LEAST, self._most), self.window // 2)
