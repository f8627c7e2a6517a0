"""Alerts: raised once per cause, updated while it lasts, closed when it ends."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
import sqlalchemy as sa

from whimbrel_core.errors import UsageError
from whimbrel_server.store import schema
from whimbrel_server.views.alerts import AlertKind, AlertView, Severity
from whimbrel_server.views.drift import LossView

if TYPE_CHECKING:
    from collections.abc import Mapping

    from whimbrel_server.views.alerts import AlertState

_SEVERITIES: tuple[Severity, ...] = ("notice", "warn", "severe")


class NewAlert(msgspec.Struct, frozen=True, kw_only=True):
    """Something to be known. ``cause`` names it for as long as it lasts.

    ``scope``: the cohort or fleet that it is about, where it is not about one device. ``again``: it
    is news once more, though no worse.
    """

    cause: str
    at_ms: int
    kind: AlertKind
    severity: Severity
    message: str
    device: str = ""
    model: str = ""
    version: str = ""
    feature: str = ""
    evidence: dict[str, Any] = {}
    scope: str = ""
    again: bool = False


def raise_alert(connection: sa.Connection, alert: NewAlert, now_ms: int) -> bool:
    """Raise ``alert``, or bring the open one of its cause up to date; return whether it is new.

    One that grew worse is announced again, and needs a person's acknowledgement again.
    """
    table = schema.alerts
    known = connection.execute(
        sa.select(table.c.id, table.c.severity, table.c.under).where(
            table.c.cause == alert.cause, table.c.state != "closed"
        )
    ).first()
    changing = {
        "severity": alert.severity,
        "message": alert.message,
        "evidence": msgspec.json.encode(alert.evidence),
        "updated_ms": now_ms,
        "scope": alert.scope,
    }
    if known is None:
        row = {
            **{
                name: value
                for name, value in msgspec.structs.asdict(alert).items()
                if name != "again"
            },
            **changing,
            "raised_ms": now_ms,
            "state": "open",
            "announced": False,
        }
        connection.execute(sa.insert(table), row)
        return True
    worse = _SEVERITIES.index(alert.severity) > _SEVERITIES.index(known.severity)
    again: dict[str, object] = {"announced": False, "state": "open"} if worse else {}
    if alert.again:
        again = {"announced": False, **again}
    if known.under:
        again = {}  # whatever it stands under is told in its place
    connection.execute(sa.update(table).where(table.c.id == known.id).values(**changing, **again))
    return False


def hang(connection: sa.Connection, prefix: str, feature: str, under: str) -> None:
    """Let the open alerts of one feature, by how their causes begin, stand under another's cause.

    They are told with it, and not by themselves any more. An empty ``under`` lets them stand by
    themselves again; what was told is not told once more.
    """
    table = schema.alerts
    connection.execute(
        sa.update(table)
        .where(
            table.c.cause.startswith(prefix, autoescape=True),
            table.c.feature == feature,
            table.c.state != "closed",
            table.c.under != under,
        )
        .values({"under": under} | ({"announced": True} if under else {}))
    )


def put_under(connection: sa.Connection, cause: str, under: str) -> None:
    """Let the open alert of ``cause`` stand under another's cause, or by itself again (empty)."""
    table = schema.alerts
    connection.execute(
        sa.update(table)
        .where(table.c.cause == cause, table.c.state != "closed", table.c.under != under)
        .values({"under": under} | ({"announced": True} if under else {}))
    )


def release(connection: sa.Connection, under: str) -> None:
    """Let whatever stands under a cause stand by itself again; what was told is not told once more."""
    table = schema.alerts
    connection.execute(
        sa.update(table).where(table.c.under == under, table.c.state != "closed").values(under="")
    )


def add_to_message(connection: sa.Connection, cause: str, phrase: str) -> None:
    """Add a phrase to the message of the open alert of ``cause``, once."""
    table = schema.alerts
    connection.execute(
        sa.update(table)
        .where(
            table.c.cause == cause,
            table.c.state != "closed",
            ~table.c.message.contains(phrase.partition(":")[0], autoescape=True),
        )
        .values(message=table.c.message + "; " + phrase)
    )


def evidence_of(connection: sa.Connection, prefix: str) -> dict[str, dict[str, Any]]:
    """Return the evidence of alerts that are not closed, by cause, by how the causes begin."""
    table = schema.alerts
    rows = connection.execute(
        sa.select(table.c.cause, table.c.evidence).where(
            table.c.cause.startswith(prefix, autoescape=True), table.c.state != "closed"
        )
    )
    return {row.cause: msgspec.json.decode(row.evidence) for row in rows}


def close(connection: sa.Connection, cause: str, now_ms: int) -> None:
    """Close the alert of ``cause``, if there is one."""
    table = schema.alerts
    connection.execute(
        sa.update(table)
        .where(table.c.cause == cause, table.c.state != "closed")
        .values(state="closed", updated_ms=now_ms)
    )


def acknowledge(connection: sa.Connection, alert_id: int, actor: str, now_ms: int) -> AlertView:
    """Mark an open alert as seen by ``actor``.

    Raises:
        UsageError: there is no such alert (``not_found``), or it is closed (``conflict``).
    """
    table = schema.alerts
    row = connection.execute(sa.select(table).where(table.c.id == alert_id)).first()
    if row is None:
        raise UsageError(f"there is no alert {alert_id}", code="not_found")
    if row.state == "closed":
        raise UsageError(f"alert {alert_id} is closed already", code="conflict")
    connection.execute(
        sa.update(table)
        .where(table.c.id == alert_id)
        .values(state="acknowledged", acknowledged_by=actor, updated_ms=now_ms)
    )
    # Who has seen a drift of many devices has seen those of its devices, and what is under these.
    connection.execute(
        sa.update(table)
        .where(table.c.cause.in_(_beneath(connection, row.cause)), table.c.state == "open")
        .values(state="acknowledged", acknowledged_by=actor, updated_ms=now_ms)
    )
    return view(connection.execute(sa.select(table).where(table.c.id == alert_id)).one())


def _beneath(connection: sa.Connection, cause: str) -> set[str]:
    """Return the causes of what stands under ``cause``, at any depth, and is not closed."""
    table = schema.alerts
    found, above = set[str](), {cause} - {""}
    while above:
        query = sa.select(table.c.cause).where(table.c.under.in_(above), table.c.state != "closed")
        above = set(connection.execute(query).scalars()) - found - {"", cause}
        found |= above
    return found


def get(connection: sa.Connection, alert_id: int) -> AlertView:
    """Return one alert. Raises `UsageError` (``not_found``) when there is none."""
    table = schema.alerts
    row = connection.execute(sa.select(table).where(table.c.id == alert_id)).first()
    if row is None:
        raise UsageError(
            f"there is no alert {alert_id}", hint="see 'whimbrel fleet alerts'", code="not_found"
        )
    return view(row)


def listing(
    connection: sa.Connection, state: AlertState | None, limit: int
) -> tuple[AlertView, ...]:
    """Return alerts, newest first; those that stand under others after all that do not."""
    table = schema.alerts
    query = sa.select(table).order_by(table.c.under != "", table.c.id.desc()).limit(limit)
    if state is not None:
        query = query.where(table.c.state == state)
    return tuple(view(row) for row in connection.execute(query))


def lasting(connection: sa.Connection, kinds: tuple[str, ...]) -> tuple[AlertView, ...]:
    """Return the alerts of some kinds that are not closed, oldest first."""
    table = schema.alerts
    query = sa.select(table).where(table.c.state != "closed", table.c.kind.in_(kinds))
    return tuple(view(row) for row in connection.execute(query.order_by(table.c.id)))


def causes(connection: sa.Connection, prefix: str) -> tuple[str, ...]:
    """Return the causes of alerts that are not closed, by how the causes begin."""
    table = schema.alerts
    query = sa.select(table.c.cause).where(
        table.c.cause.startswith(prefix, autoescape=True), table.c.state != "closed"
    )
    return tuple(connection.execute(query).scalars())


def unannounced(connection: sa.Connection, limit: int = 100) -> tuple[AlertView, ...]:
    """Return alerts that nobody has been told of yet, oldest first."""
    table = schema.alerts
    query = sa.select(table).where(table.c.announced.is_(False)).order_by(table.c.id).limit(limit)
    return tuple(view(row) for row in connection.execute(query))


def set_losses(connection: sa.Connection, losses: Mapping[int, LossView | None]) -> None:
    """Put what drifts are expected to cost beside their alerts, by number."""
    table = schema.alerts
    for number, loss in losses.items():
        encoded = None if loss is None else msgspec.json.encode(loss)
        connection.execute(sa.update(table).where(table.c.id == number).values(loss=encoded))


def mark_announced(connection: sa.Connection, alert_id: int) -> None:
    """Remember that an alert was announced."""
    table = schema.alerts
    connection.execute(sa.update(table).where(table.c.id == alert_id).values(announced=True))


def view(row: sa.Row[Any]) -> AlertView:
    """Return a row as a view."""
    return AlertView(
        id=row.id,
        at_ms=row.at_ms,
        raised_ms=row.raised_ms,
        updated_ms=row.updated_ms,
        kind=row.kind,
        severity=row.severity,
        message=row.message,
        device=row.device,
        model=row.model,
        version=row.version,
        feature=row.feature,
        evidence=msgspec.json.decode(row.evidence),
        state=row.state,
        acknowledged_by=row.acknowledged_by,
        scope=row.scope,
        under=row.under,
        cause=row.cause,
        loss=None if row.loss is None else msgspec.json.decode(row.loss, type=LossView),
    )
