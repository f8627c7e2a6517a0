"""What each device should serve, and the signed document that says so.

A change of one slot makes a new revision of the device's whole document, above every revision
that the server gave or the device has seen, signed in the same transaction: what is published is
always what is stored.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import sqlalchemy as sa

from whimbrel_core.errors import UsageError
from whimbrel_core.wire import assignment as wire
from whimbrel_server.domain import devices
from whimbrel_server.store import schema
from whimbrel_server.store.database import upsert

if TYPE_CHECKING:
    from whimbrel_core.signing.keys import Signer
    from whimbrel_core.wire.assignment import SlotAssignment
    from whimbrel_server.store.registry import Registry


class Desired(msgspec.Struct, frozen=True):
    """A device's newest document, as it is published."""

    device: str
    revision: int
    envelope: bytes


class Assignments:
    """Writes and reads assignments. Changes run on the writer thread.

    Args:
        registry: for the revision that a device has seen.
        signer: the fleet key; None: this server can assign nothing.
    """

    def __init__(self, registry: Registry, signer: Signer | None) -> None:
        self._registry, self._signer = registry, signer

    def require_key(self) -> Signer:
        """Return the fleet key.

        Raises:
            UsageError: this server has none.
        """
        if self._signer is None:
            raise UsageError(
                "this server has no fleet key, so it cannot assign anything",
                hint="put fleet.pem into the folder that [repository] online_keys names",
                code="config.fleet_key",
            )
        return self._signer

    def slots(self, connection: sa.Connection, device: str) -> dict[str, SlotAssignment]:
        """Return what a device should serve, by slot."""
        table = schema.assignments
        rows = connection.execute(
            sa.select(table.c.slot, table.c.payload).where(table.c.device == device)
        )
        return {
            row.slot: msgspec.json.decode(row.payload, type=wire.SlotAssignment) for row in rows
        }

    def all(self, connection: sa.Connection) -> dict[str, dict[str, SlotAssignment]]:
        """Return what every device should serve."""
        found: dict[str, dict[str, SlotAssignment]] = {}
        for row in connection.execute(sa.select(schema.assignments)):
            slot = msgspec.json.decode(row.payload, type=wire.SlotAssignment)
            found.setdefault(row.device, {})[row.slot] = slot
        return found

    def change(
        self,
        connection: sa.Connection,
        device: str,
        slot: str,
        wanted: SlotAssignment | None,
        now_ms: int,
    ) -> Desired:
        """Set (or with None: empty) one slot of a device and return the new document."""
        table = schema.assignments
        if wanted is None:
            connection.execute(
                sa.delete(table).where(table.c.device == device, table.c.slot == slot)
            )
        else:
            row = {
                "device": device,
                "slot": slot,
                "digest": wanted.digest,
                "payload": msgspec.json.encode(wanted),
            }
            upsert(connection, table, [row])
        return self.issue(connection, device, now_ms)

    def issue(self, connection: sa.Connection, device: str, now_ms: int) -> Desired:
        """Sign a device's document at a new revision."""
        signer = self.require_key()
        record = self._registry.get(device)
        seen = devices.revision_seen(record.presence, record.state) if record is not None else 0
        known = self.desired(connection, device)
        revision = devices.next_revision(known.revision if known else 0, seen)
        document = wire.Assignment(device, revision, self.slots(connection, device), now_ms)
        desired = Desired(device, revision, wire.sign(document, signer))
        row = {
            "device": device,
            "revision": revision,
            "issued_ms": now_ms,
            "envelope": desired.envelope,
        }
        upsert(connection, schema.desired, [row])
        return desired

    def desired(self, connection: sa.Connection, device: str) -> Desired | None:
        """Return a device's newest document."""
        table = schema.desired
        row = connection.execute(sa.select(table).where(table.c.device == device)).first()
        return None if row is None else Desired(device, row.revision, row.envelope)

    def everybody(self, connection: sa.Connection) -> tuple[Desired, ...]:
        """Return the newest document of every device."""
        rows = connection.execute(sa.select(schema.desired))
        return tuple(Desired(row.device, row.revision, row.envelope) for row in rows)
