"""The windows of devices themselves, as far as the journal still holds them.

A judgement keeps what it saw of a window, not the window. But a committed message stays in the
journal for some days (``[retention] segments_hours``), and from its counts everything that was
kept can be worked out again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import sqlalchemy as sa

from whimbrel_core.profile import flat
from whimbrel_core.profile.watching import alarms
from whimbrel_core.wire import codec
from whimbrel_core.wire.messages import WindowMessage
from whimbrel_server.domain import aggregation
from whimbrel_server.ingest.journal import Entry
from whimbrel_server.store import judgements, schema

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from whimbrel_core.profile.flat import FlatWindow
    from whimbrel_core.profile.watching.judging import DeviceJudge
    from whimbrel_server.store.judgements import Kept

SubjectKey = tuple[str, str]
"""Digest and subject."""

_ENTRIES = msgspec.msgpack.Decoder(list[Entry])
_SEGMENTS_AT_ONCE = 16
# Parts of `Kept` that follow from the counts, and how they are called to people.
_PARTS = {
    "end_ms": "its end",
    "rows": "its rows",
    "finite": "its finite values",
    "distances": "the distances from the baseline",
    "significant": "what is significant",
    "levels": "the levels",
    "values": "what the detector saw",
    "variances": "the variances that the detector saw",
    "scores": "the score counts",
    "findings": "the findings about its data",
}


def held(
    connection: sa.Connection, wanted: Iterable[SubjectKey]
) -> dict[SubjectKey, dict[alarms.Position, FlatWindow]]:
    """Return the windows of some devices that the journal holds, from one pass over it."""
    found: dict[SubjectKey, dict[alarms.Position, FlatWindow]] = {at: {} for at in wanted}
    marks = {subject[2:].encode() for _, subject in found}
    segments = connection.execute(
        sa.select(schema.segments.c.payload).order_by(schema.segments.c.id),
        execution_options={"yield_per": _SEGMENTS_AT_ONCE},
    ).scalars()
    for payload in segments if found else ():
        for entry in _ENTRIES.decode(payload):
            # Most messages are other devices': looking for the name is quicker than decoding.
            if not any(mark in entry.message for mark in marks):
                continue
            message = codec.decode(WindowMessage, entry.message)
            windows = found.get((message.digest, aggregation.device_subject(message.device)))
            if windows is not None and message.rows:
                position = alarms.Position(message.start_ms, f"{message.epoch}/{message.seq:020d}")
                windows[position] = flat.decode(message.payload)
    return found


def faults(
    judge: DeviceJudge, kept: Iterable[Kept], windows: Mapping[alarms.Position, FlatWindow]
) -> tuple[int, tuple[str, ...]]:
    """Return how many of ``kept`` were worked out again from their counts, and where they differ.

    Args:
        judge: under the policy that they were judged under.
        kept: what is stored of some windows of one device.
        windows: the device's windows that are still held.
    """
    again = [one for one in kept if one.position in windows]
    if not again:
        return 0, ()
    found = [windows[one.position] for one in again]
    positions = [one.position for one in again]
    drifts, seen = judge.judge_all(found, positions)
    fresh = judgements.keep(judge, found, positions, drifts, seen)
    return len(again), tuple(
        f"the window of {one.position.key} at {one.start_ms}: {words} {verb} not what its counts give"
        for one, other in zip(again, fresh, strict=True)
        for part, words in _PARTS.items()
        for verb in ("are" if words.endswith("s") else "is",)
        if getattr(one, part) != getattr(other, part)
    )
