"""What the ``whimbrel agent`` commands are answered on the admin socket."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from whimbrel_agent.control import report
from whimbrel_agent.system import resources
from whimbrel_core.errors import InputError, UnavailableError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from whimbrel_agent.control.admin import Request
    from whimbrel_agent.control.sockets import Listeners
    from whimbrel_agent.control.supervisor import Supervisor
    from whimbrel_agent.telemetry.outbox import Outbox
    from whimbrel_agent.telemetry.publisher import Publisher
    from whimbrel_agent.update.driver import Driver
    from whimbrel_agent.update.messages import Failure
    from whimbrel_core.wire.messages import State


class Answers:
    """The handlers of `whimbrel_agent.control.admin.Admin`.

    Args:
        driver: knows what is in quarantine.
        supervisor: knows the worker.
        listeners: where requests are answered.
        outbox: what waits to be sent.
        publisher: the connection to the fleet; None where none is configured.
        reported_state: returns the device as it is now.
        sync: brings trust and tries again what waits; None where no repository is configured.
    """

    def __init__(
        self,
        driver: Driver,
        supervisor: Supervisor,
        listeners: Listeners,
        outbox: Outbox,
        publisher: Publisher | None,
        *,
        reported_state: Callable[[], State],
        sync: Callable[[], Awaitable[Failure | None]] | None,
    ) -> None:
        self._driver, self._supervisor, self._listeners = driver, supervisor, listeners
        self._outbox, self._publisher = outbox, publisher
        self._reported_state, self._sync_now = reported_state, sync

    @property
    def handlers(self) -> Mapping[str, Callable[[Request], Awaitable[object]]]:
        """The handlers by name."""
        return {
            "status": self._status,
            "sync": self._sync,
            "outbox": self._outbox_totals,
            "forgive": self._forgive,
        }

    async def _status(self, _request: Request) -> dict[str, Any]:
        publisher = self._publisher
        return report.status(
            self._reported_state(),
            self._outbox.totals(),
            quarantined=self._driver.quarantined,
            http={"host": self._listeners.host, "port": self._listeners.port},
            worker={"pid": self._supervisor.pid, "restarts": self._supervisor.restarts},
            fleet={
                "configured": publisher is not None,
                "connected": publisher is not None and publisher.connected,
                "consumer": publisher is not None and publisher.consumer,
                "last_error": publisher.last_error if publisher is not None else "",
                "sent": publisher.sent if publisher is not None else 0,
                "resent": publisher.resent if publisher is not None else 0,
                "refused_messages": publisher.refused_messages if publisher is not None else 0,
            },
            clock=resources.clock_quality(),
            epoch=self._outbox.epoch,
        )

    async def _sync(self, _request: Request) -> dict[str, Any]:
        if self._sync_now is None:
            msg = "no repository is configured"
            raise InputError(msg, hint="set repository.url in agent.toml")
        failure = await self._sync_now()
        if failure is not None:
            raise UnavailableError(failure.message, code=failure.code, hint=failure.hint or None)
        return {"synced": True}

    async def _outbox_totals(self, _request: Request) -> dict[str, Any]:
        return dict(msgspec.to_builtins(self._outbox.totals()))

    async def _forgive(self, request: Request) -> dict[str, Any]:
        matches = [d for d in self._driver.quarantined if d.startswith(request.digest)]
        if not request.digest or len(matches) != 1:
            held = len(self._driver.quarantined)
            msg = f"{request.digest!r} names {len(matches)} of the {held} digests in quarantine, not one"
            raise InputError(msg, hint="see 'whimbrel agent status'", code="quarantine.unknown")
        self._driver.forgive(matches[0])
        return {"forgiven": matches[0]}
