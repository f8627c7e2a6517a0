"""A rollout as a table: (state, event) → next state and effects.

Laws (tests/server/domain/test_rollout.py checks them against the table):

- a wave is assigned only by leaving another wave behind, and only while the rollout is running;
- a paused rollout never advances, but it still falls back: pausing does not switch safety off;
- every failure restores, and whatever restores ends in ``rolled_back``, ``aborted`` or ``failed``;
- a rollout that ended never moves again;
- the state is stored before an effect runs, and effects can be run twice.

::

    running ──wave_passed──▶ running        paused ──resume──▶ running
       │ last_wave_passed ▶ completed          │ gate_failed ▶ rolling_back
       │ pause ▶ paused                        │ abort ▶ aborting
       │ gate_failed ▶ rolling_back ──restored▶ rolled_back
       │ abort ▶ aborting ──restored▶ aborted   (either ──overdue▶ failed)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import msgspec

from whimbrel_core.errors import UsageError
from whimbrel_core.wire.assignment import SlotAssignment
from whimbrel_server.views.rollouts import GateView, RolloutSpec, RolloutState, WaveState

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

State = Literal[
    "running", "paused", "rolling_back", "aborting", "completed", "rolled_back", "aborted", "failed"
]
Event = Literal[
    "wave_passed",
    "last_wave_passed",
    "gate_failed",
    "pause",
    "resume",
    "abort",
    "restored",
    "overdue",
]
Effect = Literal["finish_wave", "assign_next_wave", "fail_wave", "restore", "announce"]

STATES: tuple[State, ...] = (
    "running",
    "paused",
    "rolling_back",
    "aborting",
    "completed",
    "rolled_back",
    "aborted",
    "failed",
)
EVENTS: tuple[Event, ...] = (
    "wave_passed",
    "last_wave_passed",
    "gate_failed",
    "pause",
    "resume",
    "abort",
    "restored",
    "overdue",
)
ENDED: frozenset[State] = frozenset({"completed", "rolled_back", "aborted", "failed"})
OPERATOR_EVENTS: frozenset[Event] = frozenset({"pause", "resume", "abort"})

TABLE: dict[tuple[State, Event], tuple[State, tuple[Effect, ...]]] = {
    ("running", "wave_passed"): ("running", ("finish_wave", "assign_next_wave")),
    ("running", "last_wave_passed"): ("completed", ("finish_wave", "announce")),
    ("running", "gate_failed"): ("rolling_back", ("fail_wave", "restore", "announce")),
    ("running", "pause"): ("paused", ()),
    ("running", "abort"): ("aborting", ("restore",)),
    ("paused", "resume"): ("running", ()),
    ("paused", "gate_failed"): ("rolling_back", ("fail_wave", "restore", "announce")),
    ("paused", "abort"): ("aborting", ("restore",)),
    ("rolling_back", "restored"): ("rolled_back", ("announce",)),
    ("rolling_back", "overdue"): ("failed", ("announce",)),
    ("aborting", "restored"): ("aborted", ("announce",)),
    ("aborting", "overdue"): ("failed", ("announce",)),
}


def step(state: State, event: Event) -> tuple[State, tuple[Effect, ...]] | None:
    """Return the next state and the effects, or None when ``event`` means nothing now.

    Raises:
        UsageError: an operator asked for what cannot be done in this state (``conflict``).
    """
    found = TABLE.get((state, event))
    if found is None and event in OPERATOR_EVENTS:
        raise UsageError(
            f"a rollout that is {state.replace('_', ' ')} cannot {event}",
            hint="see 'whimbrel fleet rollout list'",
            code="conflict",
        )
    return found


class WavePlan(msgspec.Struct, frozen=True, kw_only=True):
    """One wave with its devices chosen."""

    devices: tuple[str, ...]
    state: WaveState = "pending"
    started_ms: int | None = None
    finished_ms: int | None = None
    gates: tuple[GateView, ...] = ()


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that is stored of a rollout beside its columns.

    Args:
        spec: as the operator asked.
        target: what the waves are assigned.
        waves: the devices, wave by wave.
        wave: index of the present wave.
        previous: what each moved device had on the slot; None: nothing.
        from_versions: the same as versions, for people.
        revisions: per moved device, the revision that assigned the new version.
        before: per moved device, the encoded counts that the new version had on it already.
        restore_started_ms: when devices were told to go back.
        reason: why it ended, or why it is going back.
    """

    spec: RolloutSpec
    target: SlotAssignment
    waves: tuple[WavePlan, ...]
    wave: int = 0
    previous: dict[str, SlotAssignment | None] = {}
    from_versions: dict[str, str] = {}
    revisions: dict[str, int] = {}
    before: dict[str, bytes] = {}
    restore_started_ms: int | None = None
    reason: str = ""

    def with_wave(self, **changes: object) -> Plan:
        """Return the plan with the present wave changed."""
        waves = list(self.waves)
        waves[self.wave] = msgspec.structs.replace(waves[self.wave], **changes)
        return msgspec.structs.replace(self, waves=tuple(waves))

    @property
    def current(self) -> WavePlan:
        """The present wave."""
        return self.waves[self.wave]


def shown_state(state: State) -> RolloutState:
    """Return the state as it is shown: going back is going back, whoever asked."""
    return "rolling_back" if state == "aborting" else state


def choose_waves(
    spec: RolloutSpec, fleet: Mapping[str, Mapping[str, str]]
) -> tuple[tuple[str, ...], ...]:
    """Return the devices of each wave. A device is in the first wave that takes it.

    Args:
        spec: waves by names, labels, percentage, or nothing (all that remain).
        fleet: labels of every device that may take part.

    Raises:
        UsageError: a named device does not exist, or a wave takes no device.
    """
    left = sorted(fleet)
    chosen: list[tuple[str, ...]] = []
    for number, wave in enumerate(spec.waves or (None,), start=1):
        if wave is None or not (wave.devices or wave.labels or wave.percent is not None):
            taken = list(left)
        elif wave.devices:
            unknown = [device for device in wave.devices if device not in fleet]
            if unknown:
                raise UsageError(
                    f"wave {number} names {', '.join(unknown)}, which is not enrolled",
                    hint="see 'whimbrel fleet devices'",
                    code="not_found",
                )
            taken = [device for device in wave.devices if device in left]
        else:
            taken = [
                device
                for device in left
                if all(fleet[device].get(key) == value for key, value in wave.labels.items())
            ]
        if wave is not None and wave.percent is not None:
            if not 0 < wave.percent <= 100:  # noqa: PLR2004 - percent
                raise UsageError(f"wave {number}: {wave.percent} is not a percentage")
            taken = taken[: max(1, round(len(taken) * wave.percent / 100))]
        if not taken:
            raise UsageError(
                f"wave {number} takes no device that an earlier wave has not taken",
                hint="name devices, or labels that devices have",
                code="usage.wave",
            )
        chosen.append(tuple(taken))
        left = [device for device in left if device not in set(taken)]
    return tuple(chosen)


def moved(waves: Sequence[WavePlan]) -> tuple[str, ...]:
    """Return the devices that were assigned the new version so far."""
    return tuple(device for wave in waves if wave.state != "pending" for device in wave.devices)
