"""Going without a failed request: how a worker lets go of its clients.

The worker that takes over accepts from the same listening sockets before this begins, so nothing
waits in between. What is in flight is answered; a client that keeps its connection learns with
its next answer (``connection: close``) that it should make a new one, which the other worker
accepts; a client that is silent all the time of grace is let go in silence, which HTTP/1.1
clients must expect of any server (RFC 9112, 9.5).
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from whimbrel_agent.serving.protocol import Shared

_ACCEPT_TURNS = 10
_log = logging.getLogger("whimbrel.worker")


async def drain(shared: Shared, servers: Iterable[asyncio.Server], grace_s: float) -> None:
    """Stop accepting and return when no client is left, or the time of grace is over."""
    shared.draining = True
    servers = tuple(servers)
    # Accept no more, but leave the servers open for some turns of the loop: asyncio gives an
    # accepted connection its protocol two turns later, and drops it if its server is closed by
    # then. Turns, not a time: on a busy machine one turn outlasts any short sleep.
    loop = asyncio.get_running_loop()
    for server in servers:
        for sock in server.sockets:
            loop.remove_reader(sock.fileno())
    for _ in range(_ACCEPT_TURNS):
        await asyncio.sleep(0)
    for server in servers:
        server.close()
    await _until_idle(shared, grace_s)
    for connection in list(shared.connections):
        connection.close_if_idle()
    # The rest has a request in flight: as long again for its answer.
    await asyncio.sleep(0)
    await _until_idle(shared, grace_s)


async def _until_idle(shared: Shared, timeout_s: float) -> None:
    shared.idle.clear()
    if shared.connections:
        try:
            await asyncio.wait_for(shared.idle.wait(), timeout_s)
        except asyncio.TimeoutError:
            _log.debug("%d connections are open after %s s", len(shared.connections), timeout_s)
