"""Labels of devices: what a label may be, and setting them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from whimbrel_core.errors import InputError
from whimbrel_server.store import audit, schema
from whimbrel_server.store.database import upsert

if TYPE_CHECKING:
    from collections.abc import Mapping

    import sqlalchemy as sa

    from whimbrel_server.store.database import Database
    from whimbrel_server.store.registry import Record, Registry

_MAX_LABELS = 32
_MAX_LABEL_CHARS = 64


def set_labels(
    database: Database,
    registry: Registry,
    device: str,
    labels: Mapping[str, str],
    *,
    actor: str,
    now_ms: int,
) -> None:
    """Set labels of a device; an empty value removes the label.

    Raises:
        InputError: a label is malformed, or they would be too many.
        UsageError: the device is not enrolled (``not_found``).
    """
    check(labels)
    registry.require(device)

    def change(connection: sa.Connection) -> Record:
        changed = merged(registry.require(device), labels)
        if len(changed.labels) > _MAX_LABELS:
            raise InputError(
                f"{device} would have {len(changed.labels)} labels, {_MAX_LABELS} are allowed"
            )
        upsert(connection, schema.devices, [changed.row()])
        audit.note(connection, now_ms, actor, "device.label", device, dict(labels))
        return changed

    database.write(change, lambda record: registry.settle({device: record}))


def merged(record: Record, labels: Mapping[str, str]) -> Record:
    """Return ``record`` with ``labels`` over its own; an empty value removes the label."""
    both = {**record.labels, **labels}
    return msgspec.structs.replace(
        record, labels={key: value for key, value in both.items() if value}
    )


def check(labels: Mapping[str, str]) -> None:
    """Refuse labels that are malformed, or too many.

    Raises:
        InputError: names the label.
    """
    for key, value in labels.items():
        if (
            not key
            or len(key) > _MAX_LABEL_CHARS
            or len(value) > _MAX_LABEL_CHARS
            or not (key + value).isprintable()
            or "=" in key
            or "/" in key
        ):
            raise InputError(
                f"{key!r}={value!r} is not a label",
                hint=f"a label is key=value, printable, up to {_MAX_LABEL_CHARS} characters each",
                code="input.label",
            )
    if len(labels) > _MAX_LABELS:
        raise InputError(f"{len(labels)} labels were given, {_MAX_LABELS} are allowed")
