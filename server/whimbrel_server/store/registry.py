"""The devices, as records in memory and rows in the database.

The writer thread is the only one that changes a record; everybody may read. A record is frozen,
so a reader always holds a whole one.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import msgspec
import sqlalchemy as sa

from whimbrel_core.errors import UsageError
from whimbrel_core.wire.messages import State
from whimbrel_server.domain.devices import Presence
from whimbrel_server.store import schema

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from whimbrel_server.store.database import Database


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """One device. ``labels`` are the operator's; the device's own are in its state."""

    device: str
    labels: dict[str, str] = {}
    enrolled_ms: int | None = None
    presence: Presence = Presence()
    state: State | None = None
    last_seen_ms: int | None = None
    last_window_end_ms: int | None = None

    @property
    def effective_labels(self) -> dict[str, str]:
        """The device's labels with the operator's over them."""
        return {**(self.state.labels if self.state else {}), **self.labels}

    def row(self) -> dict[str, object]:
        """Return the record as a row of the table."""
        return {
            "device": self.device,
            "labels": msgspec.json.encode(self.labels),
            "enrolled_ms": self.enrolled_ms,
            "presence": msgspec.msgpack.encode(self.presence),
            "state": None if self.state is None else msgspec.msgpack.encode(self.state),
            "last_seen_ms": self.last_seen_ms,
            "last_window_end_ms": self.last_window_end_ms,
        }


class Registry:
    """All device records."""

    def __init__(self, database: Database) -> None:
        self._lock = threading.Lock()
        with database.read() as connection:
            rows = connection.execute(sa.select(schema.devices)).all()
        self._records = {row.device: _record(row) for row in rows}

    def get(self, device: str) -> Record | None:
        """Return a device's record, or None for a device that is not enrolled."""
        return self._records.get(device)

    def require(self, device: str) -> Record:
        """Return a device's record.

        Raises:
            UsageError: the device is not enrolled (``not_found``).
        """
        record = self.get(device)
        if record is None:
            raise UsageError(
                f"device {device!r} is not enrolled",
                hint="see 'whimbrel fleet devices'",
                code="not_found",
            )
        return record

    def all(self) -> tuple[Record, ...]:
        """Return all records by device id."""
        with self._lock:
            return tuple(self._records[name] for name in sorted(self._records))

    def __len__(self) -> int:
        """Return how many devices there are."""
        return len(self._records)

    def labels_of(self, device: str) -> tuple[str, ...]:
        """Return a device's labels as ``key=value``; none for a device that is not known."""
        record = self.get(device)
        labels = {} if record is None else record.effective_labels
        return tuple(f"{key}={value}" for key, value in sorted(labels.items()))

    def serving(self, digest: str) -> Iterator[tuple[str, dict[str, str]]]:
        """Yield the devices that serve a bundle, or have not said what they serve, and labels."""
        for record in self.all():
            state = record.state
            if state is None or any(slot.digest == digest for slot in state.slots):
                yield record.device, record.effective_labels

    def settle(self, records: Mapping[str, Record]) -> None:
        """Take over records that were committed."""
        if records:
            with self._lock:
                self._records = {**self._records, **records}


def _record(row: sa.Row[tuple[object, ...]]) -> Record:
    return Record(
        device=row.device,
        labels=msgspec.json.decode(row.labels, type=dict[str, str]),
        enrolled_ms=row.enrolled_ms,
        presence=msgspec.msgpack.decode(row.presence, type=Presence),
        state=None if row.state is None else msgspec.msgpack.decode(row.state, type=State),
        last_seen_ms=row.last_seen_ms,
        last_window_end_ms=row.last_window_end_ms,
    )
