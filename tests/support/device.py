"""A device's end of the protocol, without its models: an outbox loop over a real MQTT client.

It does what a device promises: rows leave the outbox only by acknowledgement, everything that is
not acknowledged is sent again, births carry what was seen, assignments are verified.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion

from tests.support import windows
from whimbrel_core.errors import WhimbrelError
from whimbrel_core.identity import DeviceId
from whimbrel_core.wire import assignment, codec, topics
from whimbrel_core.wire.messages import (
    Ack,
    EventMessage,
    Life,
    ServerLife,
    SlotReport,
    State,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.models import MadeBundle
    from whimbrel_core.profile.window import Window
    from whimbrel_core.signing.keys import PublicKey

RESEND_S = 0.4
_PAUSE_S = 0.02


class SimulatedDevice:
    """One device.

    Args:
        device: its id.
        port: of the broker on 127.0.0.1.
        fleet_key: whose assignments it takes; None: it takes none.
        adopt: decides how a new assignment ends: the report of the slot after it.
    """

    def __init__(
        self,
        device: str,
        port: int,
        *,
        fleet_key: PublicKey | None = None,
        adopt: Callable[[str, assignment.SlotAssignment], SlotReport] | None = None,
        epoch: str = "00000000000000aa",
        incarnation: int = 1,
        revision: int = 0,
        drain: int = 200,
    ) -> None:
        self.device, self.epoch, self.incarnation = DeviceId(device), epoch, incarnation
        self.revision = revision
        self.slots: dict[str, SlotReport] = {}
        self.quarantined: tuple[str, ...] = ()
        self.assignments: list[assignment.Assignment] = []
        self.refused: list[WhimbrelError] = []
        self.sent = 0
        self._adopt, self._fleet_key, self._port = adopt, fleet_key, port
        self._drain = drain
        self._seq = 0
        self._rows: dict[int, tuple[str, bytes]] = {}
        self._sent_at: dict[int, float] = {}
        self._lock = threading.Lock()
        self._open = threading.Event()
        self._stop = threading.Event()
        self.empty = threading.Condition(self._lock)
        client = mqtt.Client(CallbackAPIVersion.VERSION2, client_id=device, clean_session=True)
        client.reconnect_delay_set(1, 1)
        client.max_inflight_messages_set(1000)
        will = codec.encode(Life(self.device, alive=False, incarnation=incarnation))
        client.will_set(topics.up(self.device, "life"), will, qos=1, retain=True)
        client.on_connect = self._on_connect
        client.on_disconnect = lambda *_: self._open.clear()
        client.on_message = self._on_message
        self._client = client
        self._thread = threading.Thread(target=self._pump, daemon=True)

    def start(self) -> SimulatedDevice:
        """Connect and begin to send."""
        self._client.connect_async("127.0.0.1", self._port, 5, bind_address="127.0.0.1")
        self._client.loop_start()
        self._thread.start()
        return self

    def close(self) -> None:
        """Stop sending and leave (the broker delivers no Will for a clean farewell)."""
        self._stop.set()
        if self._thread.ident is not None:
            self._thread.join()
        self._client.disconnect()
        self._client.loop_stop()

    @property
    def waiting(self) -> int:
        """Rows that are not acknowledged."""
        with self._lock:
            return len(self._rows)

    def put_window(self, made: MadeBundle, window: Window, *, slot: str = "churn") -> int:
        """Put a window into the outbox and return its sequence number."""
        with self._lock:
            self._seq += 1
            message = windows.message(
                made, window, device=self.device, epoch=self.epoch, seq=self._seq, slot=slot
            )
            self._rows[self._seq] = ("window", message)
            return self._seq

    def put_event(self, kind: str, at_ms: int) -> int:
        """Put an event into the outbox."""
        with self._lock:
            self._seq += 1
            message = EventMessage(self.device, self.epoch, self._seq, at_ms, kind)
            self._rows[self._seq] = ("event", codec.encode(message))
            return self._seq

    def put_raw(self, leaf: str, data: bytes) -> None:
        """Publish bytes as they are, outside the outbox."""
        self._client.publish(f"whimbrel/v1/{self.device}/up/{leaf}", data, qos=1)

    def wait_empty(self, timeout_s: float) -> bool:
        """Wait until every row is acknowledged."""
        deadline = time.monotonic() + timeout_s
        with self.empty:
            while self._rows:
                if not self.empty.wait(deadline - time.monotonic()):
                    return False
        return True

    def report(self) -> None:
        """Publish the full reported state."""
        state = State(
            device=self.device,
            incarnation=self.incarnation,
            revision=self.revision,
            slots=tuple(self.slots.values()),
            quarantined=self.quarantined,
        )
        topic = topics.up(self.device, "state")
        self._client.publish(topic, codec.encode(state), qos=1, retain=True)

    def _on_connect(self, client: mqtt.Client, *_: object) -> None:
        client.subscribe(
            [
                (topics.down(self.device, "ack"), 1),
                (topics.down(self.device, "desired"), 1),
                (topics.SERVER_LIFE, 1),
            ]
        )
        life = Life(
            self.device,
            alive=True,
            incarnation=self.incarnation,
            epoch=self.epoch,
            agent_version="simulated",
            revision=self.revision,
        )
        client.publish(topics.up(self.device, "life"), codec.encode(life), qos=1, retain=True)
        self.report()

    def _on_message(self, _client: mqtt.Client, _data: object, message: mqtt.MQTTMessage) -> None:
        if message.topic == topics.SERVER_LIFE:
            alive = codec.decode(ServerLife, message.payload).alive
            (self._open.set if alive else self._open.clear)()
        elif message.topic.endswith("/ack"):
            self._acknowledge(codec.decode(Ack, message.payload))
        elif message.topic.endswith("/desired") and self._fleet_key is not None:
            self._take(bytes(message.payload))

    def _acknowledge(self, ack: Ack) -> None:
        if ack.epoch != self.epoch:
            return
        with self.empty:
            for seq in list(self._rows):
                if seq <= ack.upto or any(low <= seq <= high for low, high in ack.ranges):
                    del self._rows[seq]
                    self._sent_at.pop(seq, None)
            if not self._rows:
                self.empty.notify_all()

    def _take(self, data: bytes) -> None:
        assert self._fleet_key is not None
        try:
            wanted = assignment.verify(
                data, [self._fleet_key], device=self.device, revision_floor=self.revision
            )
        except WhimbrelError as error:
            self.refused.append(error)
            return
        self.assignments.append(wanted)
        self.revision = wanted.revision
        if self._adopt is not None:
            for slot in set(self.slots) - set(wanted.slots):
                del self.slots[slot]
            for slot, asked in wanted.slots.items():
                self.slots[slot] = self._adopt(slot, asked)
        self.report()

    def _pump(self) -> None:
        while not self._stop.wait(_PAUSE_S):
            if not self._open.is_set():
                continue
            now = time.monotonic()
            with self._lock:
                due = [
                    seq
                    for seq in sorted(self._rows)
                    if now - self._sent_at.get(seq, -10.0) > RESEND_S
                ][: self._drain]
                batch = [(seq, *self._rows[seq]) for seq in due]
                self._sent_at.update(dict.fromkeys(due, now))
            for _, leaf, data in batch:
                self._client.publish(f"whimbrel/v1/{self.device}/up/{leaf}", data, qos=1)
                self.sent += 1


def serving(made: MadeBundle, slot: str = "churn", **changes: object) -> SlotReport:
    """Return the report of a slot that has committed to a bundle."""
    values: dict[str, object] = {
        "slot": slot,
        "phase": "serving",
        "digest": made.digest,
        "name": made.manifest.name,
        "version": made.manifest.version,
        "release": made.manifest.release,
        "parity_passed": True,
        "committed": True,
    }
    return SlotReport(**{**values, **changes})  # type: ignore[arg-type]
