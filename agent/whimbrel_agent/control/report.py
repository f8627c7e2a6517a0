"""What the device says about itself: the reported state, and the ``status`` command's answer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from whimbrel_agent import __version__
from whimbrel_agent.update import machine
from whimbrel_core.wire.messages import SlotReport, State

if TYPE_CHECKING:
    from collections.abc import Mapping

    from whimbrel_agent.telemetry.outbox import Totals
    from whimbrel_agent.update.machine import SlotState

# The state travels in one message of 32 KB: the newest that fit, cut sentences.
_MAX_QUARANTINED = 64
_MAX_ERROR_CHARS = 500


def slot_report(state: SlotState) -> SlotReport:
    """Return one slot as the fleet sees it."""
    current = machine.serving(state)
    about = current or state.candidate
    return SlotReport(
        slot=state.slot,
        phase=state.phase,
        digest=current.digest if current is not None else "",
        name=about.name if about is not None else "",
        version=current.version if current is not None else "",
        release=current.release if current is not None else 0,
        previous_digest=state.previous.digest if state.previous is not None else "",
        candidate_digest=state.candidate.digest if state.candidate is not None else "",
        parity_passed=current is not None and current.parity_passed,
        committed=state.committed,
        probe_memory_bytes=current.memory_bytes if current is not None else 0,
        probe_latency_us=current.latency_us if current is not None else 0.0,
        error_code=state.error_code,
        error=state.error[:_MAX_ERROR_CHARS],
    )


class Facts(msgspec.Struct, frozen=True):
    """Numbers about the device at one moment."""

    incarnation: int
    revision: int
    memory_available_bytes: int
    disk_free_bytes: int
    dropped_windows: int
    bytes_downloaded: int
    last_error: str


def reported_state(
    device: str,
    facts: Facts,
    slots: Mapping[str, SlotState],
    quarantined: Mapping[str, object],
    labels: Mapping[str, str],
) -> State:
    """Return the state that is published."""
    return State(
        device=device,
        incarnation=facts.incarnation,
        revision=facts.revision,
        slots=tuple(slot_report(state) for _, state in sorted(slots.items())),
        quarantined=tuple(quarantined)[-_MAX_QUARANTINED:],
        memory_available_bytes=facts.memory_available_bytes,
        disk_free_bytes=facts.disk_free_bytes,
        dropped_windows=facts.dropped_windows,
        bytes_downloaded=facts.bytes_downloaded,
        last_error=facts.last_error[:_MAX_ERROR_CHARS],
        labels=dict(labels),
    )


def status(
    state: State, outbox: Totals, *, quarantined: Mapping[str, object], **live: object
) -> dict[str, Any]:
    """Return the answer to ``whimbrel agent status``: a stable, additive contract."""
    return {
        "agent": __version__,
        **msgspec.to_builtins(state),
        **live,
        "outbox": msgspec.to_builtins(outbox),
        "quarantined": [msgspec.to_builtins(entry) for entry in quarantined.values()],
    }
