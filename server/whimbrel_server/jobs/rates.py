"""Ends the alerts about how much a slot is asked when there is no such slot any more."""

from __future__ import annotations

from typing import TYPE_CHECKING

from whimbrel_server.store import alerts, rates

if TYPE_CHECKING:
    from whimbrel_server.store.database import Database
    from whimbrel_server.store.registry import Registry


def watch_slots(database: Database, registry: Registry, now_ms: int) -> None:
    """Close the alerts of slots that their device has no more: no event will end them."""
    held = {
        record.device: {slot.slot for slot in record.state.slots}
        for record in registry.all()
        if record.state is not None
    }
    with database.read() as connection:
        known = alerts.causes(connection, rates.PREFIX)
    for cause in known:
        _, device, slot = cause.split("/", 2)
        if device in held and slot not in held[device]:
            database.write(lambda connection, cause=cause: alerts.close(connection, cause, now_ms))  # type: ignore[misc]
