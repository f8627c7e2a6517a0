"""What the device says of itself: that it is alive, what it serves, what went wrong last."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING

from whimbrel_agent import __version__
from whimbrel_agent.control import report
from whimbrel_agent.system import resources
from whimbrel_core.errors import StorageError
from whimbrel_core.wire.messages import Life

if TYPE_CHECKING:
    from collections.abc import Callable

    from whimbrel_agent.config import Config
    from whimbrel_agent.control.state import StateFile
    from whimbrel_agent.paths import DataDirectory
    from whimbrel_agent.telemetry.outbox import Outbox
    from whimbrel_agent.update.driver import Driver
    from whimbrel_core.wire.messages import State

_log = logging.getLogger("whimbrel.agent")


class Presence:
    """One device before its fleet.

    Args:
        config: of the agent.
        home: data directory.
        state: keeps the incarnation.
        outbox: what waits to be sent.
        changed: called when there is something new to say.
    """

    def __init__(
        self,
        config: Config,
        home: DataDirectory,
        state: StateFile,
        outbox: Outbox,
        *,
        changed: Callable[[], None],
    ) -> None:
        self._config, self._home, self._state, self._outbox = config, home, state, outbox
        self._changed = changed
        self._last_error = ""
        if state.set_aside is not None:
            self._last_error = (
                f"agent.db was damaged and set aside as {state.set_aside.name}; "
                "a new outbox was begun"
            )
        self.incarnation = 0

    def begin(self) -> None:
        """Begin an incarnation: the next time that the device is alive."""
        try:
            self.incarnation = self._state.count_up("incarnation")
        except StorageError as error:
            # A full disk must not silence the device: it is just what has to be reported.
            self.error(error.message)
            self.incarnation = max(self.incarnation, self._state.get_int("incarnation")) + 1

    def birth(self) -> Life:
        """Begin an incarnation and return what announces it."""
        self.begin()
        return self.life()

    def life(self) -> Life:
        """Return that the device is alive, and what waits there."""
        totals = self._outbox.totals()
        return Life(
            device=self._config.device_id,
            alive=True,
            incarnation=self.incarnation,
            epoch=self._outbox.epoch,
            agent_version=__version__,
            revision=self._state.get_int("revision"),
            outbox_rows=totals.rows,
            outbox_bytes=totals.bytes,
            outbox_first=totals.first,
            outbox_last=totals.last,
            clock=resources.clock_quality(),
            config=self._config.fingerprint,
        )

    def reported_state(self, driver: Driver) -> State:
        """Return the device as it is now."""
        return report.reported_state(
            self._config.device_id,
            report.Facts(
                incarnation=self.incarnation,
                revision=self._state.get_int("revision"),
                memory_available_bytes=resources.memory_available_bytes(),
                disk_free_bytes=resources.disk_free_bytes(self._home.root),
                dropped_windows=self._state.get_int("dropped_windows"),
                bytes_downloaded=self._state.get_int("bytes_downloaded"),
                last_error=self._last_error or driver.last_error,
            ),
            driver.states,
            driver.quarantined,
            self._config.labels,
        )

    def error(self, sentence: str) -> None:
        """Log what went wrong, and tell the fleet with the next state."""
        _log.warning("%s", sentence)
        self._last_error = f"{time.strftime('%Y-%m-%dT%H:%M:%SZ', time.gmtime())} {sentence}"
        self._changed()
