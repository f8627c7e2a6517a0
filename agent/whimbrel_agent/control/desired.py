"""What the fleet wants of this device: verified in a process apart, and handed to the driver."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from whimbrel_agent.update import child, trust
from whimbrel_agent.update.messages import Failure, VerifyRequest
from whimbrel_core.errors import StorageError

if TYPE_CHECKING:
    from collections.abc import Callable

    from whimbrel_agent.control.state import StateFile
    from whimbrel_agent.paths import DataDirectory
    from whimbrel_agent.update.driver import Driver

_VERIFY_TIMEOUT_S = 30.0
_AGAIN_S = 5.0


class Desired:
    """The newest desired document; older ones are passed over.

    Args:
        device: whom a document must be for.
        home: where the fleet's keys are.
        state: knows the revision that was taken last.
        driver: does what is assigned, and brings trust.
        error: told in a sentence what was refused, or cannot be taken yet.
    """

    def __init__(
        self,
        device: str,
        home: DataDirectory,
        state: StateFile,
        driver: Driver,
        *,
        error: Callable[[str], None],
    ) -> None:
        self._device, self._home, self._state, self._driver = device, home, state, driver
        self._error = error
        self._newest: bytes | None = None
        self._accepted: bytes | None = None
        self._due = asyncio.Event()

    def receive(self, envelope: bytes) -> None:
        """Take note of a document; `take` looks at it."""
        self._newest = envelope
        self._due.set()

    def again(self) -> None:
        """Have the newest document looked at again, if there is one."""
        if self._newest is not None:
            self._due.set()

    async def take(self) -> None:
        """Verify documents as they come and hand them to the driver, until cancelled."""
        while True:
            await self._due.wait()
            self._due.clear()
            envelope = self._newest
            if envelope is None or envelope == self._accepted:
                # The same document comes with every session: once verified is enough.
                continue
            failure = await self._verify(envelope)
            if failure is not None and failure.code in {"trust.signature", "trust.fleet"}:
                # Perhaps the fleet's key is new: the publisher says which it is.
                unreachable = await self._driver.bring_trust()
                failure = await self._verify(envelope) if unreachable is None else unreachable
            if failure is not None and failure.retryable:
                # The publisher does not answer, or the disk is full: later it may hold.
                self._error(f"desired state cannot be taken yet: {failure.message}")
                if self._newest is envelope:
                    asyncio.get_running_loop().call_later(_AGAIN_S, self._due.set)
            elif failure is not None:
                self._error(f"desired state refused: {failure.message}")
            else:
                self._accepted = envelope

    async def _verify(self, envelope: bytes) -> Failure | None:
        try:
            keys = trust.fleet(self._home.fleet_json)
            if not keys:
                return Failure("trust.fleet", "the fleet's key is not known yet")
            answer = await child.run(
                "whimbrel_agent.update.verify",
                VerifyRequest(envelope, keys, self._device, self._state.get_int("revision")),
                timeout_s=_VERIFY_TIMEOUT_S,
                what="verify",
            )
            if answer.assignment is not None:
                self._driver.assign(answer.assignment)
        except StorageError as error:
            return child.failure(error)
        return answer.failure
