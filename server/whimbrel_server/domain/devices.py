"""What the server believes about a device from what the device says of itself.

Births and deaths carry the device's *incarnation*, a counter that the device persists and raises
at each start. The broker delivers a death (the MQTT Will) whenever it notices, perhaps long after
the device came back, so:

- a birth of a newer or equal incarnation makes the device online;
- a death of the incarnation that was born last makes it offline;
- whatever is older than the last birth is ignored;
- a birth with another epoch than the last one starts a new outbox; a birth with an epoch that was
  left behind before means that two devices share one identity (a cloned disk).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import msgspec

if TYPE_CHECKING:
    from collections.abc import Mapping

    from whimbrel_core.wire.messages import Life, SlotReport, State
    from whimbrel_server.domain.streams import Stream

    Labels = Mapping[str, str] | None

MAX_PAST_EPOCHS = 16
# The kind of an event that the server writes itself: what births and reports say is another now.
CHANGED = "device.changed"

Notice = Literal["born", "died", "stale", "new_outbox", "cloned", "reimaged"]


class Presence(msgspec.Struct, frozen=True):
    """What is known of a device's life."""

    online: bool = False
    incarnation: int = 0
    epoch: str = ""
    past_epochs: tuple[str, ...] = ()
    agent_version: str = ""
    revision: int = 0
    outbox_rows: int = 0
    outbox_first: int = 0
    clock: str = "unsynced"
    last_seen_ms: int | None = None
    config: str = ""


def apply_life(known: Presence, life: Life, now_ms: int) -> tuple[Presence, tuple[Notice, ...]]:
    """Return what is known after ``life``, and what it means.

    A device whose disk was made anew starts its incarnations again from 1: a birth with a lower
    incarnation but an epoch never seen is such a device, and is believed.
    """
    if not life.alive:
        if life.incarnation != known.incarnation or not known.online:
            return known, ("stale",)
        return msgspec.structs.replace(known, online=False), ("died",)
    known_epochs = {known.epoch, *known.past_epochs} - {""}
    fresh_epoch = bool(life.epoch) and life.epoch not in known_epochs
    if life.incarnation < known.incarnation and not fresh_epoch:
        return known, ("stale",)
    notices: list[Notice] = ["born"]
    past = known.past_epochs
    if known.epoch and life.epoch and life.epoch != known.epoch:
        past = (known.epoch, *(e for e in past if e not in {known.epoch, life.epoch}))
        if life.epoch in known.past_epochs:
            notices.append("cloned")
        else:
            notices.append("reimaged" if life.incarnation < known.incarnation else "new_outbox")
    return (
        Presence(
            online=True,
            incarnation=life.incarnation,
            epoch=life.epoch or known.epoch,
            past_epochs=past[:MAX_PAST_EPOCHS],
            agent_version=life.agent_version,
            revision=life.revision,
            outbox_rows=life.outbox_rows,
            outbox_first=life.outbox_first,
            clock=life.clock,
            last_seen_ms=now_ms,
            config=life.config or known.config,
        ),
        tuple(notices),
    )


def changed(
    before: Presence, after: Presence, labels_before: Labels, labels_after: Labels
) -> dict[str, str]:
    """Return what is another on a device that was known before, by name: how it was → how it is.

    ``labels_before`` is None while the device had not told any.

    >>> old = Presence(agent_version="0.1.0", clock="synced", config="aa", epoch="e")
    >>> changed(old, msgspec.structs.replace(old, agent_version="0.2.0"), {"a": "1"}, {"a": "2"})
    {'agent': '0.1.0 → 0.2.0', 'labels': 'a=1 → a=2'}
    """
    found = {}
    for name, was, now in (
        ("agent", before.agent_version, after.agent_version),
        ("configuration", before.config, after.config),
        # Before the first birth nothing is known of the clock.
        ("clock", before.clock if before.epoch else "", after.clock),
    ):
        if was and was != now:
            found[name] = f"{was} → {now}"
    if labels_before is not None and labels_after is not None and labels_before != labels_after:
        found["labels"] = f"{_written(labels_before)} → {_written(labels_after)}"
    return found


def _written(labels: Mapping[str, str]) -> str:
    return " ".join(f"{key}={value}" for key, value in sorted(labels.items())) or "none"


def waiting(known: Presence, stream: Stream) -> int:
    """Return how many rows of the outbox that the last birth told of have not been committed since.

    The rows that waited then have the numbers from the lowest unacknowledged one on: those sent
    before keep theirs, the others got the next ones when they were sent. What the device made
    since is not in it; it says so itself when its backlog has grown.
    """
    if not known.outbox_first:
        return known.outbox_rows  # a device that tells no numbers
    last = known.outbox_first + known.outbox_rows - 1
    return known.outbox_rows - stream.held(known.outbox_first, last)


def accepts_state(known: Presence, state: State) -> bool:
    """Return whether a reported state is of the present incarnation (or a newer one)."""
    return state.incarnation >= known.incarnation


def revision_seen(known: Presence, state: State | None) -> int:
    """Return the highest revision that a device has said to have seen, at birth or since."""
    return max(known.revision, state.revision if state is not None else 0)


def next_revision(own: int, seen: int) -> int:
    """Return the revision of a document to publish: above its own last and above the seen one.

    A server that was restored from a backup is behind its devices; they rightly refuse what is
    below the revision they have seen.
    """
    return max(own, seen) + 1


def is_silent(last_seen_ms: int | None, now_ms: int, limit_s: float) -> bool:
    """Return whether a device has been silent for longer than ``limit_s``."""
    return last_seen_ms is not None and now_ms - last_seen_ms > limit_s * 1000


def slot_of(state: State | None, slot: str) -> SlotReport | None:
    """Return a device's report on one of its slots, or None when it has not reported it."""
    if state is None:
        return None
    return next((report for report in state.slots if report.slot == slot), None)
