"""Who did what, when."""

from __future__ import annotations

from typing import Any

import msgspec


class AuditView(msgspec.Struct, frozen=True, kw_only=True):
    """Who did what, when."""

    at_ms: int
    actor: str
    action: str
    subject: str
    detail: dict[str, Any] = {}
