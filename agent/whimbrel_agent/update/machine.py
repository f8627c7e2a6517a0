"""The update machine of one slot: a table (phase, event) → (phase, moves, effects).

Laws (each is a test over the whole table):

1. **Old or new.** `serving` of any state that had a version is a version that was committed here,
   or the candidate that passed its probe and loaded; never one that is being taken back.
2. **State before effect.** A step only says what is to be done. The driver stores the new state,
   then runs the effects; each can run again after a crash and ends in the same place.
3. **One way forward.** A candidate is served only after ``fetched`` and ``probed``, committed only
   after ``passed`` (or when nothing is asked of it), and a committed version is left only by
   ``switched``.
4. **The way back is always there.** While a candidate is on probation the last committed version
   is kept as `previous`; a failed candidate is quarantined before the slot goes back.
5. **Level-triggered.** `wanted` is what the newest assignment says. In phases that must not be
   interrupted (``switching``, ``rolling_back``) a new wish only waits: when the phase has ended
   the driver compares again.

The release floor of a model name is the release of the version committed *before* the present
one: a fleet can take back one release that turned out bad, and can never go further down.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import msgspec

from whimbrel_core.wire.assignment import SlotAssignment
from whimbrel_core.wire.messages import Phase

Event = Literal[
    "assigned",
    "withdrawn",
    "removed",
    "refused",
    "damaged",
    "unusable",
    "fetched",
    "fetch_refused",
    "probed",
    "probe_refused",
    "switched",
    "switched_committed",
    "switch_failed",
    "passed",
    "failed",
    "expired",
    "rolled_back",
    "emptied",
    "retry",
]
"""What can happen to a slot:

assigned: a version is wanted that is neither served nor on its way. withdrawn: what serves, or
what served before the version on probation, is wanted again. removed: the slot is no longer
assigned. refused: what is wanted is in quarantine. damaged: the file of what serves no longer
loads (a bad disk); it goes back a version, and fetches the file again. unusable: the file is as it
was, and what serves cannot be loaded any more, or crashes the worker again and again; it goes back
a version, or out of use, and is not tried again by itself. retry: an effect could not be done now
(no network, disk full) and is due again. expired: probation ended without enough evidence. The others
are the outcomes of effects, and the worker's judgement.
"""
Effect = Literal[
    "fetch", "probe", "stage", "switch", "watch", "commit", "roll_back", "quarantine", "collect"
]
"""What the driver does:

fetch: updater process, bytes checked into downloads. probe: probe process. stage: the proven file
into the store. switch: a worker with the candidate in the slot. watch: judge from here.
commit: end probation, raise the floor. roll_back: a worker with what `serving` says.
quarantine: never again without an operator. collect: remove files nobody refers to.
"""
Move = Literal["begin", "drop", "adopt", "settle", "back", "leave", "empty", "keep"]
"""What happens to the versions in the state.

begin: candidate = wanted. drop: candidate = None. adopt: the candidate serves, not committed.
settle: the present version is committed. back: the last committed version serves again, when the
candidate was in use. leave: the slot goes out of use. empty: nothing is served. keep: nothing.
"""


class Installed(msgspec.Struct, frozen=True):
    """A version that was proven on this device, or is about to be."""

    assignment: SlotAssignment
    revision: int = 0
    name: str = ""
    version: str = ""
    release: int = 0
    memory_bytes: int = 0
    latency_us: float = 0.0
    parity_passed: bool = False
    keys: tuple[str, ...] = ()
    """The publishers' keys (PEM) that were trusted for it when it was proven: what was installed
    goes on serving whatever becomes of the trust files; they decide about what comes next."""

    @property
    def digest(self) -> str:
        """Digest of its bundle."""
        return self.assignment.digest


class SlotState(msgspec.Struct, frozen=True):
    """Everything about one slot that survives a restart."""

    slot: str
    phase: Phase = "empty"
    wanted: SlotAssignment | None = None
    revision: int = 0
    current: Installed | None = None
    committed: bool = False
    previous: Installed | None = None
    candidate: Installed | None = None
    watching_since_ms: int = 0
    error_code: str = ""
    error: str = ""
    given_up: int = -1
    """The revision at which the wanted version was refused: it is not tried again in it."""
    left_out: str = ""
    """Digest of the version that was found unusable: only a newer revision, or an operator, has
    it tried again; looking at the repository regularly does not."""


class Row(NamedTuple):
    """One row's right-hand side."""

    phase: Phase
    move: Move
    effects: tuple[Effect, ...] = ()


_OF_WHAT_SERVED: frozenset[Event] = frozenset(
    {"passed", "failed", "expired", "damaged", "unusable"}
)

# "failed" and "serving" differ only in what is reported: the last wish was not granted.
TABLE: dict[tuple[Phase, Event], Row] = {
    ("empty", "assigned"): Row("fetching", "begin", ("fetch",)),
    ("empty", "refused"): Row("failed", "drop"),
    ("serving", "assigned"): Row("fetching", "begin", ("fetch",)),
    ("serving", "refused"): Row("failed", "drop"),
    ("serving", "removed"): Row("rolling_back", "leave", ("roll_back",)),
    ("failed", "assigned"): Row("fetching", "begin", ("fetch",)),
    ("failed", "withdrawn"): Row("serving", "drop"),
    ("failed", "removed"): Row("rolling_back", "leave", ("roll_back",)),
    ("failed", "passed"): Row("failed", "settle", ("commit",)),
    ("failed", "failed"): Row("rolling_back", "back", ("quarantine", "roll_back")),
    # On the way: a newer wish takes the place of the older one. What serves meanwhile may still
    # be on probation itself.
    ("fetching", "assigned"): Row("fetching", "begin", ("fetch",)),
    ("fetching", "withdrawn"): Row("serving", "drop", ("collect",)),
    ("fetching", "refused"): Row("failed", "drop", ("collect",)),
    ("fetching", "removed"): Row("rolling_back", "leave", ("roll_back",)),
    ("fetching", "retry"): Row("fetching", "keep", ("fetch",)),
    ("fetching", "fetched"): Row("probing", "keep", ("probe",)),
    ("fetching", "fetch_refused"): Row("failed", "drop", ("collect",)),
    ("fetching", "passed"): Row("fetching", "settle", ("commit",)),
    ("fetching", "failed"): Row("rolling_back", "back", ("quarantine", "roll_back")),
    ("probing", "assigned"): Row("fetching", "begin", ("fetch",)),
    ("probing", "withdrawn"): Row("serving", "drop", ("collect",)),
    ("probing", "refused"): Row("failed", "drop", ("collect",)),
    ("probing", "removed"): Row("rolling_back", "leave", ("roll_back",)),
    ("probing", "retry"): Row("fetching", "keep", ("fetch",)),
    ("probing", "probed"): Row("switching", "keep", ("stage", "switch")),
    ("probing", "probe_refused"): Row("failed", "drop", ("quarantine", "collect")),
    ("probing", "passed"): Row("probing", "settle", ("commit",)),
    ("probing", "failed"): Row("rolling_back", "back", ("quarantine", "roll_back")),
    # A worker is being replaced: no wish interrupts this.
    ("switching", "retry"): Row("switching", "keep", ("stage", "switch")),
    ("switching", "switched"): Row("watching", "adopt", ("watch",)),
    ("switching", "switched_committed"): Row("serving", "adopt", ("commit", "collect")),
    ("switching", "switch_failed"): Row("rolling_back", "keep", ("quarantine", "roll_back")),
    # On probation: judged from its own counts.
    ("watching", "assigned"): Row("fetching", "begin", ("fetch",)),
    ("watching", "withdrawn"): Row("rolling_back", "back", ("roll_back",)),
    ("watching", "removed"): Row("rolling_back", "leave", ("roll_back",)),
    ("watching", "passed"): Row("serving", "settle", ("commit", "collect")),
    ("watching", "failed"): Row("rolling_back", "back", ("quarantine", "roll_back")),
    ("watching", "expired"): Row("rolling_back", "back", ("roll_back",)),
    # The way back: not interrupted either.
    ("rolling_back", "retry"): Row("rolling_back", "keep", ("roll_back",)),
    ("rolling_back", "rolled_back"): Row("failed", "drop", ("collect",)),
    ("rolling_back", "emptied"): Row("empty", "empty", ("collect",)),
    # A damaged file is noticed when a worker is started, whatever else goes on.
    ("serving", "damaged"): Row("rolling_back", "back", ("roll_back",)),
    ("failed", "damaged"): Row("rolling_back", "back", ("roll_back",)),
    ("fetching", "damaged"): Row("rolling_back", "back", ("roll_back",)),
    ("probing", "damaged"): Row("rolling_back", "back", ("roll_back",)),
    ("switching", "damaged"): Row("rolling_back", "back", ("roll_back",)),
    ("watching", "damaged"): Row("rolling_back", "back", ("roll_back",)),
    ("rolling_back", "damaged"): Row("rolling_back", "back", ("roll_back",)),
    # So is a model that takes the worker down: it must not take the other slots with it.
    ("serving", "unusable"): Row("rolling_back", "back", ("roll_back",)),
    ("failed", "unusable"): Row("rolling_back", "back", ("roll_back",)),
    ("fetching", "unusable"): Row("rolling_back", "back", ("roll_back",)),
    ("probing", "unusable"): Row("rolling_back", "back", ("roll_back",)),
    ("switching", "unusable"): Row("rolling_back", "back", ("roll_back",)),
    ("watching", "unusable"): Row("rolling_back", "back", ("roll_back",)),
    ("rolling_back", "unusable"): Row("rolling_back", "back", ("roll_back",)),
}
"""Pairs that are not here cannot happen, or are late news about something that is over
(a judgement of a version that is no longer on probation): `step` leaves the state as it is."""


def step(
    state: SlotState, event: Event, *, code: str = "", reason: str = "", now_ms: int = 0
) -> tuple[SlotState, tuple[Effect, ...]]:
    """Return the state after ``event`` and the effects to run once that state is stored.

    Args:
        state: as stored.
        event: what happened.
        code: for refusals and failures, the error's code; kept for the report.
        reason: likewise, its sentence.
        now_ms: wall clock, only noted as the beginning of a probation.
    """
    row = TABLE.get((state.phase, event))
    if row is None:
        return state, ()
    moved = _move(state, row.move, now_ms)
    phase, effects = row.phase, row.effects
    if phase == "serving" and moved.current is not None and not moved.committed:
        # "serving" means committed: a version whose probation was interrupted by a wish
        # that was withdrawn is on probation again.
        phase, effects = "watching", (*effects, "watch")
    changes: dict[str, object] = {"phase": phase}
    if event == "unusable" and state.current is not None:
        changes["left_out"] = state.current.digest
    if code:
        changes |= {"error_code": code, "error": reason}
        if event not in {"retry", "damaged", "unusable"} or (
            # What is on its way meanwhile is another version, which did nothing wrong.
            event == "unusable" and state.wanted is not None and _holds(state, state.wanted.digest)
        ):
            changes["given_up"] = state.revision
    elif row.move == "begin" or phase in {"serving", "empty"}:
        changes |= {"error_code": "", "error": "", "left_out": ""}
    return msgspec.structs.replace(moved, **changes), effects


def serving(state: SlotState) -> Installed | None:
    """Return the version that answers requests in this state, now and after any restart."""
    if state.phase == "empty":
        return None
    return state.current


def on_probation(state: SlotState) -> bool:
    """Return whether the served version is being judged."""
    return state.current is not None and not state.committed


def asks_nothing(assignment: SlotAssignment) -> bool:
    """Return whether a version is committed as soon as it serves."""
    probation = assignment.probation
    return probation.rows <= 0 and probation.labels <= 0


def about(event: Event, before: SlotState, after: SlotState) -> Installed | None:
    """Return the version that an event is about: the one that serves, or the one on its way."""
    if event in _OF_WHAT_SERVED:
        return before.current
    return before.candidate or after.candidate or after.current or before.current


def resume(state: SlotState) -> tuple[Effect, ...]:
    """Return the effects of the present phase, to run again after a restart."""
    resumed: dict[Phase, tuple[Effect, ...]] = {
        "fetching": ("fetch",),
        "probing": ("probe",),
        "switching": ("stage", "switch"),
        "watching": ("watch",),
        "rolling_back": ("roll_back",),
        "serving": ("commit", "collect"),
        "failed": ("collect",),
    }
    return resumed.get(state.phase, ())


def wish(state: SlotState, *, refused: bool) -> Event | None:
    """Compare what is wanted with what is, and return the event that follows, if any.

    Args:
        state: as stored.
        refused: whether the wanted digest is in quarantine.
    """
    wanted = state.wanted
    if wanted is None:
        # A slot out of use has nothing to leave.
        return None if state.phase == "empty" else "removed"
    if state.phase in {"switching", "rolling_back"}:
        return None
    held = state.current.digest if state.current is not None else ""
    if held == wanted.digest:
        waiting = state.candidate is not None or state.phase == "failed"
        return "withdrawn" if waiting else None
    fallback = state.previous.digest if state.previous is not None else ""
    if state.phase == "watching" and fallback == wanted.digest:
        return "withdrawn"
    if state.candidate is not None and state.candidate.assignment == wanted:
        return None
    if refused:
        return None if state.phase == "failed" else "refused"
    if state.phase == "failed" and state.given_up >= state.revision:
        return None
    return "assigned"


def _holds(state: SlotState, digest: str) -> bool:
    return state.current is not None and state.current.digest == digest


def _move(state: SlotState, move: Move, now_ms: int) -> SlotState:
    replace = msgspec.structs.replace
    if move == "begin" and state.wanted is not None:
        return replace(state, candidate=Installed(state.wanted, revision=state.revision))
    if move == "drop":
        return replace(state, candidate=None)
    if move == "adopt" and state.candidate is not None:
        # Only a committed version is worth going back to.
        fallback = state.current if state.committed else state.previous
        return replace(
            state,
            previous=fallback,
            current=state.candidate,
            candidate=None,
            committed=asks_nothing(state.candidate.assignment),
            watching_since_ms=now_ms,
        )
    if move == "settle":
        return replace(state, committed=True)
    if move == "back":
        return replace(
            state,
            current=state.previous,
            previous=None,
            committed=state.previous is not None,
            candidate=None,
        )
    if move in {"leave", "empty"}:
        return replace(state, current=None, previous=None, committed=False, candidate=None)
    return state


def diagram() -> str:
    """Return the table as a Mermaid state diagram, for the documentation."""
    lines = ["stateDiagram-v2", "    [*] --> empty"]
    for (phase, event), row in TABLE.items():
        effects = f" / {', '.join(row.effects)}" if row.effects else ""
        lines.append(f"    {phase} --> {row.phase}: {event}{effects}")
    return "\n".join(lines) + "\n"
