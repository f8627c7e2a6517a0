"""The messages of protocol version 1, as frozen structs.

Encoded as msgpack maps, so that fields can be added with defaults and older readers pass over
them. Times are integer milliseconds since 1970 UTC; ``clock`` says how far to trust them.
"""

from __future__ import annotations

from typing import Literal

import msgspec

Clock = Literal["event", "synced", "unsynced"]
"""Where a window's period comes from: request timestamps, a synchronised clock, or neither."""
Phase = Literal[
    "empty", "serving", "fetching", "probing", "switching", "watching", "rolling_back", "failed"
]
Mode = Literal["active", "shadow"]


class Life(msgspec.Struct, frozen=True, tag="life"):
    """Birth (``alive``) or death (the MQTT Will) of one incarnation of a device.

    ``config`` is a hash of the agent's configuration: enough to see that it is another one.
    """

    device: str
    alive: bool
    incarnation: int
    epoch: str = ""
    agent_version: str = ""
    revision: int = 0
    outbox_rows: int = 0
    outbox_bytes: int = 0
    outbox_first: int = 0
    outbox_last: int = 0
    clock: Clock = "unsynced"
    config: str = ""


class SlotReport(msgspec.Struct, frozen=True):
    """One slot as the device sees it. ``digest`` is the bundle that answers requests now."""

    slot: str
    phase: Phase
    digest: str = ""
    name: str = ""
    version: str = ""
    release: int = 0
    previous_digest: str = ""
    candidate_digest: str = ""
    parity_passed: bool = False
    committed: bool = False
    probe_memory_bytes: int = 0
    probe_latency_us: float = 0.0
    error_code: str = ""
    error: str = ""


class State(msgspec.Struct, frozen=True, tag="state"):
    """The full reported state of a device."""

    device: str
    incarnation: int
    revision: int
    slots: tuple[SlotReport, ...] = ()
    quarantined: tuple[str, ...] = ()
    memory_available_bytes: int = 0
    disk_free_bytes: int = 0
    dropped_windows: int = 0
    bytes_downloaded: int = 0
    last_error: str = ""
    labels: dict[str, str] = {}


class WindowMessage(msgspec.Struct, frozen=True, tag="window"):
    """One closed profile window. ``payload`` is `whimbrel_core.profile.window.encode`'s output."""

    device: str
    epoch: str
    seq: int
    slot: str
    name: str
    version: str
    digest: str
    profile_id: str
    start_ms: int
    end_ms: int
    rows: int
    payload: bytes
    clock: Clock = "synced"
    merged: int = 1


class EventMessage(msgspec.Struct, frozen=True, tag="event"):
    """Something that happened on a device: update steps, local alarms. Kept in the same outbox."""

    device: str
    epoch: str
    seq: int
    at_ms: int
    kind: str
    slot: str = ""
    digest: str = ""
    detail: dict[str, str] = {}


class Ack(msgspec.Struct, frozen=True, tag="ack"):
    """Everything up to and including ``upto`` is committed, and the closed ``ranges`` beyond it."""

    epoch: str
    upto: int
    ranges: tuple[tuple[int, int], ...] = ()


class ServerLife(msgspec.Struct, frozen=True, tag="server"):
    """Whether a consumer is there, how fast it drains, over how long devices spread reconnects."""

    alive: bool
    incarnation: int
    drain_per_s: float = 0.0
    spread_s: float = 0.0


class Hint(msgspec.Struct, frozen=True, tag="hint"):
    """A nudge that may be lost: look for desired state, announce a birth, or send again."""

    kind: Literal["sync", "rebirth", "resend"]
    spread_s: float = 0.0


UpMessage = Life | State | WindowMessage | EventMessage
DownMessage = Ack | ServerLife | Hint
