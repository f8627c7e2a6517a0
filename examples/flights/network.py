"""A network that can be cut: TCP forwarders between one device and everything that it talks to.

Cutting closes every connection and refuses new ones, as a pulled cable and a router's reset do;
the device's processes are not touched. Mending lets new connections through again.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

_CHUNK = 1 << 16


class Network:
    """Forwarders in a thread of their own; `through` gives the port to use instead."""

    def __init__(self) -> None:
        self.bytes = 0
        self._up = True
        self._servers: list[asyncio.Server] = []
        self._writers: set[asyncio.StreamWriter] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()

    def through(self, port: int) -> int:
        """Return a loopback port that leads to ``port`` as long as the network is up."""

        async def listen() -> int:
            server = await asyncio.start_server(self._accept(port), "127.0.0.1", 0)
            self._servers.append(server)
            return int(server.sockets[0].getsockname()[1])

        return asyncio.run_coroutine_threadsafe(listen(), self._loop).result(10)

    def cut(self) -> None:
        """Close every connection, and refuse new ones until `mend`."""
        self._up = False
        self._loop.call_soon_threadsafe(self._abort_all)

    def mend(self) -> None:
        """Let new connections through."""
        self._up = True

    def close(self) -> None:
        """Cut, and end the thread."""
        self._up = False
        asyncio.run_coroutine_threadsafe(self._end(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5)
        self._loop.close()

    async def _end(self) -> None:
        for server in self._servers:
            server.close()
        self._abort_all()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    def _abort_all(self) -> None:
        for writer in self._writers:
            writer.transport.abort()

    def _accept(
        self, port: int
    ) -> Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]:
        async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            if not self._up:
                writer.transport.abort()
                return
            try:
                far_reader, far_writer = await asyncio.open_connection("127.0.0.1", port)
            except OSError:
                writer.transport.abort()
                return
            pair = {writer, far_writer}
            self._writers |= pair
            try:
                await asyncio.gather(self._pump(reader, far_writer), self._pump(far_reader, writer))
            finally:
                for side in pair:
                    side.transport.abort()
                self._writers -= pair

        return accept

    async def _pump(self, source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, OSError):
            while data := await source.read(_CHUNK):
                self.bytes += len(data)
                target.write(data)
                await target.drain()
        with contextlib.suppress(ConnectionError, OSError, RuntimeError):
            target.write_eof()
