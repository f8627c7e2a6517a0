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
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from whimbrel_agent import __version__
from whimbrel_agent.control import report
from whimbrel_agent.control.admin import Admin, Request
from whimbrel_agent.control.inbox import Inbox
from whimbrel_agent.control.slots import SlotStore
from whimbrel_agent.control.sockets import Listeners
from whimbrel_agent.control.state import StateFile
from whimbrel_agent.control.supervisor import WORKER_MODULE, Supervisor
from whimbrel_agent.control.waiting import within
from whimbrel_agent.paths import DataDirectory, replace_file
from whimbrel_agent.system import notify, resources
from whimbrel_agent.telemetry.outbox import Outbox
from whimbrel_agent.update import child, trust
from whimbrel_agent.update.driver import Driver
from whimbrel_agent.update.messages import VerifyRequest
from whimbrel_core.errors import InputError, StorageError, UnavailableError, WhimbrelError
from whimbrel_core.wire.messages import Life

if TYPE_CHECKING:
    from collections.abc import Callable

    from whimbrel_agent.channel import LocalEvent
    from whimbrel_agent.config import Config
    from whimbrel_agent.telemetry.publisher import Publisher
    from whimbrel_agent.update.machine import Effect
    from whimbrel_agent.update.messages import Failure
    from whimbrel_core.wire.messages import State

_log = logging.getLogger("whimbrel.agent")
_VERIFY_TIMEOUT_S = 30.0
_STATE_EVERY_S = 60.0
_DESIRED_AGAIN_S = 5.0


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
        self._incarnation = 0
        self._last_error = ""
        self._desired: bytes | None = None
        self._accepted: bytes | None = None
        self._desired_due = asyncio.Event()
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
            self._note_damage()
            self.listeners = Listeners(
                self.config.http.host, self.config.http.port, self.config.http.socket
            )
            stack.callback(self.listeners.close)
            try:
                self.listeners.announce(self.home.http_json)
            except OSError as error:
                # Whoever knows the port is served; a full disk must not stop that.
                self._error(f"{self.home.http_json} cannot be written: {error}")
            self._build()
            await self._run_parts()

    def stop(self) -> None:
        """Ask `run` to end."""
        self._stopping.set()

    # ------------------------------------------------------------------ wiring

    def _build(self) -> None:
        config = self.config
        self._incarnation = self._next_incarnation()
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
        self.supervisor.incarnation = self._incarnation
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
        self.inbox = Inbox(
            self.home.telemetry_socket,
            self.outbox,
            on_stored=self._outbox_changed,
            on_error=self._error,
        )
        self.admin = Admin(
            self.home.admin_socket,
            {
                "status": self._status,
                "sync": self._sync,
                "outbox": self._outbox_totals,
                "forgive": self._forgive,
            },
        )
        if config.mqtt.host:
            from whimbrel_agent.telemetry.publisher import Publisher

            self.publisher = Publisher(
                config,
                self.outbox,
                birth=self._birth,
                life=self._life,
                state=self.reported_state,
                on_desired=self._receive_desired,
                on_sync=self._sync_later,
            )

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
                self._take_desired(),
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

    # ------------------------------------------------------------------ desired state

    def _receive_desired(self, envelope: bytes) -> None:
        self._desired = envelope
        self._desired_due.set()

    async def _take_desired(self) -> None:
        """Verify the newest desired document and hand it to the driver; older ones are passed over."""
        while True:
            await self._desired_due.wait()
            self._desired_due.clear()
            envelope = self._desired
            if envelope is None or envelope == self._accepted:
                # The same document comes with every session: once verified is enough.
                continue
            failure = await self._verify(envelope)
            if failure is not None and failure.code in {"trust.signature", "trust.fleet"}:
                # Perhaps the fleet's key is new: the publisher says which it is.
                unreachable = await self.driver.bring_trust()
                failure = await self._verify(envelope) if unreachable is None else unreachable
            if failure is not None and failure.retryable:
                # The publisher does not answer, or the disk is full: later it may hold.
                self._error(f"desired state cannot be taken yet: {failure.message}")
                if self._desired is envelope:
                    asyncio.get_running_loop().call_later(_DESIRED_AGAIN_S, self._desired_due.set)
            elif failure is not None:
                self._error(f"desired state refused: {failure.message}")
            else:
                self._accepted = envelope

    async def _verify(self, envelope: bytes) -> Failure | None:
        from whimbrel_agent.update.messages import Failure

        try:
            keys = trust.fleet(self.home.fleet_json)
            if not keys:
                return Failure("trust.fleet", "the fleet's key is not known yet")
            answer = await child.run(
                "whimbrel_agent.update.verify",
                VerifyRequest(
                    envelope, keys, self.config.device_id, self.state.get_int("revision")
                ),
                timeout_s=_VERIFY_TIMEOUT_S,
                what="verify",
            )
            if answer.assignment is not None:
                self.driver.assign(answer.assignment)
        except StorageError as error:
            return child.failure(error)
        return answer.failure

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
            await self._sync_now(asked=False)

    async def _sync_now(self, *, asked: bool) -> Failure | None:
        failure = await self.driver.bring_trust()
        if failure is not None:
            self._error(failure.message)
        if self._desired is not None:
            self._desired_due.set()
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

    def _birth(self) -> Life:
        self._incarnation = self._next_incarnation()
        return self._life()

    def _life(self) -> Life:
        totals = self.outbox.totals()
        return Life(
            device=self.config.device_id,
            alive=True,
            incarnation=self._incarnation,
            epoch=self.outbox.epoch,
            agent_version=__version__,
            revision=self.state.get_int("revision"),
            outbox_rows=totals.rows,
            outbox_bytes=totals.bytes,
            outbox_first=totals.first,
            outbox_last=totals.last,
            clock=resources.clock_quality(),
            config=self.config.fingerprint,
        )

    def _next_incarnation(self) -> int:
        try:
            return self.state.count_up("incarnation")
        except StorageError as error:
            # A full disk must not silence the device: it is just what has to be reported.
            self._error(error.message)
            return max(self._incarnation, self.state.get_int("incarnation")) + 1

    def reported_state(self) -> State:
        """Return the device as it is now."""
        return report.reported_state(
            self.config.device_id,
            report.Facts(
                incarnation=self._incarnation,
                revision=self.state.get_int("revision"),
                memory_available_bytes=resources.memory_available_bytes(),
                disk_free_bytes=resources.disk_free_bytes(self.home.root),
                dropped_windows=self.state.get_int("dropped_windows"),
                bytes_downloaded=self.state.get_int("bytes_downloaded"),
                last_error=self._last_error or self.driver.last_error,
            ),
            self.driver.states,
            self.driver.quarantined,
            self.config.labels,
        )

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
            self._error(error.message)
        self._outbox_changed()

    def _error(self, sentence: str) -> None:
        _log.warning("%s", sentence)
        self._last_error = f"{time.strftime('%Y-%m-%dT%H:%M:%SZ', time.gmtime())} {sentence}"
        self._changed()

    # ------------------------------------------------------------------ admin

    async def _status(self, _request: Request) -> dict[str, Any]:
        publisher = self.publisher
        return report.status(
            self.reported_state(),
            self.outbox.totals(),
            quarantined=self.driver.quarantined,
            http={"host": self.listeners.host, "port": self.listeners.port},
            worker={"pid": self.supervisor.pid, "restarts": self.supervisor.restarts},
            fleet={
                "configured": publisher is not None,
                "connected": publisher is not None and publisher.connected,
                "consumer": publisher is not None and publisher.consumer,
                "last_error": publisher.last_error if publisher is not None else "",
                "sent": publisher.sent if publisher is not None else 0,
                "resent": publisher.resent if publisher is not None else 0,
                "refused_messages": publisher.refused_messages if publisher is not None else 0,
            },
            clock=resources.clock_quality(),
            epoch=self.outbox.epoch,
        )

    async def _sync(self, _request: Request) -> dict[str, Any]:
        if not self.config.repository.url:
            msg = "no repository is configured"
            raise InputError(msg, hint="set repository.url in agent.toml")
        failure = await self._sync_now(asked=True)
        if failure is not None:
            raise UnavailableError(failure.message, code=failure.code, hint=failure.hint or None)
        return {"synced": True}

    async def _outbox_totals(self, _request: Request) -> dict[str, Any]:
        import msgspec

        return dict(msgspec.to_builtins(self.outbox.totals()))

    async def _forgive(self, request: Request) -> dict[str, Any]:
        matches = [d for d in self.driver.quarantined if d.startswith(request.digest)]
        if not request.digest or len(matches) != 1:
            held = len(self.driver.quarantined)
            msg = f"{request.digest!r} names {len(matches)} of the {held} digests in quarantine, not one"
            raise InputError(msg, hint="see 'whimbrel agent status'", code="quarantine.unknown")
        self.driver.forgive(matches[0])
        return {"forgiven": matches[0]}

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

    def _note_damage(self) -> None:
        if self.state.set_aside is not None:
            self._last_error = (
                f"agent.db was damaged and set aside as {self.state.set_aside.name}; "
                "a new outbox was begun"
            )


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
