"""Closes the windows that a dead process left open, and reports the ones that cannot be read."""

from __future__ import annotations

import contextlib
import logging
import os
import secrets
import time
from typing import TYPE_CHECKING, NamedTuple

from whimbrel_agent.channel import LocalEvent
from whimbrel_agent.telemetry import client as clients
from whimbrel_agent.telemetry import windowfile
from whimbrel_core.errors import StorageError, WhimbrelError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from whimbrel_agent.telemetry.bundles import KnownBundles
    from whimbrel_agent.telemetry.client import TelemetryClient

_WAIT_S = 7 * 86_400.0
_log = logging.getLogger("whimbrel.telemetry")


class Recovered(NamedTuple):
    """What was found."""

    windows: int
    rows: int
    damaged: int


def recover(
    directory: Path,
    known: KnownBundles,
    client: TelemetryClient,
    *,
    only: str | None = None,
) -> Recovered:
    """Hand over every window in ``directory`` whose process is gone. On the telemetry thread.

    An agent does so again and again: a worker that drains may end after its successor has begun,
    and what it could not hand over must not wait until the next restart.

    A file that cannot be read is moved to ``damaged/`` and reported as an event; the others are
    not touched by it. One whose bundle is not in the store waits a week for somebody who has it
    (an application may serve a bundle of its own) before it counts as damaged.

    Args:
        directory: of the open windows.
        known: finds the baselines.
        client: takes what is recovered.
        only: take over windows of this bundle alone; None for all.
    """
    windows = rows = damaged = 0
    if only is None:
        client.adopt()
    _remove_unborn(directory)
    for path in _left_open(directory, only):
        try:
            window = windowfile.recover(path, known.baseline)
            if window is None:
                continue
            baseline, manifest = known.get(window.digest)
            counted, message = window.close(baseline, manifest.drift)
        except StorageError as error:
            if _age_s(path) > _WAIT_S:
                damaged += 1
                _set_aside(path, error, client)
            continue
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


def _left_open(directory: Path, only: str | None) -> Iterator[Path]:
    """Yield the files of windows that nobody has closed, of one bundle or of all."""
    for path in sorted(directory.glob("*" + windowfile.SUFFIX)):
        if path.with_suffix(clients.SUFFIX).exists():
            # Closed already: the process died between writing that file and removing this one.
            path.unlink(missing_ok=True)
        elif only is None or _belongs(path, only):
            yield path


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


def _belongs(path: Path, digest: str) -> bool:
    try:
        return windowfile.digest_of(path) == digest
    except (WhimbrelError, OSError):
        return False  # whoever takes over all windows reports it


def _age_s(path: Path) -> float:
    try:
        return time.time() - path.stat().st_mtime
    except OSError:
        return 0.0


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
