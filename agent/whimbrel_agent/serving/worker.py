"""The worker process: loads what control names, serves it, and goes when it is told to.

Started by control as ``python -m whimbrel_agent.serving.worker --channel FD --marks FD --listen FD …``.
The listening sockets belong to control and are shared by the worker that comes and the one that goes:
the new one accepts as soon as it is ready, the old one drains, and no request fails.

When the channel closes, control is gone: the worker finishes what is in flight and exits, so that
there are never two sets of processes after control was restarted.
"""

from __future__ import annotations

import asyncio
import getopt
import logging
import os
import signal
import socket
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

from whimbrel_agent.channel import (
    Drain,
    Drained,
    EndProbation,
    Ready,
    Start,
    ToWorker,
    encode_frame,
)
from whimbrel_agent.marks import inherited
from whimbrel_agent.serving import handover, link, simd  # simd: before anything imports numpy
from whimbrel_agent.serving.batching import Batcher
from whimbrel_agent.serving.link import Link
from whimbrel_agent.serving.loading import LoadedSlot, LoadError, give_back_memory, load_slot
from whimbrel_agent.serving.metrics import resident_bytes
from whimbrel_agent.serving.protocol import Connection, Shared
from whimbrel_agent.serving.routes import Routes
from whimbrel_agent.serving.service import SlotService
from whimbrel_agent.telemetry import recovery
from whimbrel_agent.telemetry.bundles import KnownBundles
from whimbrel_agent.telemetry.client import TelemetryClient, now_ms
from whimbrel_agent.telemetry.recorder import Clocks
from whimbrel_agent.telemetry.slot import SlotTelemetry
from whimbrel_agent.telemetry.windowfile import ServedModel

if TYPE_CHECKING:
    from collections.abc import Sequence

    from whimbrel_agent.marks import Marks

EXIT_USAGE = 2
EXIT_LOAD_FAILED = 3
EXIT_CHANNEL = 4
ORPHAN_GRACE_S = 2.0
_JUDGEMENT_S = 5.0
_IDLE_CONNECTION_S = 120.0
_REQUEST_S = 30.0
_TICK_S = 1.0
_PROBATION_TICK_S = 0.25
_FLUSH_S = 2.0
_BACKLOG = 1024
_log = logging.getLogger("whimbrel.worker")


class Worker:
    """Everything one worker serves, between `Start` and `Drained`.

    Args:
        start: what control asked for.
        listening: sockets that are bound and listening.
        channel: to control.
        marks: where to say whose model is running.

    Raises:
        LoadError: a slot cannot be served; nothing was accepted.
    """

    def __init__(
        self,
        start: Start,
        listening: Sequence[socket.socket],
        channel: socket.socket,
        marks: Marks,
    ) -> None:
        self._start = start
        self._settings = start.settings
        self._listening = listening
        self._channel_socket = channel
        data_dir = Path(start.data_dir)
        self._data_dir = data_dir
        self._client = TelemetryClient(
            data_dir / "run" / "telemetry.sock",
            data_dir / "profiles",
            retry_s=start.settings.telemetry_retry_s,
        )
        loaded = [load_slot(spec, marks, place) for place, spec in enumerate(start.slots)]
        self._known = KnownBundles(
            data_dir / "store",
            [pem for spec in start.slots for pem in spec.keys],
            {slot.engine.digest: (slot.engine.baseline, slot.engine.manifest) for slot in loaded},
        )
        self._ready_slots = tuple(slot.ready for slot in loaded)
        self._services = [self._service(slot) for slot in loaded]
        self._link = Link(self.receive, self.orphaned)
        self._finished = asyncio.Event()
        self._drain_task: asyncio.Task[None] | None = None
        self._verdicts: dict[str, tuple[str, float]] = {}

    async def serve(self) -> None:
        """Accept, answer, and return once drained."""
        loop = asyncio.get_running_loop()
        heavy = [service for service in self._services if service.heavy]
        executor = ThreadPoolExecutor(max_workers=len(heavy)) if heavy else None
        slots = [(service, self._batcher(service, loop, executor)) for service in self._services]
        for service in self._services:
            service.defer = loop.call_soon
        self._mirror()
        self._shared = Shared(Routes(slots, waiting=lambda: self._client.waiting), self._settings)
        servers = [
            await loop.create_server(lambda: Connection(self._shared), sock=sock, backlog=_BACKLOG)
            for sock in self._listening
        ]
        await loop.create_connection(lambda: self._link, sock=self._channel_socket)
        loop.add_signal_handler(signal.SIGTERM, self.drain, Drain())
        self._servers = servers
        self._link.send(Ready(os.getpid(), self._ready_slots, resident_bytes()))
        self._client.start()
        self._client.call(self._recover)
        ticking = asyncio.create_task(self._tick_forever())
        await self._finished.wait()
        ticking.cancel()
        if executor is not None:
            executor.shutdown(wait=False, cancel_futures=True)

    def receive(self, message: ToWorker) -> None:
        """Do what control says."""
        if isinstance(message, Drain):
            self.drain(message)
        elif isinstance(message, EndProbation):
            for service in self._services:
                if service.slot == message.slot and service.telemetry is not None:
                    service.telemetry.end_probation()

    def orphaned(self) -> None:
        """Control is gone: finish and go."""
        if self._drain_task is None:
            _log.info("control is gone; draining")
        self.drain(Drain(ORPHAN_GRACE_S))

    def drain(self, message: Drain) -> None:
        """Begin to drain; once."""
        if self._drain_task is None:
            self._drain_task = asyncio.get_running_loop().create_task(self._drain(message.grace_s))

    async def _drain(self, grace_s: float) -> None:
        await handover.drain(self._shared, self._servers, grace_s)
        for service in self._services:
            if service.telemetry is not None:
                service.telemetry.close()
        loop = asyncio.get_running_loop()
        if not await loop.run_in_executor(None, self._client.flush, _FLUSH_S):
            _log.info("%d windows stay on disk for the next worker", self._client.waiting)
        self._client.stop()
        self._link.send(Drained())
        await self._link.close()
        self._finished.set()

    async def _tick_forever(self) -> None:
        next_sweep = 0.0
        while True:
            judged = [
                service
                for service in self._services
                if service.telemetry is not None and service.telemetry.on_probation
            ]
            await asyncio.sleep(_PROBATION_TICK_S if judged else _TICK_S)
            for service in self._services:
                if service.telemetry is not None:
                    service.telemetry.tick()
            for service in judged:
                self._judge(service)
            now = time.perf_counter()
            if now >= next_sweep:
                next_sweep = now + 5.0
                self._client.call(self._recover)
                for connection in list(self._shared.connections):
                    connection.close_if_stalled(
                        now, idle_s=_IDLE_CONNECTION_S, request_s=_REQUEST_S
                    )

    def _judge(self, service: SlotService) -> None:
        telemetry = service.telemetry
        if telemetry is None:
            return
        try:
            judgement = telemetry.judgement()
        except Exception:  # noqa: BLE001 - a fault in judging must not end serving
            _log.exception("%s cannot be judged; serving goes on", service.slot)
            return
        if judgement is None:
            return
        verdict, sent = self._verdicts.get(service.slot, ("", 0.0))
        now = time.monotonic()
        if judgement.verdict != verdict or now - sent >= _JUDGEMENT_S:
            self._verdicts[service.slot] = (judgement.verdict, now)
            self._link.send(judgement)

    def _recover(self) -> None:
        recovery.recover(self._data_dir / "profiles", self._known, self._client)

    def _service(self, slot: LoadedSlot) -> SlotService:
        spec, engine, calibration, _ = slot
        manifest = engine.manifest
        if not self._settings.profiles:
            return SlotService(spec.slot, engine, calibration, None, self._settings)
        telemetry = SlotTelemetry(
            ServedModel(spec.slot, manifest.name, manifest.version, engine.digest),
            manifest,
            engine.baseline,
            self._settings,
            data_dir=self._data_dir,
            client=self._client,
            known=self._known,
            clocks=Clocks(now_ms, time.monotonic),
            clock=self._start.clock,
            probation=spec.probation,
            device=spec.device,
        )
        return SlotService(spec.slot, engine, calibration, telemetry, self._settings)

    def _batcher(
        self,
        service: SlotService,
        loop: asyncio.AbstractEventLoop,
        executor: ThreadPoolExecutor | None,
    ) -> Batcher | None:
        if not service.batched:
            return None
        return Batcher(
            service,
            loop,
            max_rows=self._settings.max_rows,
            executor=executor if service.heavy else None,
        )

    def _mirror(self) -> None:
        """Let a shadow see the requests of the active slots that serve the same model name."""
        by_mode = list(zip(self._start.slots, self._services, strict=True))
        for spec, shadow in by_mode:
            if spec.mode != "shadow":
                continue
            for other, active in by_mode:
                same = shadow.engine.manifest.name == active.engine.manifest.name
                if other.mode == "active" and same and shadow.takes_what(active):
                    active.shadows.append(shadow)


def main(argv: Sequence[str] | None = None) -> int:
    """Run a worker until it is drained; return the exit code."""
    # getopt, because argparse is a thirtieth of the cold start and only control calls this.
    options, _ = getopt.getopt(list(argv or sys.argv[1:]), "", ["channel=", "listen=", "marks="])
    channels = [int(value) for name, value in options if name == "--channel"]
    descriptors = [int(value) for name, value in options if name == "--listen"]
    marks = [int(value) for name, value in options if name == "--marks"]
    if len(channels) != 1:
        sys.stderr.write("error: a worker is started by control\nhint: whimbrel agent run\n")
        return EXIT_USAGE
    logging.basicConfig(
        level=os.environ.get("WHIMBREL_LOG", "INFO"),
        format="%(levelname)s %(name)s: %(message)s",
        stream=sys.stderr,
    )
    _log.debug("numpy is kept from %s", os.environ.get(simd.VARIABLE) or "no instructions")
    # Ctrl-C in a terminal reaches the whole group; control decides what it means.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    channel = socket.socket(fileno=channels[0])
    listening = [socket.socket(fileno=fd) for fd in descriptors]
    start = link.receive_start(channel)
    if start is None:
        return EXIT_CHANNEL
    return asyncio.run(_run(start, listening, channel, inherited(marks[0] if marks else -1)))


async def _run(
    start: Start, listening: Sequence[socket.socket], channel: socket.socket, marks: Marks
) -> int:
    try:
        worker = Worker(start, listening, channel, marks)
    except LoadError as error:
        _log.error("%s cannot be served: %s", error.failed.slot, error.failed.message)
        channel.sendall(encode_frame(error.failed))
        return EXIT_LOAD_FAILED
    give_back_memory()
    for sock in (*listening, channel):
        sock.setblocking(False)  # noqa: FBT003 - the socket's own API
    await worker.serve()
    return 0


if __name__ == "__main__":
    sys.exit(main())
