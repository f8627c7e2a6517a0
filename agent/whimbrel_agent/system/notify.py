"""systemd's notification protocol: READY, STATUS, STOPPING and the watchdog."""

from __future__ import annotations

import contextlib
import os
import socket


def notify(*states: str) -> bool:
    """Tell the service manager, when there is one; return whether there is."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address:
        return False
    if address.startswith("@"):
        address = "\0" + address[1:]
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.sendto("\n".join(states).encode(), address)
        return True
    return False


def watchdog_s() -> float | None:
    """Return how often to send WATCHDOG=1: half of what the service manager allows."""
    try:
        allowed = int(os.environ.get("WATCHDOG_USEC", "0"))
        owner = int(os.environ.get("WATCHDOG_PID", str(os.getpid())))
    except ValueError:
        return None
    return allowed / 2e6 if allowed > 0 and owner == os.getpid() else None
