"""One worker process, and control's end of the channel to it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import sys
import time
from typing import TYPE_CHECKING

from whimbrel_agent.channel import FrameDecoder, FromWorker, encode_frame
from whimbrel_agent.marks import SharedMarks
from whimbrel_core.errors import RefusedError, WireError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import msgspec

    from whimbrel_agent.channel import Ready, SlotSpec

_READ = 64 * 1024

CRASH, TIMEOUT = "worker.crash", "worker.timeout"


class WorkerFailedError(RefusedError):
    """A worker did not become ready. ``slot`` and ``digest`` name the cause where it is known.

    The code is the worker's own reason (`LoadFailed`), or `CRASH` or `TIMEOUT` when it could say
    none: then the slot is the one whose model was being loaded.
    """

    default_code = "worker.failed"

    def __init__(self, message: str, *, code: str, slot: str = "", digest: str = "") -> None:
        super().__init__(message, code=code)
        self.slot = slot
        self.digest = digest


class Worker:
    """One worker process and the channel to it."""

    def __init__(
        self,
        process: asyncio.subprocess.Process,
        specs: tuple[SlotSpec, ...],
        marks: SharedMarks,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        self.process = process
        self.specs = specs
        self.marks = marks
        self.ready: asyncio.Future[Ready] = asyncio.get_running_loop().create_future()
        self.drained = asyncio.Event()
        self.stopping = False
        self.started = time.monotonic()
        self.tasks: list[asyncio.Task[None]] = []
        self._reader, self._writer = reader, writer

    def send(self, message: msgspec.Struct) -> None:
        """Send a frame; a worker that is gone does not hear it."""
        if not self._writer.is_closing():
            self._writer.write(encode_frame(message))

    async def listen(self, receive: Callable[[Worker, FromWorker], None]) -> None:
        """Hand on what the worker says, until it says no more; end one that cannot be understood."""
        decoder = FrameDecoder[FromWorker](FromWorker)
        try:
            while data := await self._reader.read(_READ):
                for message in decoder.feed(data):
                    receive(self, message)
        except (OSError, WireError):
            self.kill()

    def close(self) -> None:
        """Close the channel; the process has ended."""
        self._writer.close()
        self.marks.close()

    def at_work(self) -> tuple[SlotSpec, ...]:
        """Return the slots whose model was loading or running at its last moment."""
        return tuple(self.specs[place] for place in self.marks.marked(len(self.specs)))

    @property
    def running(self) -> bool:
        """Whether the process lives."""
        return self.process.returncode is None

    def kill(self) -> None:
        """End the process now."""
        if self.running:
            with contextlib.suppress(ProcessLookupError):
                self.process.send_signal(signal.SIGKILL)


async def spawn(module: str, listen: Sequence[int], specs: tuple[SlotSpec, ...]) -> Worker:
    """Return a worker that has just been started, and has been told nothing yet.

    Args:
        module: what serves.
        listen: descriptors of the listening sockets that it inherits.
        specs: what it is to serve.

    Raises:
        WorkerFailedError: there is no process to be had.
    """
    ours, theirs = socket.socketpair()
    marks = SharedMarks()
    arguments = [sys.executable, "-m", module, "--channel", str(theirs.fileno())]
    inherited = [theirs.fileno(), *listen]
    if marks.descriptor >= 0:
        arguments += ["--marks", str(marks.descriptor)]
        inherited.append(marks.descriptor)
    for descriptor in listen:
        arguments += ["--listen", str(descriptor)]
    try:
        process = await asyncio.create_subprocess_exec(
            *arguments,
            stdin=asyncio.subprocess.DEVNULL,
            pass_fds=tuple(inherited),
            env={**os.environ, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"},
        )
    except OSError as error:
        ours.close()
        marks.close()
        msg = f"a worker cannot be started: {error}"
        raise WorkerFailedError(msg, code="worker.start") from error
    finally:
        theirs.close()
        marks.close_descriptor()
    reader, writer = await asyncio.open_connection(sock=ours)
    return Worker(process, specs, marks, reader, writer)


def ending(code: int) -> str:
    """Return how a process ended, from its exit code, as people name it."""
    if code >= 0:
        return f"exit code {code}"
    with contextlib.suppress(ValueError):
        return signal.Signals(-code).name
    return f"signal {-code}"
