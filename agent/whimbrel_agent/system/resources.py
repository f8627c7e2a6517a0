"""What is left of this device: memory, disk; and how far its clock can be trusted."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from whimbrel_core.wire.messages import Clock

# Before this code was written and long after it: no clock that was ever set says so.
_EARLIEST_S = 1_735_689_600  # 2025-01-01
_LATEST_S = 4_102_444_800  # 2100-01-01
_STA_UNSYNC = 0x0040
_TIMEX_BYTES = 256


def memory_available_bytes() -> int:
    """Return the kernel's MemAvailable; 0 where it does not say."""
    try:
        with Path("/proc/meminfo").open("rb") as file:
            for line in file:
                if line.startswith(b"MemAvailable:"):
                    return int(line.split()[1]) * 1024
    except OSError:
        pass
    return 0


def disk_free_bytes(folder: Path) -> int:
    """Return the bytes that an ordinary user may still write to ``folder``'s disk."""
    try:
        found = os.statvfs(folder)
    except OSError:
        return 0
    return found.f_bavail * found.f_frsize


def clock_quality(now_s: float | None = None) -> Clock:
    """Return ``synced`` when the kernel says that the clock is kept right and it is plausible."""
    now = time.time() if now_s is None else now_s
    if not _EARLIEST_S < now < _LATEST_S:
        return "unsynced"
    return "synced" if _kernel_synchronised() else "unsynced"


def _kernel_synchronised() -> bool:
    import ctypes

    # struct timex begins with: unsigned modes; long offset, freq, maxerror, esterror; int status.
    buffer = ctypes.create_string_buffer(_TIMEX_BYTES)
    try:
        if ctypes.CDLL(None).adjtimex(buffer) < 0:
            return False
    except (OSError, AttributeError):
        return False
    word = ctypes.sizeof(ctypes.c_long)
    status = int.from_bytes(buffer.raw[5 * word : 5 * word + 4], "little")
    return not status & _STA_UNSYNC
