"""Answering devices that came (back): with their document, or with an alert about their outbox."""

from __future__ import annotations

import logging
from collections import deque
from typing import TYPE_CHECKING

from whimbrel_server.domain import devices
from whimbrel_server.store import alerts

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from whimbrel_server.domain.devices import Notice
    from whimbrel_server.ingest.journal import Committed
    from whimbrel_server.store.assignments import Assignments, Desired
    from whimbrel_server.store.database import Database
    from whimbrel_server.store.registry import Registry

log = logging.getLogger(__name__)

_SUSPICIONS: dict[Notice, str] = {
    "cloned": "two devices report as it: an outbox that was left behind is back",
    "reimaged": "its disk was made anew: a new outbox has begun",
}


class Births:
    """Remembers the births that ingest committed, and answers them at the next tick.

    Args:
        database, registry, assignments: what it stands on.
        publish: sends a device's document.
        now_ms: the wall clock.
    """

    def __init__(
        self,
        database: Database,
        registry: Registry,
        assignments: Assignments,
        *,
        publish: Callable[[Iterable[Desired]], None],
        now_ms: Callable[[], int],
    ) -> None:
        self._database, self._registry, self._assignments = database, registry, assignments
        self._publish, self._now_ms = publish, now_ms
        self._waiting: deque[tuple[str, Notice]] = deque()
        self._raised: deque[str] = deque()

    def note(self, done: Committed) -> None:
        """Remember the births of a commit; safe to call from any thread, and quick."""
        self._waiting.extend((device, "born") for device in done.born)
        self._raised.extend(done.raised)
        for device, notice in done.notices:
            if notice in _SUSPICIONS:
                log.warning("device %s is %s: its outbox epoch changed", device, notice)
                self._waiting.append((device, notice))

    def tick(self) -> None:
        """Answer what was noted."""
        while self._waiting:
            device, notice = self._waiting.popleft()
            if notice == "born":
                self._answer(device)
            else:
                self._suspect(device, notice)
        while self._raised:
            self._answer(self._raised.popleft(), ahead_only=True)

    def _answer(self, device: str, *, ahead_only: bool = False) -> None:
        """Publish the device's document again; above what the device has seen, if that is more.

        A server that was restored from a backup while its devices stayed connected hears no birth:
        there the reported revision alone tells that they are ahead.
        """
        record = self._registry.require(device)
        with self._database.read() as connection:
            desired = self._assignments.desired(connection, device)
        if desired is None:
            return
        ahead = devices.revision_seen(record.presence, record.state) > desired.revision
        if ahead_only and not ahead:
            return
        if ahead:
            now_ms = self._now_ms()
            desired = self._database.write(
                lambda connection: self._assignments.issue(connection, device, now_ms)
            )
            log.info("%s had seen a newer revision; issued %d", device, desired.revision)
        self._publish([desired])

    def _suspect(self, device: str, notice: Notice) -> None:
        now_ms = self._now_ms()
        alert = alerts.NewAlert(
            cause=f"{notice}/{device}/{now_ms}",
            at_ms=now_ms,
            kind="device",
            severity="severe" if notice == "cloned" else "notice",
            message=f"{device}: {_SUSPICIONS[notice]}",
            device=device,
        )
        self._database.write(lambda connection: alerts.raise_alert(connection, alert, now_ms))
