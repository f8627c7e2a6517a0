"""What drifted windows are expected to cost: their quality by their scores, beside the reference's.

The score counts of each window are kept with its judgement, so that those since a drift began add
up to what it costs, for as long as judgements are kept.
"""

from __future__ import annotations

from operator import add
from typing import TYPE_CHECKING

import msgspec
import sqlalchemy as sa

from whimbrel_core.profile.quality.loss import losses
from whimbrel_server.domain.wording import quality
from whimbrel_server.store import judgements, schema
from whimbrel_server.views.drift import LossView

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from whimbrel_core.profile.baseline import Baseline
    from whimbrel_core.profile.quality.loss import Loss

# Two days of windows of five minutes: more of them say the same, only more surely.
MAX_WINDOWS = 576


def of_counts(counted: Sequence[int], baseline: Baseline) -> tuple[LossView, ...]:
    """Return the expected quality of rows with these score counts, beside the reference's."""
    return tuple(view(one) for one in losses(counted, baseline))


def view(one: Loss) -> LossView:
    """Return an expected quality as people and programs are told of it, with its sentence."""
    return LossView(
        **msgspec.structs.asdict(one),
        loss=one.loss,
        reading=one.reading,
        sentence=quality.cost(one),
    )


def since(
    connection: sa.Connection,
    baseline: Baseline,
    digest: str,
    subjects: Iterable[str],
    *,
    since_ms: int | None,
    until_ms: int | None = None,
    newest: int = MAX_WINDOWS,
) -> tuple[LossView, ...]:
    """Return what the windows of some ``subjects``, as they are stored, are expected to cost.

    From ``since_ms`` on, the window that holds it among them; None: the newest window alone. Windows
    that begin after ``until_ms`` do not count, and of each subject the ``newest`` so many at most.
    """
    table = schema.judgements
    total: list[int] = []
    for subject in subjects:
        query = (
            sa.select(table.c.payload)
            .where(table.c.digest == digest, table.c.subject == subject)
            .order_by(table.c.start_ms.desc(), table.c.key.desc())
            .limit(1 if since_ms is None else newest)
        )
        if since_ms is not None:
            query = query.where(table.c.end_ms > since_ms)
        if until_ms is not None:
            query = query.where(table.c.start_ms <= until_ms)
        for payload in connection.execute(query).scalars():
            scores = judgements.kept_in(payload).scores
            if scores:
                total = list(map(add, total, scores)) if total else list(scores)
    return of_counts(total, baseline)
