"""A small fleet server's end: a real MQTT client that stores rows and acknowledges afterwards."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

from whimbrel_core.wire import codec, topics
from whimbrel_core.wire.messages import (
    Ack,
    EventMessage,
    Hint,
    Life,
    ServerLife,
    State,
    WindowMessage,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.broker import Broker

WAIT_S = 40.0


class FleetEnd:
    """Takes what devices say, keeps it, acknowledges.

    Attributes:
        rows: every row received, by (epoch, seq); what came twice is in ``copies``.
        lives, states: the newest of each device.
    """

    def __init__(self, broker: Broker, *, acknowledge: bool = True, drain_per_s: float = 0) -> None:
        self.rows: dict[tuple[str, int], WindowMessage | EventMessage] = {}
        self.copies = 0
        self.differing = 0
        self.lives: list[Life] = []
        self.states: dict[str, State] = {}
        self.desired: dict[str, bytes] = {}
        self.acknowledge = acknowledge
        self._drain = drain_per_s
        self._incarnation = int(time.time() * 1000)
        self._broker = broker
        self._changed = threading.Condition()
        self._client = self._connect()

    @property
    def windows(self) -> list[WindowMessage]:
        """Every window received once."""
        return [row for row in list(self.rows.values()) if isinstance(row, WindowMessage)]

    @property
    def events(self) -> list[EventMessage]:
        """Every event received once."""
        return [row for row in list(self.rows.values()) if isinstance(row, EventMessage)]

    def wait_for(self, condition: Callable[[], object], timeout_s: float = WAIT_S) -> None:
        """Wait until ``condition`` holds; fail with what is known when it does not."""
        with self._changed:
            if not self._changed.wait_for(condition, timeout_s):
                kinds = [event.kind for event in self.events]
                msg = f"not within {timeout_s} s; states {self.states}; events {kinds}"
                raise AssertionError(msg)

    def assign(self, device: str, envelope: bytes) -> None:
        """Publish a desired document, and keep it for the next session."""
        self.desired[device] = envelope
        self._client.publish(topics.down(device, "desired"), envelope, qos=1, retain=True)  # type: ignore[arg-type]

    def publish(self, topic: str, payload: bytes, *, retain: bool = False) -> None:
        """Publish anything."""
        self._client.publish(topic, payload, qos=1, retain=retain)

    def hint(self, device: str, hint: Hint) -> None:
        """Nudge a device."""
        self._client.publish(topics.down(device, "hint"), codec.encode(hint))  # type: ignore[arg-type]

    def pause(self) -> None:
        """Say that nobody takes windows."""
        self._say(alive=False)

    def resume(self) -> None:
        """Say that somebody does."""
        self._incarnation += 1
        self._say(alive=True)

    def close(self) -> None:
        """Leave."""
        self._client.disconnect()
        self._client.loop_stop()

    def _connect(self) -> paho.Client:
        client = paho.Client(
            CallbackAPIVersion.VERSION2,
            client_id="fleet",
            clean_session=True,
            protocol=MQTTProtocolVersion.MQTTv311,
        )
        off = ServerLife(alive=False, incarnation=self._incarnation)
        client.will_set(topics.SERVER_LIFE, codec.encode(off), qos=1, retain=True)
        client.reconnect_delay_set(0.05, 0.2)  # type: ignore[arg-type]  # fractions work
        client.on_connect = lambda *_: self._arrive(client)
        client.on_message = lambda _c, _u, message: self._take(
            message.topic, bytes(message.payload)
        )
        # Bound to loopback: paho would bind to every address otherwise.
        client.connect(self._broker.host, self._broker.port, 20, bind_address="127.0.0.1")
        client.loop_start()
        return client

    def _arrive(self, client: paho.Client) -> None:
        client.subscribe(topics.UP_FILTER, 1)
        for device, envelope in self.desired.items():
            client.publish(topics.down(device, "desired"), envelope, qos=1, retain=True)  # type: ignore[arg-type]
        self._incarnation += 1
        self._client = client
        self._say(alive=True)

    def _say(self, *, alive: bool) -> None:
        life = ServerLife(alive=alive, incarnation=self._incarnation, drain_per_s=self._drain)
        self._client.publish(topics.SERVER_LIFE, codec.encode(life), qos=1, retain=True)

    def _take(self, topic: str, payload: bytes) -> None:
        device, leaf = topics.parse_up(topic)
        with self._changed:
            if leaf == "life":
                self.lives.append(codec.decode(Life, payload))
            elif leaf == "state":
                self.states[device] = codec.decode(State, payload)
            else:
                kind = WindowMessage if leaf == "window" else EventMessage
                self._store(codec.decode(kind, payload))  # type: ignore[arg-type]
            self._changed.notify_all()

    def _store(self, row: WindowMessage | EventMessage) -> None:
        key = (row.epoch, row.seq)
        if key in self.rows:
            self.copies += 1
            self.differing += self.rows[key] != row
        self.rows[key] = row
        if self.acknowledge:
            self.acknowledge_all(row.device, row.epoch)

    def acknowledge_all(self, device: str, epoch: str) -> None:
        """Acknowledge what is stored: cumulatively, and the ranges beyond."""
        seqs = sorted(seq for stored, seq in self.rows if stored == epoch)
        upto = 0
        ranges: list[tuple[int, int]] = []
        for seq in seqs:
            if seq == upto + 1 and not ranges:
                upto = seq
            elif ranges and ranges[-1][1] == seq - 1:
                ranges[-1] = (ranges[-1][0], seq)
            else:
                ranges.append((seq, seq))
        ack = Ack(epoch, upto, tuple(ranges[:100]))
        self._client.publish(topics.down(device, "ack"), codec.encode(ack), qos=1)  # type: ignore[arg-type]
