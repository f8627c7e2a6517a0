"""Judging the windows of devices: the rules that devices follow, too (`whimbrel_core`)."""

from __future__ import annotations

from whimbrel_core.profile.watching.judging import DeviceJudge, Seen, Told, Turn

__all__ = ["DeviceJudge", "Seen", "Told", "Turn"]
