"""Telling the world: CloudEvents 1.0 in structured JSON, to a command or to an address.

https://github.com/cloudevents/spec, "JSON Event Format" and "HTTP Protocol Binding", structured
mode. A command gets the event on standard input and its type in ``WHIMBREL_EVENT_TYPE``; it is a
list of words and never passes a shell.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import httpx
import msgspec

from whimbrel_core.errors import UnavailableError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from whimbrel_server.views.alerts import AlertView

CONTENT_TYPE = "application/cloudevents+json"
DRIFT_ALARM = "dev.whimbrel.drift.alarm"
RETRAINING_REQUESTED = "dev.whimbrel.retraining.requested"
SOURCE = "/whimbrel/fleet"
# What is kept of a command's output: its end, where errors are.
_OUTPUT_CHARS = 16_384
_PAUSE_MAX_S = 60.0
_SLICE_S = 0.2


class CloudEvent(msgspec.Struct, frozen=True, kw_only=True, rename=str.lower):
    """One event. ``id`` is the same each time that the same thing is told."""

    id: str
    type: str
    source: str
    subject: str
    time: str
    data: dict[str, Any]
    specversion: str = "1.0"
    datacontenttype: str = "application/json"

    def encode(self) -> bytes:
        """Return the structured JSON form."""
        return msgspec.json.encode(self)


class CommandResult(msgspec.Struct, frozen=True):
    """How a command ended: exit code (None: stopped at the time limit), output's end, seconds."""

    code: int | None
    output: str
    seconds: float


def rfc3339(at_ms: int) -> str:
    """Return milliseconds since 1970 as an RFC 3339 time in UTC."""
    moment = datetime.fromtimestamp(at_ms / 1000, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def alert_event(alert: AlertView) -> CloudEvent:
    """Return the event of an alert; one that grew worse, or to many more devices, is another event."""
    kind = DRIFT_ALARM if alert.kind == "drift" else f"dev.whimbrel.{alert.kind}.alert"
    devices = alert.evidence.get("figures", {}).get("told") if alert.scope else None
    return CloudEvent(
        id=f"alert-{alert.id}-{alert.severity}" + (f"-{devices}" if devices else ""),
        type=kind,
        source=SOURCE,
        subject="/".join(
            part for part in (alert.model, alert.device or alert.scope, alert.feature) if part
        ),
        time=rfc3339(alert.raised_ms),
        data=msgspec.to_builtins(alert),
    )


def run_command(
    argv: Sequence[str],
    event: CloudEvent,
    *,
    timeout_s: float,
    env: Mapping[str, str],
    stopping: Callable[[], bool] = lambda: False,
) -> CommandResult:
    """Run ``argv`` with ``event`` on standard input.

    The command has a process group of its own; at the time limit, or when ``stopping`` says so,
    the whole group is ended, so that no grandchild goes on writing.

    Raises:
        UnavailableError: it cannot be started.
    """
    begun = time.monotonic()
    try:
        process = subprocess.Popen(
            list(argv),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env={**env, "WHIMBREL_EVENT_TYPE": event.type},
            start_new_session=True,
        )
    except OSError as error:
        raise UnavailableError(
            f"the command {argv[0]!r} cannot be started: {error}",
            hint="see [retraining] command in server.toml",
            code="unavailable.command",
        ) from error
    given: bytes | None = event.encode()
    while True:
        try:
            output, _ = process.communicate(given, timeout=_SLICE_S)
        except subprocess.TimeoutExpired:
            given = None  # communicate keeps the rest of the input itself
            if stopping() or time.monotonic() - begun > timeout_s:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                output, _ = process.communicate()
                code: int | None = None
                break
        else:
            code = process.returncode
            break
    text = output.decode("utf-8", "replace")[-_OUTPUT_CHARS:]
    return CommandResult(code, text, time.monotonic() - begun)


def post(
    url: str,
    event: CloudEvent,
    *,
    timeout_s: float,
    attempts: int,
    pause: Callable[[float], bool],
) -> int:
    """POST ``event`` to ``url`` until it is taken; return the tries it took.

    Args:
        url: http or https.
        event: what happened.
        timeout_s: for one try.
        attempts: how many tries.
        pause: waits so many seconds; returns True when the server is stopping.

    Raises:
        UnavailableError: nobody took it, or the receiver refused it for good (4xx).
    """
    problem = "not tried"
    for attempt in range(1, attempts + 1):
        try:
            response = httpx.post(
                url,
                content=event.encode(),
                headers={"Content-Type": CONTENT_TYPE},
                timeout=timeout_s,
            )
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            problem = f"{type(error).__name__}: {error}"
        else:
            if response.is_success:
                return attempt
            problem = f"status {response.status_code}"
            # 408 and 429 ask for another try; any other 4xx would be refused again.
            if response.is_client_error and response.status_code not in {408, 429}:
                break
        if attempt < attempts and pause(min(2.0 ** (attempt - 1), _PAUSE_MAX_S)):
            break
    raise UnavailableError(
        f"event {event.id} was not taken by {url}: {problem}",
        hint="see [notify] webhooks in server.toml",
        code="unavailable.webhook",
    )
