"""What every lasting drift is expected to cost so far, kept beside its alert.

It is no part of the verdict: that says what was found when it was found, and this goes on with every
window that comes. Levels do not hang on it; lists are sorted by it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import sqlalchemy as sa

from whimbrel_core.errors import WhimbrelError
from whimbrel_server.domain import verdict
from whimbrel_server.queries import losses
from whimbrel_server.store import alerts, schema

if TYPE_CHECKING:
    from whimbrel_server.domain.verdict import Verdict
    from whimbrel_server.repository import Repository
    from whimbrel_server.store.database import Database
    from whimbrel_server.views.alerts import AlertView
    from whimbrel_server.views.drift import LossView

# In one round; the rest is done in the next ones. One takes a few ms.
_AT_ONCE = 200


class Costs:
    """Brings the expected costs of open drift alerts up to date.

    Args:
        database, repository: judgements, alerts and baselines.
    """

    def __init__(self, database: Database, repository: Repository) -> None:
        self._database, self._repository = database, repository
        # What each was last worked out from: an alert whose devices sent nothing new costs nothing.
        self._seen: dict[int, tuple[int, object]] = {}

    def tick(self) -> None:
        """Work out what has something new to it."""
        with self._database.read() as connection:
            lasting = alerts.lasting(connection, ("drift",))
            found: dict[int, LossView | None] = {}
            for alert in lasting:
                one = verdict.read(alert.evidence)
                if one is None or len(found) >= _AT_ONCE:
                    continue
                mark = (_newest(connection, one), one.figures.get("since_ms"))
                if self._seen.get(alert.id) != mark:
                    found[alert.id] = self._cost(connection, one)
                    self._seen[alert.id] = mark
        self._seen = {one.id: self._seen[one.id] for one in lasting if one.id in self._seen}
        changed = {
            number: loss for number, loss in found.items() if loss != _known(lasting, number)
        }
        if changed:
            self._database.write(lambda connection: alerts.set_losses(connection, changed))

    def _cost(self, connection: sa.Connection, one: Verdict) -> LossView | None:
        try:
            baseline = self._repository.contents(one.digest).baseline
        except WhimbrelError:  # withdrawn: what was known of it stays
            return None
        since_ms = one.figures.get("since_ms")
        found = losses.since(
            connection, baseline, one.digest, verdict.subjects_of(one), since_ms=since_ms
        )
        return found[0] if found else None


def _newest(connection: sa.Connection, one: Verdict) -> int:
    table = schema.judgements
    query = sa.select(sa.func.max(table.c.start_ms)).where(
        table.c.digest == one.digest, table.c.subject.in_(verdict.subjects_of(one))
    )
    return connection.execute(query).scalar() or 0


def _known(lasting: tuple[AlertView, ...], number: int) -> LossView | None:
    return next(one.loss for one in lasting if one.id == number)
