"""The rollout pages as values: the list, and one rollout with its log."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from whimbrel_server.views.devices import DeviceView
from whimbrel_server.views.rollouts import RolloutView
from whimbrel_server.web import told

if TYPE_CHECKING:
    from whimbrel_server.port import FleetPort

AUDIT = 1000
EVENTS = 1000
LINES = 120
_BACK = frozenset({"update.rolled_back", "update.emptied"})
_ENDED = frozenset({"completed", "rolled_back", "aborted", "failed"})


class RolloutsPage(msgspec.Struct, frozen=True, kw_only=True):
    """All rollouts, newest first."""

    rollouts: tuple[RolloutView, ...]
    models: tuple[str, ...]


class RolloutPage(msgspec.Struct, frozen=True, kw_only=True):
    """One rollout, its devices as they are now, and what was said about it."""

    rollout: RolloutView
    devices: dict[str, DeviceView]
    log: tuple[told.Line, ...]
    may_pause: bool
    may_resume: bool
    may_abort: bool


def rollouts_page(fleet: FleetPort) -> RolloutsPage:
    """Return the list."""
    return RolloutsPage(rollouts=fleet.rollouts(), models=tuple(m.name for m in fleet.models()))


def rollout_page(fleet: FleetPort, number: int) -> RolloutPage:
    """Return the page of one rollout.

    Raises:
        UsageError: no such rollout.
    """
    rollout = fleet.rollout(number)
    members = {d for wave in rollout.waves for d in wave.devices}
    return RolloutPage(
        rollout=rollout,
        devices={d.device: d for d in fleet.devices() if d.device in members},
        log=_log(fleet, rollout, members),
        may_pause=rollout.state == "running",
        may_resume=rollout.state == "paused",
        may_abort=rollout.state not in _ENDED and rollout.state != "rolling_back",
    )


def _log(fleet: FleetPort, rollout: RolloutView, members: set[str]) -> tuple[told.Line, ...]:
    """Return what the server did, and what the rollout's devices did for it, newest first.

    A device's steps are those for the rollout's bundle, and its way back to the earlier one; from
    the rollout's beginning to that of the next one that moves any of them.
    """
    until = min(
        (
            other.created_ms
            for other in fleet.rollouts()
            if other.slot == rollout.slot
            and other.id > rollout.id
            and any(members & set(wave.devices) for wave in other.waves)
        ),
        default=None,
    )
    steps = [
        event
        for event in fleet.events(None, EVENTS, "update.")
        if event.device in members
        and event.slot == rollout.slot
        and (event.digest == rollout.digest or event.kind in _BACK)
        and event.received_ms >= rollout.created_ms
        and (until is None or event.received_ms < until)
    ]
    entries = [
        entry
        for entry in fleet.audit(AUDIT)
        if entry.action.startswith("rollout.") and entry.subject == f"rollout {rollout.id}"
    ]
    # Stable: what has the same time stays newest first within its own list.
    lines = (*told.of_events(steps), *told.of_rollout(entries))
    return tuple(sorted(lines, key=lambda line: -line.at_ms))[:LINES]
