"""An alarm about how much a device is asked, made again: from its past, and from stored windows.

What is usual came with the device's event, and is in the verdict. The period is judged by it once
more; and its requests are added up over the windows that the server keeps of it. The journal says
which slot each was of. Once that is gone, the device's windows are taken together, which is enough
where it serves one slot, or one slot each version.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec
import sqlalchemy as sa

from whimbrel_core.drawing.written import count
from whimbrel_core.profile import flat
from whimbrel_server.queries import recount
from whimbrel_server.store import judgements, rates, schema

if TYPE_CHECKING:
    from whimbrel_core.profile.watching.alarms import Position
    from whimbrel_server.domain.verdict import Verdict
    from whimbrel_server.store.judgements import Kept


class Asked(NamedTuple):
    """What judging again gave; ``gone``: why the requests cannot be counted, as in a replay.

    Args:
        windows: that the server keeps of the period.
        recounted: those of them of which the journal has the counts.
        faults: what is another than the verdict says.
    """

    figures: dict[str, Any]
    gone: str = ""
    windows: int = 0
    recounted: int = 0
    faults: tuple[str, ...] = ()


def judge_again(connection: sa.Connection, one: Verdict) -> Asked:
    """Return the figures of an alarm about requests, made again."""
    try:
        said, figures = rates.again(one)
    except msgspec.ValidationError as error:
        return Asked({}, f"what was usual cannot be read ({error})")
    period = one.inputs[-1]
    if (said.start_ms, said.end_ms, said.requests) != (period.start_ms, period.end_ms, period.rows):
        return Asked(figures, faults=("what was usual was told of another period",))
    stored = _stored(connection, one)
    if not stored:
        return Asked({}, "none of the windows of its period is stored any more")
    span = recount.Span(period.start_ms, period.end_ms - 1)
    slots: dict[Position, str] = {}
    faults = []
    for message in recount.messages(connection, {one.subject[2:]: span}):
        kept = stored.get(recount.position(message))
        if kept is None:
            continue
        slots[kept.position] = message.slot
        if judgements.requests_of(flat.decode(message.payload)) != kept.requests:
            faults.append(f"the requests of {kept.key} are not what its counts give")
    found = Asked(figures, "", len(stored), len(slots), tuple(faults))
    if len(slots) == len(stored):
        own = [kept for position, kept in stored.items() if slots[position] == one.given["slot"]]
        return _compared(found._replace(windows=len(own), recounted=len(own)), own, period.rows)
    together = list(stored.values())
    versions = {kept.digest: [o for o in together if o.digest == kept.digest] for kept in together}
    for some in (together, *versions.values()):
        if sum(kept.requests for kept in some) == period.rows:
            return found._replace(windows=len(some))
    return found._replace(
        gone="the journal no longer tells which of the windows of its period were of its slot"
    )


def _compared(found: Asked, own: list[_Kept], requests: int) -> Asked:
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
    period, table = one.inputs[-1], schema.judgements
    served = sa.select(schema.detectors.c.digest).where(schema.detectors.c.subject == one.subject)
    rows = connection.execute(
        sa.select(table.c.digest, table.c.payload).where(
            table.c.digest.in_(served),
            table.c.subject == one.subject,
            table.c.start_ms >= period.start_ms,
            table.c.start_ms < period.end_ms,
        )
    )
    found = {}
    for digest, payload in rows:
        kept: Kept = judgements.kept_in(payload)
        if not _later(kept.key, period.key):
            found[kept.position] = _Kept(digest, kept.key, kept.position, kept.requests)
    return found


def _later(key: str, told: str) -> bool:
    """Return whether a window left its outbox after what was told."""
    return key.partition("/")[0] == told.partition("/")[0] and key > told
