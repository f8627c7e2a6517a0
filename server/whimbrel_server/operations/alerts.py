"""Acknowledging alerts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from whimbrel_server.store import alerts, audit

if TYPE_CHECKING:
    import sqlalchemy as sa

    from whimbrel_server.store.database import Database
    from whimbrel_server.views.alerts import AlertView


def acknowledge(database: Database, alert_id: int, actor: str, now_ms: int) -> AlertView:
    """Mark an alert as seen.

    Raises:
        UsageError: there is no such alert (``not_found``), or it is closed (``conflict``).
    """

    def change(connection: sa.Connection) -> AlertView:
        view = alerts.acknowledge(connection, alert_id, actor, now_ms)
        audit.note(connection, now_ms, actor, "alert.acknowledge", f"alert {alert_id}")
        return view

    return database.write(change)
