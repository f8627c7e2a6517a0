"""Reading aggregates: merged profiles by version, subject and period."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import sqlalchemy as sa

from whimbrel_core.profile import window as profile_windows
from whimbrel_server.domain.totals import Totals
from whimbrel_server.store import schema

if TYPE_CHECKING:
    from whimbrel_core.profile.layout import Layout
    from whimbrel_server.domain.aggregation import Step


class Period(msgspec.Struct, frozen=True):
    """One aggregate: where it begins, how many windows are in it, and their merged counts."""

    bucket_ms: int
    windows: int
    payload: bytes

    @property
    def window(self) -> profile_windows.Window:
        """The counts, read anew at each use: who needs them again keeps what is made of them."""
        return profile_windows.decode(self.payload)


def periods(
    connection: sa.Connection,
    digest: str,
    subject: str,
    step: Step,
    *,
    since_ms: int | None = None,
    until_ms: int | None = None,
    newest: int | None = None,
) -> list[Period]:
    """Return the aggregates of one version and subject in the order of time.

    Only periods that begin in [``since_ms``, ``until_ms``), and at most the ``newest`` so many.
    """
    table = schema.aggregates
    query = sa.select(table.c.bucket_ms, table.c.windows, table.c.payload).where(
        table.c.digest == digest, table.c.subject == subject, table.c.step == step
    )
    if since_ms is not None:
        query = query.where(table.c.bucket_ms >= since_ms)
    if until_ms is not None:
        query = query.where(table.c.bucket_ms < until_ms)
    query = query.order_by(table.c.bucket_ms.desc())
    if newest is not None:
        query = query.limit(newest)
    rows = connection.execute(query).all()
    return [Period(row.bucket_ms, row.windows, row.payload) for row in reversed(rows)]


def total(layout: Layout, found: list[Period]) -> Totals:
    """Return all of ``found`` together."""
    totals = Totals(layout)
    for period in found:
        totals.add(Totals.of(layout, period.window, period.windows))
    return totals
