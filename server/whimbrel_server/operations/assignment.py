"""Assigning a version to one device directly, without a rollout."""

from __future__ import annotations

from typing import TYPE_CHECKING

from whimbrel_core import identity
from whimbrel_core.errors import UsageError
from whimbrel_core.wire.assignment import SlotAssignment
from whimbrel_server.store import audit
from whimbrel_server.store import rollouts as rollout_store

if TYPE_CHECKING:
    import sqlalchemy as sa

    from whimbrel_server.repository import Repository
    from whimbrel_server.store.assignments import Assignments, Desired
    from whimbrel_server.store.database import Database


def assign(
    database: Database,
    repository: Repository,
    assignments: Assignments,
    *,
    device: str,
    slot: str,
    model: str,
    version: str,
    actor: str,
    now_ms: int,
) -> Desired:
    """Assign a version to a slot of an enrolled device; return the document to publish.

    Raises:
        UsageError: no such version (``not_found``), no fleet key, or a rollout moves this slot of
            this device (``conflict``).
        TrustError: the bundle's signature or bytes do not hold.
    """
    identity.slot_name(slot)
    published = repository.find(model, version)
    assignments.require_key()
    wanted = SlotAssignment(path=published.path, digest=published.digest, length=published.length)

    def change(connection: sa.Connection) -> Desired:
        for rollout in rollout_store.going(connection):
            devices = {one for wave in rollout.plan.waves for one in wave.devices}
            if rollout.slot == slot and device in devices:
                raise UsageError(
                    f"rollout {rollout.id} moves slot {slot} of {device}",
                    hint="wait for its end, or abort it",
                    code="conflict",
                )
        desired = assignments.change(connection, device, slot, wanted, now_ms)
        detail = {"slot": slot, "model": model, "version": version}
        detail["revision"] = str(desired.revision)
        audit.note(connection, now_ms, actor, "device.assign", device, detail)
        return desired

    return database.write(change)
