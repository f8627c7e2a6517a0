"""The newest periods of a cohort or of the fleet, as they were judged and as they were counted."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import sqlalchemy as sa

from whimbrel_core.profile import flat
from whimbrel_core.profile.watching import alarms
from whimbrel_server.domain.rollups import Periods
from whimbrel_server.store import aggregates, judgements, schema

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from whimbrel_core.profile.flat import FlatWindow
    from whimbrel_server.domain.aggregation import Step
    from whimbrel_server.store.judgements import Kept, Said

# Of each group: enough to say what the average was before, and whether an effect lasts.
KEPT = 32


def newest(
    connection: sa.Connection, digest: str, subject: str, number: int = KEPT
) -> list[tuple[Kept, Said]]:
    """Return the newest judged windows or periods of a subject, oldest first."""
    table = schema.judgements
    payloads = connection.execute(
        sa.select(table.c.payload)
        .where(table.c.digest == digest, table.c.subject == subject)
        .order_by(table.c.start_ms.desc(), table.c.key.desc())
        .limit(number)
    ).scalars()
    return [judgements.read(payload) for payload in payloads][::-1]


def effects(kept: Iterable[Kept]) -> Periods | None:
    """Return judged periods side by side; None where there are none."""
    known = list(kept)
    if not known:
        return None
    columns = zip(*map(judgements.effects_of, known), strict=True)
    starts = np.array([one.start_ms for one in known])
    return Periods(starts, *(np.array(column) for column in columns))


def counted(
    connection: sa.Connection, digest: str, subject: str, step: Step, kept: Sequence[Kept]
) -> dict[alarms.Position, tuple[FlatWindow, int]]:
    """Return the counts of judged periods that are stored, and how many windows each is made of."""
    if not kept:
        return {}
    found = aggregates.periods(
        connection,
        digest,
        subject,
        step,
        since_ms=kept[0].start_ms,
        until_ms=kept[-1].start_ms + 1,
    )
    return {
        alarms.Position(one.bucket_ms, ""): (flat.decode(one.payload), one.windows) for one in found
    }
