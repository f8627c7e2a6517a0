"""The rollout pages as values: the list, and one rollout with its log."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from whimbrel_server.views import AuditView, DeviceView, EventView, RolloutView

if TYPE_CHECKING:
    from whimbrel_server.port import FleetPort

AUDIT = 1000
EVENTS = 80
_ENDED = frozenset({"completed", "rolled_back", "aborted", "failed"})


class RolloutsPage(msgspec.Struct, frozen=True, kw_only=True):
    """All rollouts, newest first."""

    rollouts: tuple[RolloutView, ...]
    models: tuple[str, ...]


class RolloutPage(msgspec.Struct, frozen=True, kw_only=True):
    """One rollout, its devices as they are now, and what was said about it."""

    rollout: RolloutView
    devices: dict[str, DeviceView]
    audit: tuple[AuditView, ...]
    events: tuple[EventView, ...]
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
    events = [
        e for e in fleet.events(None, 1000) if e.digest == rollout.digest and e.device in members
    ]
    return RolloutPage(
        rollout=rollout,
        devices={d.device: d for d in fleet.devices() if d.device in members},
        audit=tuple(
            a
            for a in fleet.audit(AUDIT)
            if a.action.startswith("rollout") and a.subject == f"rollout {number}"
        ),
        events=tuple(events[:EVENTS]),
        may_pause=rollout.state == "running",
        may_resume=rollout.state == "paused",
        may_abort=rollout.state not in _ENDED and rollout.state != "rolling_back",
    )
