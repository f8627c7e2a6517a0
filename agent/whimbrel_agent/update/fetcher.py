"""Brings what the repository has: bundles and trust files, by a process of its own, one at a time.

The process (`whimbrel_agent.update.updater`) touches the network and judges what it gets; here is
what it is told about the device, and what is counted of what it did.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

from whimbrel_agent.update import child
from whimbrel_agent.update.messages import UpdateRequest
from whimbrel_agent.update.metering import take_tally
from whimbrel_core.errors import StorageError

if TYPE_CHECKING:
    from whimbrel_agent.config import Config
    from whimbrel_agent.control.slots import SlotStore
    from whimbrel_agent.control.state import StateFile
    from whimbrel_agent.paths import DataDirectory
    from whimbrel_agent.update.ledger import Ledger
    from whimbrel_agent.update.messages import Answer, Failure, Wanted


class Fetcher:
    """Runs the updater.

    Args:
        config: the agent's configuration.
        home: data directory.
        state: ``agent.db``: the clock floor and the count of bytes.
        slots: the floors of releases in it.
        ledger: what the slots hold.
    """

    def __init__(
        self,
        config: Config,
        home: DataDirectory,
        state: StateFile,
        slots: SlotStore,
        ledger: Ledger,
    ) -> None:
        self._config = config
        self._home = home
        self._state = state
        self._store = slots
        self._ledger = ledger
        self._updating = asyncio.Lock()
        self._downloaded = 0

    async def run(self, wanted: Wanted | None) -> Answer:
        """Bring the newest trust files, and the bundle ``wanted``, if any.

        Raises:
            StorageError: the device's own state could not be read or stored.
        """
        async with self._updating:
            return await self._run(wanted)

    async def bring_trust(self) -> Failure | None:
        """Fetch the newest trust files without any bundle; return why not, if so."""
        if not self._config.repository.url:
            return None
        try:
            answer = await self.run(None)
        except StorageError as error:
            return child.failure(error)
        return answer.failure

    async def _run(self, wanted: Wanted | None) -> Answer:
        config = self._config
        held = tuple(path.stem for path in self._home.store.glob("*.whim"))
        known = {
            version.digest
            for state in self._ledger.states.values()
            for version in (state.current, state.previous)
            if version is not None and version.parity_passed
        }
        request = UpdateRequest(
            url=config.repository.url,
            data_dir=str(self._home.root),
            wanted=wanted,
            held=held,
            known=tuple(known),
            floors=self._store.floors(),
            device_classes=config.device_classes,
            ca=config.repository.ca,
            timeout_s=config.repository.timeout_s,
            max_bytes=config.limits.download_bytes,
            clock_floor_ms=self._state.get_int("clock_floor_ms"),
        )
        try:
            answer = await child.run(
                "whimbrel_agent.update.updater",
                request,
                timeout_s=config.limits.update_timeout_s,
                what="updater",
            )
        finally:
            # Also when it failed, was killed, or something newer is wanted meanwhile.
            self._downloaded += take_tally(self._home.tally)
            with contextlib.suppress(StorageError):
                self._count_downloaded()
        done = answer.updated
        if done is not None and done.clock_floor_ms > request.clock_floor_ms:
            self._state.save("clock_floor_ms", done.clock_floor_ms)
        return answer

    def _count_downloaded(self) -> None:
        """Add what came over the wire to the device's counter, now or when the disk takes it."""
        if self._downloaded:
            total = self._state.get_int("bytes_downloaded") + self._downloaded
            self._state.save("bytes_downloaded", total)
            self._downloaded = 0
