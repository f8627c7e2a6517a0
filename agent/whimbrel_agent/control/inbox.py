"""``run/telemetry.sock``: where whoever serves hands over closed windows and events.

Everything that arrives together is committed together, then answered with `Stored`, one by one.
When the disk refuses nothing is answered: the sender keeps its windows and tries again.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

from whimbrel_agent.channel import ClosedWindow, FrameDecoder, LocalEvent, Stored, encode_frame
from whimbrel_core.errors import StorageError, WireError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from whimbrel_agent.telemetry.outbox import Outbox

_READ = 64 * 1024
_MODE = 0o600


class Inbox:
    """Listens for windows and events.

    Args:
        path: of the socket; a file left there by a dead control is removed.
        outbox: where they go.
        on_stored: called after each commit.
        on_error: called with a sentence when something could not be taken.
    """

    def __init__(
        self,
        path: Path,
        outbox: Outbox,
        *,
        on_stored: Callable[[], None],
        on_error: Callable[[str], None],
    ) -> None:
        self._path = path
        self._outbox = outbox
        self._on_stored = on_stored
        self._on_error = on_error
        self._server: asyncio.AbstractServer | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self.refused = 0

    async def start(self) -> None:
        """Begin to listen."""
        self._server = await listen(self._path, self._converse)

    async def stop(self) -> None:
        """Stop listening; senders keep what was not answered."""
        if self._server is not None:
            self._server.close()
        for writer in tuple(self._writers):
            writer.close()
        self._path.unlink(missing_ok=True)

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        decoder = FrameDecoder[ClosedWindow | LocalEvent](ClosedWindow | LocalEvent)
        self._writers.add(writer)
        try:
            while data := await reader.read(_READ):
                items = list(decoder.feed(data))
                if items:
                    ids = self._outbox.store(items)
                    writer.write(b"".join(encode_frame(Stored(key)) for key in ids))
                    self._on_stored()
                    await writer.drain()
        except WireError as error:
            self.refused += 1
            self._on_error(f"telemetry socket: {error.message}")
        except StorageError as error:
            self._on_error(error.message)
        except ConnectionError:
            pass
        finally:
            self._writers.discard(writer)
            writer.close()


async def listen(
    path: Path,
    converse: Callable[[asyncio.StreamReader, asyncio.StreamWriter], object],
) -> asyncio.AbstractServer:
    """Listen on a Unix socket that its owner alone may use.

    Raises:
        StorageError: the socket cannot be made.
    """
    # A socket's file is made and removed in memory: it blocks nobody.
    with contextlib.suppress(FileNotFoundError):
        path.unlink()  # noqa: ASYNC240
    try:
        server = await asyncio.start_unix_server(converse, path=str(path))  # type: ignore[arg-type]
        path.chmod(_MODE)  # noqa: ASYNC240
    except OSError as error:
        msg = f"socket {path} cannot be made: {error}"
        raise StorageError(
            msg, hint="paths of sockets are at most 107 bytes: choose a shorter data_dir"
        ) from error
    return server
