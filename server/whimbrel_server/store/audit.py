"""The audit trail: who did what, when."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import sqlalchemy as sa

from whimbrel_server.store import schema
from whimbrel_server.views.audit import AuditView

if TYPE_CHECKING:
    from collections.abc import Mapping

SERVER = "server"


def note(  # noqa: PLR0917 - when, who, what, to which
    connection: sa.Connection,
    at_ms: int,
    actor: str,
    action: str,
    subject: str,
    detail: Mapping[str, object] | None = None,
) -> None:
    """Add an entry, in the transaction of what it is about."""
    row = {
        "at_ms": at_ms,
        "actor": actor[:200],
        "action": action,
        "subject": subject[:200],
        "detail": msgspec.json.encode(dict(detail or {})),
    }
    connection.execute(sa.insert(schema.audit), row)


def listing(connection: sa.Connection, limit: int) -> tuple[AuditView, ...]:
    """Return entries, newest first."""
    table = schema.audit
    rows = connection.execute(sa.select(table).order_by(table.c.id.desc()).limit(limit))
    return tuple(
        AuditView(
            at_ms=row.at_ms,
            actor=row.actor,
            action=row.action,
            subject=row.subject,
            detail=msgspec.json.decode(row.detail),
        )
        for row in rows
    )
