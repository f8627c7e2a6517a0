"""Whether the server works."""

from __future__ import annotations

import msgspec


class HealthView(msgspec.Struct, frozen=True, kw_only=True):
    """Whether the parts of the server work. ``ok`` is their conjunction."""

    ok: bool
    version: str
    broker_connected: bool
    repository_ok: bool
    store_ok: bool
    uptime_s: float
    windows_received: int = 0
    windows_per_s: float = 0.0
    judged_behind: int = 0
    problems: tuple[str, ...] = ()
