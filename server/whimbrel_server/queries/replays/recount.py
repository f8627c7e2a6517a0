"""The windows of devices themselves, as far as the journal still holds them.

A judgement keeps what it saw of a window, not the window. But a committed message stays in the
journal for some days (``[retention] segments_hours``), and from its counts everything that was
kept can be worked out again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import msgspec
import sqlalchemy as sa

from whimbrel_core.profile import flat
from whimbrel_core.profile.watching import alarms
from whimbrel_core.profile.watching.judging import DeviceJudge
from whimbrel_core.wire import codec
from whimbrel_core.wire.messages import WindowMessage
from whimbrel_server.domain.subjects import device_subject
from whimbrel_server.ingest.journal import Entry
from whimbrel_server.store import judgements, periods, policies, schema

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from whimbrel_core.profile.baseline import Baseline
    from whimbrel_core.profile.flat import FlatWindow
    from whimbrel_server.domain.aggregation import Step
    from whimbrel_server.store.judgements import Kept, Said

SubjectKey = tuple[str, str]
"""Digest and subject."""

_ENTRIES = msgspec.msgpack.Decoder(list[Entry])
_SEGMENTS_AT_ONCE = 16
_DEVICES_AT_ONCE = 50
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
    "requests": "its requests",
}


class Span(NamedTuple):
    """Windows that start in it, both ends among them."""

    since_ms: int
    until_ms: int

    def covering(self, other: Span) -> Span:
        """Return the span that covers both."""
        return Span(min(self.since_ms, other.since_ms), max(self.until_ms, other.until_ms))


def held(
    connection: sa.Connection, wanted: Mapping[SubjectKey, Span]
) -> dict[SubjectKey, dict[alarms.Position, FlatWindow]]:
    """Return the windows of some devices that the journal holds, none of the others' read."""
    found: dict[SubjectKey, dict[alarms.Position, FlatWindow]] = {at: {} for at in wanted}
    spans: dict[str, Span] = {}
    for (_, subject), span in wanted.items():
        known = spans.get(subject[2:])
        spans[subject[2:]] = span if known is None else known.covering(span)
    for message in messages(connection, spans):
        at = (message.digest, device_subject(message.device))
        if message.rows and at in found:
            found[at][position(message)] = flat.decode(message.payload)
    return found


def position(message: WindowMessage) -> alarms.Position:
    """Return where a window stands in its device's history."""
    return alarms.Position(message.start_ms, f"{message.epoch}/{message.seq:020d}")


def messages(connection: sa.Connection, spans: Mapping[str, Span]) -> Iterator[WindowMessage]:
    """Yield the windows that the journal holds of some devices, by when they were committed."""
    numbers = _segments(connection, spans)
    marks = [device.encode() for device in spans]
    table = schema.segments
    for start in range(0, len(numbers), _SEGMENTS_AT_ONCE):
        some = numbers[start : start + _SEGMENTS_AT_ONCE]
        payloads = connection.execute(
            sa.select(table.c.payload).where(table.c.id.in_(some)).order_by(table.c.id)
        ).scalars()
        for payload in payloads:
            for entry in _ENTRIES.decode(payload):
                # A segment has other devices' windows, too: looking for the name is quicker than
                # decoding.
                if not any(mark in entry.message for mark in marks):
                    continue
                message = codec.decode(WindowMessage, entry.message)
                span = spans.get(message.device)
                if span is not None and span.since_ms <= message.start_ms <= span.until_ms:
                    yield message


def _segments(connection: sa.Connection, spans: Mapping[str, Span]) -> list[int]:
    """Return which segments hold windows of devices, in order."""
    table = schema.journal
    found: set[int] = set()
    devices = list(spans.items())
    for start in range(0, len(devices), _DEVICES_AT_ONCE):
        wanted = [
            sa.and_(
                table.c.device == device,
                table.c.first_ms <= span.until_ms,
                table.c.last_ms >= span.since_ms,
            )
            for device, span in devices[start : start + _DEVICES_AT_ONCE]
        ]
        found.update(
            connection.execute(sa.select(table.c.segment).where(sa.or_(*wanted))).scalars()
        )
    return sorted(found)


def group_faults(  # noqa: PLR0917 - where the counts are, and what they were judged as
    connection: sa.Connection,
    baseline: Baseline,
    digest: str,
    subject: str,
    step: Step,
    judged: Sequence[tuple[Kept, Said]],
) -> tuple[int, tuple[str, ...]]:
    """Return `faults` of a group's periods, from their stored counts, each under its policy."""
    counts = periods.counted(connection, digest, subject, step, [kept for kept, _ in judged])
    under = policies.load(connection, {said.policy for _, said in judged})
    number, found = 0, list[str]()
    for name, policy in under.items():
        own = [kept for kept, said in judged if said.policy == name and kept.position in counts]
        if own:
            number += len(own)
            found += _compared(DeviceJudge(baseline, policy), own, counts)
    return number, tuple(found)


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
    return len(again), _compared(judge, again, {at: (one, 0) for at, one in windows.items()})


def _compared(
    judge: DeviceJudge,
    again: Sequence[Kept],
    windows: Mapping[alarms.Position, tuple[FlatWindow, int]],
) -> tuple[str, ...]:
    """Return where judging windows, or periods made of so many of them, gives something else."""
    found, merged = zip(*(windows[one.position] for one in again), strict=True)
    positions = [one.position for one in again]
    drifts, seen = judge.judge_all(found, positions, merged if any(merged) else ())
    fresh = judgements.keep(judge, found, positions, drifts, None if any(merged) else seen)
    return tuple(
        f"the {_place(one)} at {one.start_ms}: {words} {verb} not what its counts give"
        for one, other in zip(again, fresh, strict=True)
        for part, words in _PARTS.items()
        for verb in ("are" if words.endswith("s") else "is",)
        if getattr(one, part) != getattr(other, part)
    )


def _place(one: Kept) -> str:
    return f"window of {one.key}" if one.key else "period"
