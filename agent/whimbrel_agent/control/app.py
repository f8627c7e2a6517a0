"""The control process: wires state, supervisor, driver, outbox and publisher, and runs them.

One thread and one asyncio loop hold all state; paho's thread only moves bytes. Nothing here knows
numpy, onnxruntime or cryptography: what needs them is another process.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import gc
import logging
import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from whimbrel_agent import __version__
from whimbrel_agent.control.admin import Admin
from whimbrel_agent.control.answers import Answers
from whimbrel_agent.control.desired import Desired
from whimbrel_agent.control.inbox import Inbox
from whimbrel_agent.control.presence import Presence
from whimbrel_agent.control.slots import SlotStore
from whimbrel_agent.control.sockets import Listeners
from whimbrel_agent.control.state import StateFile
from whimbrel_agent.control.supervisor import WORKER_MODULE, Supervisor
from whimbrel_agent.control.waiting import within
from whimbrel_agent.paths import DataDirectory, replace_file
from whimbrel_agent.system import notify, resources
from whimbrel_agent.telemetry.outbox import Outbox
from whimbrel_agent.update.driver import Driver
from whimbrel_core.errors import StorageError, UnavailableError, WhimbrelError

if TYPE_CHECKING:
    from collections.abc import Callable

    from whimbrel_agent.channel import LocalEvent
    from whimbrel_agent.config import Config
    from whimbrel_agent.telemetry.publisher import Publisher
    from whimbrel_agent.update.machine import Effect
    from whimbrel_agent.update.messages import Failure
    from whimbrel_core.wire.messages import State

_log = logging.getLogger("whimbrel.agent")
_STATE_EVERY_S = 60.0


class Application:
    """One agent on one data directory.

    Args:
        config: checked configuration.
        observe: called before and after each effect of an update (metrics, logs).
        worker_module: the module that serves.
        on_ready: called once, when what was installed serves.
    """

    def __init__(
        self,
        config: Config,
        *,
        observe: Callable[[Effect, Literal["before", "after"]], None] | None = None,
        worker_module: str = WORKER_MODULE,
        on_ready: Callable[[Application], None] | None = None,
    ) -> None:
        self.config = config
        self._on_ready = on_ready or (lambda _application: None)
        self.home = DataDirectory(config.data_dir)
        self._observe = observe
        self._worker_module = worker_module
        self._sync_due = asyncio.Event()
        self._stopping = asyncio.Event()
        self.publisher: Publisher | None = None

    async def run(self) -> None:
        """Run until SIGTERM or SIGINT.

        Raises:
            WhimbrelError: it cannot start, or a fault of its own stopped it.
        """
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stopping.set)
        with contextlib.ExitStack() as stack:
            self.home.create()
            stack.callback(os.close, _own(self.home))
            self._take_root()
            self.state = StateFile(self.home.database)
            stack.callback(self.state.close)
            self.outbox = Outbox(self.state, self.config.device_id, self.config.limits.outbox_bytes)
            self.presence = Presence(
                self.config, self.home, self.state, self.outbox, changed=self._changed
            )
            self.listeners = Listeners(
                self.config.http.host, self.config.http.port, self.config.http.socket
            )
            stack.callback(self.listeners.close)
            try:
                self.listeners.announce(self.home.http_json)
            except OSError as error:
                # Whoever knows the port is served; a full disk must not stop that.
                self.presence.error(f"{self.home.http_json} cannot be written: {error}")
            self._build()
            await self._run_parts()

    def stop(self) -> None:
        """Ask `run` to end."""
        self._stopping.set()

    # ------------------------------------------------------------------ wiring

    def _build(self) -> None:
        config = self.config
        self.presence.begin()
        self.supervisor = Supervisor(
            self.listeners,
            self.home,
            config.serving(),
            load_timeout_s=config.limits.load_timeout_s,
            drain_s=config.limits.drain_s,
            # The driver is made below; it needs the supervisor itself.
            on_judgement=lambda judgement: self.driver.judge(judgement),  # noqa: PLW0108
            on_down=lambda ending, at_work: self.driver.worker_down(ending, at_work),  # noqa: PLW0108
            module=self._worker_module,
        )
        self.supervisor.incarnation = self.presence.incarnation
        self.supervisor.clock = resources.clock_quality()
        self.driver = Driver(
            config,
            self.home,
            self.state,
            SlotStore(self.state),
            self.supervisor,
            report=self._add_event,
            changed=self._changed,
            observe=self._observe,
        )
        self.desired = Desired(
            config.device_id, self.home, self.state, self.driver, error=self.presence.error
        )
        self.inbox = Inbox(
            self.home.telemetry_socket,
            self.outbox,
            on_stored=self._outbox_changed,
            on_error=self.presence.error,
        )
        if config.mqtt.host:
            from whimbrel_agent.telemetry.publisher import Publisher

            self.publisher = Publisher(
                config,
                self.outbox,
                birth=self.presence.birth,
                life=self.presence.life,
                state=self.reported_state,
                on_desired=self.desired.receive,
                on_sync=self._sync_later,
            )
        answers = Answers(
            self.driver,
            self.supervisor,
            self.listeners,
            self.outbox,
            self.publisher,
            reported_state=self.reported_state,
            sync=self._sync_when_asked if config.repository.url else None,
        )
        self.admin = Admin(self.home.admin_socket, answers.handlers)

    async def _run_parts(self) -> None:
        # The inbox first: a worker that starts has windows of the one before it to hand over.
        await self.inbox.start()
        await self.admin.start()
        await self.driver.start()
        gc.collect()
        gc.freeze()
        self._on_ready(self)
        where = f"{self.listeners.host}:{self.listeners.port}"
        _log.info("agent %s of %s serves on %s", __version__, self.config.device_id, where)
        notify.notify("READY=1", f"STATUS=serving on {where}")
        parts = [
            asyncio.create_task(part)
            for part in (
                self._stopping.wait(),
                self.desired.take(),
                self._sync_regularly(),
                self._report_regularly(),
                self._feed_watchdog(),
                *([self.publisher.run()] if self.publisher is not None else []),
            )
        ]
        try:
            waiting: set[asyncio.Future[Any]] = {*parts, self.driver.failure}
            done, _ = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            for part in done:
                part.result()
        finally:
            _log.info("stopping: the worker finishes what it has")
            notify.notify("STOPPING=1")
            for task in parts:
                task.cancel()
            await asyncio.gather(*parts, return_exceptions=True)
            await self.driver.stop()
            # The worker hands its windows over while it drains: the inbox closes after it.
            await self.supervisor.stop()
            await self.inbox.stop()
            await self.admin.stop()

    # ------------------------------------------------------------------ regular work

    def _sync_later(self, delay_s: float) -> None:
        asyncio.get_running_loop().call_later(delay_s, self._sync_due.set)

    async def _sync_regularly(self) -> None:
        """Bring trust and try again what waits, now and then and when asked."""
        if not self.home.fleet_json.exists() and self.config.repository.url:
            self._sync_due.set()
        while True:
            with contextlib.suppress(asyncio.TimeoutError):
                await within(self._sync_due.wait(), max(1.0, self.config.repository.sync_s))
            self._sync_due.clear()
            await self._sync(asked=False)

    async def _sync_when_asked(self) -> Failure | None:
        return await self._sync(asked=True)

    async def _sync(self, *, asked: bool) -> Failure | None:
        failure = await self.driver.bring_trust()
        if failure is not None:
            self.presence.error(failure.message)
        self.desired.again()
        self.driver.sync(asked=asked)
        return failure

    async def _report_regularly(self) -> None:
        while True:
            await asyncio.sleep(_STATE_EVERY_S)
            self._changed()

    async def _feed_watchdog(self) -> None:
        every = notify.watchdog_s()
        while every is not None:
            notify.notify("WATCHDOG=1")
            await asyncio.sleep(every)
        await self._stopping.wait()

    # ------------------------------------------------------------------ what is said

    def reported_state(self) -> State:
        """Return the device as it is now."""
        return self.presence.reported_state(self.driver)

    def _changed(self) -> None:
        # Nobody listens yet while the parts are made.
        if self.publisher is not None:
            self.publisher.state_changed()

    def _outbox_changed(self) -> None:
        if self.publisher is not None:
            self.publisher.outbox_changed()

    def _add_event(self, event: LocalEvent) -> None:
        detail = " ".join(f"{key}={value!r}" for key, value in event.detail.items())
        _log.info("%s %s %s %s", event.kind, event.slot, event.digest[:12], detail)
        try:
            self.outbox.add_event(event)
        except StorageError as error:
            self.presence.error(error.message)
        self._outbox_changed()

    # ------------------------------------------------------------------ start

    def _take_root(self) -> None:
        """Copy the root of trust from enrolment, once: later roots follow from it."""
        if not self.config.root or self.home.root_json.exists():
            return
        try:
            replace_file(self.home.root_json, Path(self.config.root).read_bytes())
        except OSError as error:
            msg = f"root of trust {self.config.root} cannot be taken: {error}"
            raise StorageError(msg, code="trust.root", hint="see `root` in agent.toml") from error


def _own(home: DataDirectory) -> int:
    """Lock the data directory for this process; return the descriptor that holds the lock."""
    descriptor = os.open(home.lock, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(descriptor)
        msg = f"another agent runs on {home.root}"
        raise UnavailableError(
            msg, code="agent.running", hint="stop it, or use another data_dir"
        ) from error
    return descriptor


def run(config: Config, *, on_ready: Callable[[Application], None] | None = None) -> None:
    """Run an agent until it is told to stop. Raises `WhimbrelError`."""

    async def main() -> None:
        await Application(config, on_ready=on_ready).run()

    try:
        asyncio.run(main())
    except (OSError, RuntimeError) as error:
        msg = f"the agent stopped: {error}"
        raise WhimbrelError(msg) from error
