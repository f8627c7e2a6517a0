"""An alarm about how much a device is asked, made again: from its past, and from stored windows.

What is usual came with the device's event, and is in the verdict. The period is judged by it once
more; and its requests are added up over the windows that the server keeps of it. The journal says
which slot each was of. Once that is gone, the device's windows are taken together, which is enough
where it serves one slot, or one slot each version.

What is usual is learnt again, too, from four weeks of stored windows, and told beside: to the same
bits it cannot be, because the device knows which windows were parts, and may have begun earlier.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import msgspec
import sqlalchemy as sa

from whimbrel_core.drawing.written import count
from whimbrel_core.profile import flat
from whimbrel_core.profile.watching import rate
from whimbrel_server.domain.aggregation import DAY_MS
from whimbrel_server.queries.replays import recount
from whimbrel_server.queries.replays.again import Again
from whimbrel_server.store import judgements, rates, schema

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from whimbrel_core.profile.watching.alarms import Position
    from whimbrel_server.domain.verdict import Verdict
    from whimbrel_server.store.judgements import Kept


_REMEMBERED_MS = 28 * DAY_MS  # as long as a weekday is remembered


def judge_again(connection: sa.Connection, one: Verdict) -> Again:
    """Return the figures of an alarm about requests, made again."""
    try:
        said, figures = rates.again(one)
    except msgspec.ValidationError as error:
        return Again({}, f"what was usual cannot be read ({error})")
    period = one.inputs[-1]
    if (said.start_ms, said.end_ms, said.requests) != (period.start_ms, period.end_ms, period.rows):
        return Again(figures, faults=("what was usual was told of another period",))
    stored = _stored(connection, one)
    if not stored:
        return Again({}, "none of the windows of its period is stored any more")
    slots, faults = _counted(connection, one, stored)
    found = Again(figures, "", len(stored), len(slots), tuple(faults))
    if len(slots) == len(stored):
        own = [kept for position, kept in stored.items() if slots[position] == one.given["slot"]]
        found = found._replace(parts=len(own), recounted=len(own))
        if len(own) == len(stored):
            found = found._replace(beside=_taught(connection, one))
        return _compared(found, own, period.rows)
    together = list(stored.values())
    versions = {kept.digest: [o for o in together if o.digest == kept.digest] for kept in together}
    for some in (together, *versions.values()):
        if sum(kept.requests for kept in some) == period.rows:
            beside = _taught(connection, one) if some is together else ""
            return found._replace(parts=len(some), beside=beside)
    return found._replace(
        gone="the journal no longer tells which of the windows of its period were of its slot"
    )


def _counted(
    connection: sa.Connection, one: Verdict, stored: Mapping[Position, _Kept]
) -> tuple[dict[Position, str], list[str]]:
    """Return the slots of the windows that the journal holds, and where their counts say otherwise."""
    period = one.inputs[-1]
    span = recount.Span(period.start_ms, period.end_ms - 1)
    slots: dict[Position, str] = {}
    faults: list[str] = []
    for message in recount.messages(connection, {one.subject[2:]: span}):
        kept = stored.get(recount.position(message))
        if kept is None:
            continue
        slots[kept.position] = message.slot
        if judgements.requests_of(flat.decode(message.payload)) != kept.requests:
            faults.append(f"the requests of {kept.key} are not what its counts give")
    return slots, faults


def _compared(found: Again, own: list[_Kept], requests: int) -> Again:
    stored = sum(kept.requests for kept in own)
    if stored < requests:
        # Lost, refused, or merged on a full device with windows from before the period.
        return found._replace(
            gone=f"{count(stored)} of the {count(requests)} requests of its period are stored"
        )
    if stored > requests:
        told = f"the windows of its period have {count(stored)} requests, not {count(requests)}"
        return found._replace(faults=(*found.faults, told))
    return found


class _Kept(NamedTuple):
    digest: str
    key: str
    position: Position
    requests: int


def _stored(connection: sa.Connection, one: Verdict) -> dict[Position, _Kept]:
    """Return what is kept of a device's windows of the period, up to when it told."""
    period = one.inputs[-1]
    return {
        kept.position: _Kept(digest, kept.key, kept.position, kept.requests)
        for digest, kept in _between(connection, one, period.start_ms, period.end_ms)
        if not _later(kept.key, period.key)
    }


def _between(
    connection: sa.Connection, one: Verdict, first_ms: int, end_ms: int
) -> Iterator[tuple[str, Kept]]:
    """Yield the windows of all versions of a device that start in a time, and what each is of."""
    table = schema.judgements
    served = sa.select(schema.detectors.c.digest).where(schema.detectors.c.subject == one.subject)
    rows = connection.execute(
        sa.select(table.c.digest, table.c.payload)
        .where(
            table.c.digest.in_(served),
            table.c.subject == one.subject,
            table.c.start_ms >= first_ms,
            table.c.start_ms < end_ms,
        )
        .order_by(table.c.start_ms, table.c.key)
    )
    return ((digest, judgements.kept_in(payload)) for digest, payload in rows)


def _taught(connection: sa.Connection, one: Verdict) -> str:
    """Return what stored windows let expect in the period; "" where they are too few."""
    period, state, windows = one.inputs[-1], rate.RateState(), 0
    first_ms = period.start_ms - _REMEMBERED_MS
    for _, kept in _between(connection, one, first_ms, period.start_ms):
        state, _ = rate.observe(state, kept.start_ms, kept.end_ms, kept.requests)
        windows += 1
    if state.periods < msgspec.convert(one.policy, rate.RateSettings).warmup_periods:
        return ""
    usual = rate.expected(state, period.start_ms, period.end_ms)
    return (
        f"Learnt again from {count(windows)} stored windows, {count(usual)} requests would be expected "
        f"where the device told {count(one.figures['expected'])}."
    )


def _later(key: str, told: str) -> bool:
    """Return whether a window left its outbox after what was told."""
    return key.partition("/")[0] == told.partition("/")[0] and key > told
