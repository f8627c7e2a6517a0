"""The device's end of the fleet protocol: birth, state, the outbox out, desired state in.

Rules: the outbox is closed while the server's life is off. A row is numbered durably before it is
sent, at most a window of them are on their way, sized by the server's drain rate, and only an
`Ack` of this epoch deletes. After silence everything unacknowledged is sent again, from the lowest,
with longer and longer waits. A PUBACK means nothing.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from typing import TYPE_CHECKING, Any

from whimbrel_agent.control.waiting import within
from whimbrel_agent.telemetry.backoff import Reconnect, Resend
from whimbrel_agent.telemetry.session import Session
from whimbrel_core.errors import StorageError, WhimbrelError, WireError
from whimbrel_core.identity import device_id
from whimbrel_core.wire import codec, topics
from whimbrel_core.wire.messages import Ack, Hint, Life, ServerLife, WindowMessage

if TYPE_CHECKING:
    from collections.abc import Callable

    from whimbrel_agent.config import Config
    from whimbrel_agent.telemetry.outbox import Outbox
    from whimbrel_core.wire.messages import State

_log = logging.getLogger("whimbrel.fleet")
_BATCH = 64
_LEAST_IN_FLIGHT = 16
# Two seconds of the server's drain rate keep it busy across a coalesced acknowledgement.
_DRAIN_S = 2.0
_STATE_DELAY_S = 0.05
# The backlog is told again when it is gone or has grown beyond this, and not more often than this:
# what the server knows of it is what it subtracts its commits from.
BACKLOG_EVERY_S = 30.0
_GROWN_FACTOR = 2
_GROWN_ROWS = 50


class Publisher:
    """Keeps a session with the broker for as long as the agent runs.

    Args:
        config: the agent's configuration.
        outbox: rows to send.
        birth: returns the `Life` of a new incarnation (persisted before it returns).
        life: returns the `Life` of the present incarnation, its backlog as it is now.
        state: returns the reported state for that incarnation.
        on_desired: called with the bytes of ``down/desired``.
        on_sync: called when the server asks to look again.
    """

    def __init__(
        self,
        config: Config,
        outbox: Outbox,
        *,
        birth: Callable[[], Life],
        life: Callable[[], Life],
        state: Callable[[], State],
        on_desired: Callable[[bytes], None],
        on_sync: Callable[[float], None],
    ) -> None:
        self._config = config
        self._outbox = outbox
        self._birth = birth
        self._present = life
        self._state = state
        self._on_desired = on_desired
        self._on_sync = on_sync
        self._device = device_id(config.device_id)
        self._session: Session | None = None
        self._server: ServerLife | None = None
        self._cursor = 0
        self._in_flight = 0
        self._heard = 0.0
        self._resend = Resend(config.telemetry.resend_s, config.telemetry.in_flight)
        self._work = asyncio.Event()
        self._told_rows = 0
        self._told_at = 0.0
        self._moved = False
        self._state_due: asyncio.TimerHandle | None = None
        self.connected = False
        self.last_error = ""
        self.refused_messages = 0
        self.sent = 0
        self.resent = 0

    @property
    def consumer(self) -> bool:
        """Whether a server is there to take windows."""
        return self._server is not None and self._server.alive

    def outbox_changed(self) -> None:
        """Note that there is something to send."""
        self._moved = True
        self._work.set()

    def state_changed(self) -> None:
        """Publish the reported state soon; changes close together become one message."""
        if self._state_due is None and self.connected:
            loop = asyncio.get_running_loop()
            self._state_due = loop.call_later(_STATE_DELAY_S, self._publish_state)

    async def run(self) -> None:
        """Connect, serve the session, and connect again, until cancelled."""
        reconnect = Reconnect(
            self._config.mqtt.reconnect_max_s, self._config.mqtt.stable_s, random.uniform
        )
        while True:
            began = time.monotonic()
            try:
                pause = await self._one_session(reconnect, began)
            except WhimbrelError as error:
                # Whatever it is (a certificate that cannot be read, too): serving goes on.
                self._complain(error.message + (f" ({error.hint})" if error.hint else ""))
                pause = reconnect.after_failure()
            finally:
                self.connected = False
                self._server = None
            await asyncio.sleep(pause)

    async def _one_session(self, reconnect: Reconnect, began: float) -> float:
        life = self._birth()
        will = Life(device=life.device, alive=False, incarnation=life.incarnation)
        life_topic = topics.up(self._device, "life")
        session = Session(
            self._config.mqtt,
            self._device,
            (life_topic, codec.encode(will)),
            self._receive,
        )
        self._session = session
        farewell = None
        try:
            await session.connect(
                (
                    topics.SERVER_LIFE,
                    topics.ALL_HINT,
                    topics.down(self._device, "desired"),
                    topics.down(self._device, "ack"),
                    topics.down(self._device, "hint"),
                )
            )
            self.connected = True
            self.last_error = ""
            mqtt = self._config.mqtt
            _log.info("connected to the broker %s:%d", mqtt.host, mqtt.port)
            self._publish_life(session, life)
            self._publish_state()
            pump = asyncio.create_task(self._pump(session))
            try:
                ends: set[asyncio.Future[Any]] = {pump, session.lost}
                done, _ = await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
            except asyncio.CancelledError:
                farewell = (life_topic, codec.encode(will))
                raise
            finally:
                pump.cancel()
                await asyncio.gather(pump, return_exceptions=True)
            if pump in done and not pump.cancelled():
                pump.result()
            self._complain(f"the session with the broker ended: {session.lost.result()}")
            spread_s = self._server.spread_s if self._server is not None else 0.0
            return reconnect.after_session(time.monotonic() - began, spread_s)
        finally:
            if self._state_due is not None:
                self._state_due.cancel()
                self._state_due = None
            self._session = None
            self.connected = False
            await asyncio.shield(session.close(farewell))

    def _complain(self, sentence: str) -> None:
        """Keep what is wrong for ``status``, and log it when it is something else than before."""
        if sentence != self.last_error:
            _log.warning("%s", sentence)
        self.last_error = sentence

    # ------------------------------------------------------------------ out

    async def _pump(self, session: Session) -> None:
        """Send what waits, as far as the window allows; send again after silence."""
        self._rewind()
        while True:
            self._work.clear()
            if self.consumer:
                self._send(session)
            self._tell_backlog(session)
            now = time.monotonic()
            due = [self._told_at + BACKLOG_EVERY_S - now] if self._moved else []
            silent = self._silent_in(now)
            if silent is not None:
                due.append(silent)
            try:
                await within(self._work.wait(), max(0.0, min(due)) if due else None)
            except asyncio.TimeoutError:
                silent = self._silent_in(time.monotonic())
                if silent is not None and silent <= 0:
                    self.resent += self._in_flight
                    self._resend.sent_again()
                    self._rewind()

    def _silent_in(self, now: float) -> float | None:
        """Return in how many seconds an acknowledgement is overdue; None when none is awaited."""
        if not self.consumer or self._in_flight == 0:
            return None
        return self._heard + self._resend.wait_s - now

    def _tell_backlog(self, session: Session) -> None:
        """Say `life` again when the backlog that was told of is gone, or has grown a lot."""
        if not self._moved or time.monotonic() < self._told_at + BACKLOG_EVERY_S:
            return
        self._moved = False
        life = self._present()
        told = self._told_rows
        drained = told > 0 and life.outbox_rows == 0
        if drained or life.outbox_rows > told * _GROWN_FACTOR + _GROWN_ROWS:
            self._publish_life(session, life)

    def _publish_life(self, session: Session, life: Life) -> None:
        self._told_rows = life.outbox_rows
        self._told_at = time.monotonic()
        topic = topics.up(self._device, "life")
        session.publish(topic, codec.encode(life), retain=True)

    def _send(self, session: Session) -> None:
        allowed = self._allowed()
        while self._in_flight < allowed:
            try:
                batch = self._outbox.next_batch(
                    self._cursor, min(_BATCH, allowed - self._in_flight)
                )
            except StorageError as error:
                # Nothing can be numbered durably: nothing is sent; what is stored waits.
                self._complain(error.message)
                return
            if not batch:
                return
            if self._in_flight == 0:
                self._heard = time.monotonic()
            for message in batch:
                leaf: topics.Up = "window" if isinstance(message, WindowMessage) else "event"
                if not session.publish(topics.up(self._device, leaf), codec.encode(message)):
                    return
                self._cursor = message.seq
                self._in_flight += 1
                self.sent += 1

    def _allowed(self) -> int:
        most = self._resend.window
        drain = self._server.drain_per_s if self._server is not None else 0.0
        return min(most, max(_LEAST_IN_FLIGHT, int(drain * _DRAIN_S))) if drain > 0 else most

    def _rewind(self) -> None:
        """Begin again at the lowest unacknowledged row."""
        self._cursor = self._outbox.first_unacknowledged() - 1
        self._in_flight = 0
        self._heard = time.monotonic()

    def _publish_state(self) -> None:
        self._state_due = None
        if self._session is not None and self.connected:
            self._session.publish(
                topics.up(self._device, "state"), codec.encode(self._state()), retain=True
            )

    # ------------------------------------------------------------------ in

    def _receive(self, topic: str, payload: bytes) -> None:
        try:
            if topic == topics.down(self._device, "desired"):
                if payload:
                    self._on_desired(payload)
            elif topic == topics.down(self._device, "ack"):
                self._acknowledged(codec.decode(Ack, payload))
            elif topic == topics.SERVER_LIFE:
                self._server_life(codec.decode(ServerLife, payload))
            elif topic in {topics.ALL_HINT, topics.down(self._device, "hint")}:
                self._hint(codec.decode(Hint, payload))
        except WireError as error:
            self.refused_messages += 1
            self._complain(f"a message on {topic} was refused: {error.message}")
        except StorageError as error:
            self._complain(error.message)

    def _acknowledged(self, ack: Ack) -> None:
        removed = self._outbox.acknowledge(ack)
        if removed:
            self._heard = time.monotonic()
            self._resend.heard(removed)
            self._in_flight = max(0, self._in_flight - removed)
            self._moved = True
            self._work.set()

    def _server_life(self, life: ServerLife) -> None:
        before = self._server
        if before is not None and before.incarnation > life.incarnation and not life.alive:
            return  # the late death of an earlier server
        self._server = life
        if life.alive:
            if before is None or not before.alive or before.incarnation != life.incarnation:
                # Whoever is there now may not have what was on its way to the one before.
                self._resend.somebody_else()
                self._rewind()
            self._work.set()

    def _hint(self, hint: Hint) -> None:
        delay_s = random.uniform(0.0, max(0.0, min(hint.spread_s, 3600.0)))  # noqa: S311
        if hint.kind == "sync":
            self._on_sync(delay_s)
            return
        asyncio.get_running_loop().call_later(delay_s, self._follow, hint.kind)

    def _follow(self, kind: str) -> None:
        session = self._session
        if session is None or not self.connected:
            return
        if kind == "resend":
            self._rewind()
            self._work.set()
        else:
            self._publish_life(session, self._present())
            self._publish_state()
