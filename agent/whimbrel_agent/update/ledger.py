"""What is written down about the slots: their states, the quarantine, and what is told of them.

A step is stored before its effects are handed out, and where it cannot be stored it has not
happened: memory keeps the old state. What a step means is the machine's affair.
"""

from __future__ import annotations

import secrets
import time
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from whimbrel_agent.channel import LocalEvent
from whimbrel_agent.control.slots import Quarantined
from whimbrel_agent.update import machine
from whimbrel_agent.update.machine import Effect, Event, SlotState

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from whimbrel_agent.control.slots import SlotStore
    from whimbrel_core.wire.assignment import Assignment


class Outcome(NamedTuple):
    """What an effect found out."""

    event: Event
    code: str = ""
    reason: str = ""


class Ledger:
    """The slots' states, in memory as on the disk.

    Args:
        store: where they are kept.
        report: called with an event for the outbox.
        changed: called when the reported state may have changed.
    """

    def __init__(
        self,
        store: SlotStore,
        *,
        report: Callable[[LocalEvent], None],
        changed: Callable[[], None],
    ) -> None:
        self._store = store
        self._report = report
        self._changed = changed
        self._slots: dict[str, SlotState] = {}
        self._quarantined: dict[str, Quarantined] = {}
        self.last_error = ""

    @property
    def states(self) -> Mapping[str, SlotState]:
        """The slots by name."""
        return self._slots

    @property
    def quarantined(self) -> Mapping[str, Quarantined]:
        """Digests that are not tried again."""
        return self._quarantined

    def load(self) -> None:
        """Read what is stored."""
        self._slots = self._store.load()
        self._quarantined = self._store.quarantined()

    def assign(self, assignment: Assignment) -> tuple[str, ...]:
        """Store what an assignment wants of every slot; return the slots' names.

        Raises:
            StorageError: it could not be stored, and is not acted upon.
        """
        changed: dict[str, SlotState] = {}
        for slot in {*assignment.slots, *self._slots}:
            state = self._slots.get(slot) or SlotState(slot)
            changed[slot] = msgspec.structs.replace(
                state, wanted=assignment.slots.get(slot), revision=assignment.revision
            )
        self._store.save_assignment(list(changed.values()), assignment.revision)
        self._slots.update(changed)
        return tuple(changed)

    def amend(self, state: SlotState) -> None:
        """Take a state into memory alone: the slot's next step stores it."""
        self._slots[state.slot] = state

    def drop(self, slot: str) -> None:
        """Store the state of a slot that is empty and not wanted, and forget the slot."""
        self._store.save(self._slots[slot])
        del self._slots[slot]

    def forgive(self, digest: str) -> bool:
        """Take a digest out of quarantine; return whether it was there."""
        found = self._store.forgive(digest)
        self._quarantined = self._store.quarantined()
        return found

    def advance(self, slot: str, outcome: Outcome) -> tuple[Effect, ...]:
        """Store the state after ``outcome`` and return its effects.

        Raises:
            StorageError: it could not be stored; the slot is where it was.
        """
        before = self._slots[slot]
        now_ms = int(time.time() * 1000)
        after, effects = machine.step(
            before, outcome.event, code=outcome.code, reason=outcome.reason, now_ms=now_ms
        )
        if after is before:
            return ()
        bad = before.candidate or before.current
        if outcome.event == "failed":
            bad = before.current
        quarantine = None
        if "quarantine" in effects and bad is not None:
            quarantine = Quarantined(bad.digest, slot, outcome.code, outcome.reason, now_ms)
        self._store.save(after, quarantine)
        if quarantine is not None:
            self._quarantined[quarantine.digest] = quarantine
        if after.phase == "empty" and after.wanted is None:
            del self._slots[slot]
        else:
            self._slots[slot] = after
        if outcome.event != "retry" or before.error_code != outcome.code:
            self._tell(outcome, before, after)
        self._changed()
        return effects

    def wish(self, slot: str) -> Outcome | None:
        """Return what the slot's wish asks for now, if anything."""
        state = self._slots[slot]
        wanted = state.wanted
        refused = wanted is not None and wanted.digest in self._quarantined
        event = machine.wish(state, refused=refused)
        if event is None:
            return None
        if event == "refused" and wanted is not None:
            why = self._quarantined[wanted.digest]
            return Outcome(
                event,
                "quarantine",
                f"{wanted.digest[:12]}… is in quarantine since it failed here: {why.reason}",
            )
        return Outcome(event)

    def note(
        self, kind: str, *, slot: str = "", digest: str = "", detail: dict[str, str] | None = None
    ) -> None:
        """Report an event of now."""
        self._report(
            LocalEvent(
                event_id=secrets.token_hex(8),
                at_ms=int(time.time() * 1000),
                kind=kind,
                slot=slot,
                digest=digest,
                detail=detail or {},
            )
        )

    def _tell(self, outcome: Outcome, before: SlotState, after: SlotState) -> None:
        about = machine.about(outcome.event, before, after)
        detail: dict[str, str] = {"phase": after.phase}
        if about is not None and about.version:
            detail |= {"version": about.version, "name": about.name}
        if outcome.code:
            detail |= {"code": outcome.code, "reason": outcome.reason}
            self.last_error = f"{before.slot}: {outcome.reason}"
        self.note(
            f"update.{outcome.event}",
            slot=before.slot,
            digest=about.digest if about is not None else "",
            detail=detail,
        )
