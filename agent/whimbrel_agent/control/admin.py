"""``run/admin.sock``: JSON lines for the ``whimbrel agent`` commands on the same machine.

One request per line, ``{"do": "status"}``; one line of answer, ``{"ok": …}`` or ``{"error": …}``.
The socket's mode is the authorisation: the owner of the data directory.
"""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Any

import msgspec

from whimbrel_agent.control.inbox import listen
from whimbrel_core.errors import (
    InputError,
    RefusedError,
    StorageError,
    TrustError,
    UnavailableError,
    UsageError,
    WhimbrelError,
)

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Awaitable, Callable, Mapping
    from pathlib import Path

_LINE_BYTES = 1 << 20
_TIMEOUT_S = 10.0
# What was an error in the agent is the same kind of error, with its exit code, for who asked.
_KINDS: dict[int, type[WhimbrelError]] = {
    kind.exit_code: kind
    for kind in (UsageError, InputError, TrustError, RefusedError, UnavailableError, StorageError)
}


class Request(msgspec.Struct, frozen=True):
    """What is asked."""

    do: str
    digest: str = ""


class Admin:
    """Answers requests with the handlers it is given, by name."""

    def __init__(
        self, path: Path, handlers: Mapping[str, Callable[[Request], Awaitable[object]]]
    ) -> None:
        self._path = path
        self._handlers = handlers
        self._server: asyncio.AbstractServer | None = None

    async def start(self) -> None:
        """Begin to listen."""
        self._server = await listen(self._path, self._converse)

    async def stop(self) -> None:
        """Stop listening."""
        if self._server is not None:
            self._server.close()
        self._path.unlink(missing_ok=True)

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while line := await reader.readline():
                writer.write(msgspec.json.encode(await self._answer(line)) + b"\n")
                await writer.drain()
        except (ConnectionError, ValueError):
            pass  # gone, or a line beyond the stream's limit
        finally:
            writer.close()

    async def _answer(self, line: bytes) -> dict[str, Any]:
        try:
            request = msgspec.json.decode(line, type=Request)
            handler = self._handlers.get(request.do)
            if handler is None:
                known = ", ".join(sorted(self._handlers))
                msg = f"the agent does not know {request.do!r}"
                raise UsageError(msg, hint=f"it knows: {known}")
            return {"ok": await handler(request)}
        except msgspec.DecodeError as error:
            return _refusal(InputError(f"not a request: {error}"))
        except WhimbrelError as error:
            return _refusal(error)


def _refusal(error: WhimbrelError) -> dict[str, Any]:
    return {"error": {**error.as_dict(), "exit_code": error.exit_code}}


def ask(path: Path, request: Request, timeout_s: float = _TIMEOUT_S) -> Any:  # noqa: ANN401 - JSON
    """Ask the running agent and return its answer (the commands' side; blocking).

    Raises:
        UnavailableError: no agent runs on this data directory, it is another user's, or it does
            not answer in time.
        WhimbrelError: what the agent answered with.
    """
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
            sock.settimeout(timeout_s)
            sock.connect(str(path))
            sock.sendall(msgspec.json.encode(request) + b"\n")
            with sock.makefile("rb") as file:
                line = file.readline(_LINE_BYTES)
        answer = msgspec.json.decode(line)
    except (OSError, msgspec.DecodeError) as error:
        raise _unanswered(path, error, timeout_s) from error
    if "error" in answer:
        found = answer["error"]
        kind = _KINDS.get(found.get("exit_code", 0), WhimbrelError)
        raise kind(found["message"], hint=found["hint"], code=found["code"])
    return answer["ok"]


def _unanswered(path: Path, error: Exception, timeout_s: float) -> UnavailableError:
    data_dir = path.parent.parent
    if isinstance(error, (FileNotFoundError, ConnectionRefusedError)):
        return UnavailableError(
            f"no agent runs on {data_dir}; what is stored there is as it was",
            code="agent.down",
            hint="start it: 'systemctl start whimbrel-agent', or 'whimbrel agent run --config …'",
        )
    if isinstance(error, PermissionError):
        return UnavailableError(
            f"the agent on {data_dir} answers its own user only",
            code="agent.user",
            hint="run this as that user: sudo -u whimbrel whimbrel agent …",
        )
    if isinstance(error, TimeoutError):
        return UnavailableError(
            f"the agent on {data_dir} has not answered within {timeout_s:g} s; it goes on with it",
            code="agent.busy",
            hint="look later with 'whimbrel agent status', or at its log",
        )
    return UnavailableError(
        f"the agent on {data_dir} broke off: {error}; perhaps it was just stopped",
        code="agent.down",
        hint="try again, or look at its log",
    )
