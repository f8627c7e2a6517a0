"""The life of the worker: started, replaced without refusing anybody, watched, started again.

Control holds the listening sockets and gives them to each worker. A new worker is loaded beside
the old one; once it says `Ready` the old one drains. Where memory does not allow two, the old
one goes first: a bounded gap. What to serve, and what a failure means, is decided elsewhere
(`whimbrel_agent.update.driver`); the supervisor only does it and tells.

When control itself dies, the worker sees its channel close, drains for two seconds and exits: the
service manager starts control again, which serves the same versions in less than a second.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any

import msgspec

from whimbrel_agent.channel import (
    Drain,
    Drained,
    EndProbation,
    FromWorker,
    Judgement,
    LoadFailed,
    Ready,
    SlotSpec,
    Start,
)
from whimbrel_agent.control.waiting import within
from whimbrel_agent.control.worker import CRASH, TIMEOUT, Worker, WorkerFailedError, ending, spawn
from whimbrel_agent.paths import replace_file

if TYPE_CHECKING:
    from collections.abc import Callable

    from whimbrel_agent.channel import ServingSettings
    from whimbrel_agent.control.sockets import Listeners
    from whimbrel_agent.paths import DataDirectory
    from whimbrel_core.wire.messages import Clock

WORKER_MODULE = "whimbrel_agent.serving.worker"
_KILL_GRACE_S = 2.0


class Supervisor:
    """Runs one worker at a time, two during a swap.

    Args:
        listeners: bound sockets.
        home: data directory.
        settings: what workers have to know of the configuration.
        load_timeout_s: how long a worker may take until `Ready`.
        drain_s: how long an old worker may take to finish.
        on_judgement: called with each `Judgement`.
        on_down: called when the serving worker ended unasked: with the name of the signal or the
            exit code, and the slots whose models were running then.
        module: the worker's module.
    """

    def __init__(
        self,
        listeners: Listeners,
        home: DataDirectory,
        settings: ServingSettings,
        *,
        load_timeout_s: float,
        drain_s: float,
        on_judgement: Callable[[Judgement], None],
        on_down: Callable[[str, tuple[SlotSpec, ...]], None],
        module: str = WORKER_MODULE,
    ) -> None:
        self._listeners = listeners
        self._home = home
        self._settings = settings
        self._load_timeout_s = load_timeout_s
        self._drain_s = drain_s
        self._on_judgement = on_judgement
        self._on_down = on_down
        self._module = module
        self._worker: Worker | None = None
        self._draining: set[asyncio.Task[None]] = set()
        self.incarnation = 0
        self.clock: Clock = "unsynced"
        self.restarts = 0

    @property
    def specs(self) -> tuple[SlotSpec, ...] | None:
        """What answers requests now; None while no worker does."""
        worker = self._worker
        return worker.specs if worker is not None and worker.running else None

    @property
    def pid(self) -> int:
        """Process id of the serving worker; 0 while there is none."""
        worker = self._worker
        return worker.process.pid if worker is not None and worker.running else 0

    async def apply(self, specs: tuple[SlotSpec, ...], *, overlap: bool = True) -> None:
        """Serve exactly ``specs`` from a new worker; does nothing when they are served already.

        Args:
            specs: the slots.
            overlap: load beside the old worker (else the old one ends first).

        Raises:
            WorkerFailedError: the new worker did not become ready. With ``overlap`` the old one
                still serves; otherwise nothing does, and the caller applies what to go back to.
        """
        if self.specs == specs:
            return
        old = self._worker
        if old is not None and not overlap:
            self._worker = None
            await self._drain(old)
            old = None
        worker = await self._start(specs)
        try:
            ready = await self._wait_ready(worker)
        except BaseException:  # a cancellation, too, must leave no worker behind
            worker.stopping = True
            worker.kill()
            await asyncio.shield(self._bury(worker))
            raise
        self._worker = worker
        watcher = asyncio.create_task(self._watch(worker))
        worker.tasks.append(watcher)
        with contextlib.suppress(OSError):
            # For people who look; a full disk must not keep a worker from serving.
            replace_file(
                self._home.worker_json,
                msgspec.json.encode({"pid": ready.pid, "rss_bytes": ready.rss_bytes}),
            )
        if old is not None:
            task = asyncio.create_task(self._drain(old))
            self._draining.add(task)
            task.add_done_callback(self._draining.discard)

    def end_probation(self, slot: str) -> None:
        """Tell the worker that the version in ``slot`` is committed."""
        worker = self._worker
        if worker is None:
            return
        worker.send(EndProbation(slot))
        # From here on the worker runs what a start without probation would give.
        worker.specs = tuple(
            msgspec.structs.replace(spec, probation=None) if spec.slot == slot else spec
            for spec in worker.specs
        )

    async def stop(self) -> None:
        """Drain the worker and wait for all of them to end."""
        worker, self._worker = self._worker, None
        if worker is not None:
            await self._drain(worker)
        if self._draining:
            await asyncio.gather(*self._draining, return_exceptions=True)

    async def _start(self, specs: tuple[SlotSpec, ...]) -> Worker:
        worker = await spawn(self._module, self._listeners.descriptors, specs)
        worker.tasks.append(asyncio.create_task(worker.listen(self._receive)))
        worker.send(
            Start(
                slots=specs,
                data_dir=str(self._home.root),
                settings=self._settings,
                incarnation=self.incarnation,
                clock=self.clock,
            )
        )
        return worker

    async def _wait_ready(self, worker: Worker) -> Ready:
        ended = asyncio.create_task(worker.process.wait())
        try:
            waiting: set[asyncio.Future[Any]] = {ended, worker.ready}
            await asyncio.wait(
                waiting,
                timeout=self._load_timeout_s,
                return_when=asyncio.FIRST_COMPLETED,
            )
            if not worker.ready.done() and ended.done():
                # What it said last may still be on its way through the channel.
                await asyncio.wait({worker.ready}, timeout=0.5)
            if worker.ready.done():
                return worker.ready.result()
        finally:
            ended.cancel()
            if not worker.ready.done():
                worker.ready.cancel()
        loading = worker.at_work()
        what = f"{loading[0].slot} ({loading[0].digest[:12]}…)" if loading else "its models"
        slot, digest = (loading[0].slot, loading[0].digest) if loading else ("", "")
        if ended.done() and not ended.cancelled():
            msg = f"the worker ended while it loaded {what}: {ending(ended.result())}"
            raise WorkerFailedError(msg, code=CRASH, slot=slot, digest=digest)
        msg = f"the worker had not loaded {what} after {self._load_timeout_s:g} s"
        raise WorkerFailedError(msg, code=TIMEOUT, slot=slot, digest=digest)

    async def _bury(self, worker: Worker) -> None:
        await worker.process.wait()
        worker.close()

    def _receive(self, worker: Worker, message: FromWorker) -> None:
        if isinstance(message, Ready):
            if not worker.ready.done():
                worker.ready.set_result(message)
        elif isinstance(message, LoadFailed):
            if not worker.ready.done():
                worker.ready.set_exception(
                    WorkerFailedError(
                        message.message,
                        code=message.code,
                        slot=message.slot,
                        digest=message.digest,
                    )
                )
        elif isinstance(message, Drained):
            worker.drained.set()
        elif worker is self._worker:
            self._on_judgement(message)

    async def _watch(self, worker: Worker) -> None:
        code = await worker.process.wait()
        if worker.stopping or worker is not self._worker:
            return
        self._worker = None
        at_work = worker.at_work()
        worker.close()
        self.restarts += 1
        self._on_down(ending(code), at_work)

    async def _drain(self, worker: Worker) -> None:
        worker.stopping = True
        worker.send(Drain(self._drain_s))
        try:
            await within(worker.process.wait(), self._drain_s + _KILL_GRACE_S)
        except asyncio.TimeoutError:
            worker.kill()
            await worker.process.wait()
        worker.close()
