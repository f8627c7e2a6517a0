"""Closes the windows that a dead process left open, and reports the ones that cannot be read."""

from __future__ import annotations

import contextlib
import logging
import os
import secrets
from typing import TYPE_CHECKING, NamedTuple

from whimbrel_agent.channel import LocalEvent
from whimbrel_agent.telemetry import client as clients
from whimbrel_agent.telemetry import windowfile
from whimbrel_core.errors import WhimbrelError

if TYPE_CHECKING:
    from pathlib import Path

    from whimbrel_agent.telemetry.bundles import KnownBundles
    from whimbrel_agent.telemetry.client import TelemetryClient

_log = logging.getLogger("whimbrel.telemetry")


class Recovered(NamedTuple):
    """What was found."""

    windows: int
    rows: int
    damaged: int


def recover(directory: Path, known: KnownBundles, client: TelemetryClient) -> Recovered:
    """Hand over every window in ``directory`` whose process is gone.

    A file that cannot be read is moved to ``damaged/`` and reported as an event; the others are
    not touched by it.
    """
    windows = rows = damaged = 0
    _remove_unborn(directory)
    for path in sorted(directory.glob("*" + windowfile.SUFFIX)):
        if path.with_suffix(clients.SUFFIX).exists():
            # Closed already: the process died between writing that file and removing this one.
            path.unlink(missing_ok=True)
            continue
        try:
            window = windowfile.recover(path, known.baseline)
            if window is None:
                continue
            counted, message = window.close()
        except (WhimbrelError, OSError, ValueError) as error:
            damaged += 1
            _set_aside(path, error, client)
            continue
        if counted.rows or counted.quality or counted.ops.rejected or counted.ops.failed:
            windows += 1
            rows += counted.rows
            client.put(message, path)
            window.release()
        else:
            window.discard()
    if windows or damaged:
        _log.info("recovered %d windows (%d rows), %d damaged", windows, rows, damaged)
    return Recovered(windows, rows, damaged)


def _set_aside(path: Path, error: Exception, client: TelemetryClient) -> None:
    _log.warning("%s cannot be recovered (%s); it was moved to damaged/", path.name, error)
    with contextlib.suppress(OSError):
        clients.set_aside(path)
    client.put(
        LocalEvent(
            event_id=secrets.token_hex(8),
            at_ms=clients.now_ms(),
            kind="window_damaged",
            detail={
                "file": path.name,
                "code": getattr(error, "code", "storage"),
                "message": str(error)[:300],
            },
        )
    )


def _remove_unborn(directory: Path) -> None:
    """Remove files that never became a window: their process died while it made them."""
    for path in directory.glob("*.new"):
        with contextlib.suppress(OSError):
            file = os.open(path, os.O_RDWR | os.O_CLOEXEC)
            try:
                if windowfile.lock(file):
                    path.unlink(missing_ok=True)
            finally:
                os.close(file)
