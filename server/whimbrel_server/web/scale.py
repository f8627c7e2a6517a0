"""The one scale of states that every page, chart and badge uses: order, word, letter, tone.

A tone (``none ok notice warn severe busy``) is a class of the stylesheet; it is never shown by
colour alone: badges add a shape and a word, heat-map cells a letter.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Iterable

    from whimbrel_server.views.devices import DeviceView
    from whimbrel_server.views.drift import DriftState
    from whimbrel_server.views.rollouts import GateState, RolloutState, WaveState

Tone = Literal["none", "ok", "notice", "warn", "severe", "busy"]

RANK: dict[DriftState, int] = {"too_few": 0, "ok": 1, "notice": 2, "warn": 3, "severe": 4}
WORD: dict[str, str] = {
    "too_few": "too few rows",
    "ok": "ok",
    "notice": "notice",
    "warn": "warn",
    "severe": "severe",
    "rolling_back": "rolling back",
    "rolled_back": "rolled back",
    "min_rows": "rows",
}
LETTER: dict[DriftState, str] = {
    "too_few": "·",
    "ok": "",
    "notice": "n",
    "warn": "W",
    "severe": "S",
}
TONE: dict[str, Tone] = {
    # drift
    "too_few": "none",
    "ok": "ok",
    "notice": "notice",
    "warn": "warn",
    "severe": "severe",
    # phases of a slot
    "empty": "none",
    "serving": "ok",
    "fetching": "busy",
    "probing": "busy",
    "switching": "busy",
    "watching": "busy",
    "rolling_back": "warn",
    "failed": "severe",
    # rollouts, waves, gates
    "running": "busy",
    "paused": "notice",
    "completed": "ok",
    "rolled_back": "severe",
    "aborted": "none",
    "pending": "none",
    "assigning": "busy",
    "judging": "busy",
    "passed": "ok",
    "waiting": "none",
    # verdicts made again
    "same": "ok",
    "differs": "severe",
    "incomplete": "notice",
    # alerts
    "open": "severe",
    "acknowledged": "notice",
    "closed": "none",
    # freshness
    "online": "ok",
    "offline": "warn",
    "never": "none",
}
# Above .02, .1 and .25 a PSI is notice, warn and severe; the halves between shade the heat map.
_LEVELS = (0.005, 0.02, 0.05, 0.1, 0.17, 0.25, 0.5)


def word(state: RolloutState | WaveState | GateState | str) -> str:
    """Return how a state is said to people."""
    return WORD.get(state, state.replace("_", " "))


def tone(state: str) -> Tone:
    """Return a state's tone; one that a newer server added is shown without colour."""
    return TONE.get(state, "none")


def worst(states: Iterable[DriftState | None]) -> DriftState:
    """Return the worst of some states, ``too_few`` when there are none."""
    return max((s for s in states if s), key=RANK.__getitem__, default="too_few")


def level(psi: float | None) -> int:
    """Return the shade of an effect, 0 (none) to 7."""
    return 0 if psi is None else sum(psi >= limit for limit in _LEVELS)


def freshness(device: DeviceView) -> Literal["online", "offline", "never"]:
    """Return whether a device is there."""
    if device.online:
        return "online"
    return "never" if device.last_seen_ms is None else "offline"


def urgency(device: DeviceView) -> tuple[int, int, int, str]:
    """Return a sort key, most urgent first: failed updates, drift, silence, then the name."""
    failed = any(s.phase in {"failed", "rolling_back"} for s in device.slots)
    silent = {"offline": 0, "online": 1, "never": 2}[freshness(device)]
    return (not failed, -RANK[device.worst_state], silent, device.device)
