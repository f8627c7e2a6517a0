"""A device: what it serves, what it told, and what of it arrived."""

from __future__ import annotations

import msgspec

from whimbrel_core.wire.messages import Phase
from whimbrel_server.views.drift import DriftState


class SlotView(msgspec.Struct, frozen=True, kw_only=True):
    """One slot of a device: what it serves, and what it was asked to serve."""

    slot: str
    phase: Phase
    name: str = ""
    version: str = ""
    digest: str = ""
    release: int = 0
    wanted_digest: str = ""
    wanted_version: str = ""
    committed: bool = False
    error_code: str = ""
    error: str = ""


class DeviceView(msgspec.Struct, frozen=True, kw_only=True):
    """One device. ``worst_state`` is the worst drift state of its newest judged windows.

    ``outbox_rows`` is how many of the rows that waited on the device when it last told
    (``outbox_at_ms``) have not been committed here since.
    """

    device: str
    labels: dict[str, str] = {}
    online: bool = False
    last_seen_ms: int | None = None
    enrolled_ms: int | None = None
    agent_version: str = ""
    revision_desired: int = 0
    revision_seen: int = 0
    epoch: str = ""
    outbox_rows: int = 0
    outbox_at_ms: int | None = None
    clock: str = "unsynced"
    slots: tuple[SlotView, ...] = ()
    quarantined: tuple[str, ...] = ()
    memory_available_bytes: int = 0
    disk_free_bytes: int = 0
    bytes_downloaded: int = 0
    dropped_windows: int = 0
    last_error: str = ""
    worst_state: DriftState = "too_few"
    worst_feature: str = ""
    windows_received: int = 0
    rows_received: int = 0
    last_window_end_ms: int | None = None


class EventView(msgspec.Struct, frozen=True, kw_only=True):
    """Something that happened on a device, as it told."""

    at_ms: int
    device: str
    kind: str
    slot: str = ""
    digest: str = ""
    detail: dict[str, str] = {}
    received_ms: int = 0


class CountsView(msgspec.Struct, frozen=True, kw_only=True):
    """Bookkeeping of one device's telemetry.

    ``received`` = committed messages (windows and events), ``windows`` and ``rows`` of them;
    ``merged`` = windows that were folded into others on the device before sending;
    ``duplicate`` = arrived again and ignored; ``refused`` = unusable, recorded and acknowledged;
    ``unreadable`` = nothing in it could be trusted, counted only;
    ``lost`` = sequence numbers below the highest that never came (they may still).
    """

    device: str
    received: int = 0
    windows: int = 0
    rows: int = 0
    merged: int = 0
    duplicate: int = 0
    refused: int = 0
    unreadable: int = 0
    lost: int = 0
    bytes: int = 0
