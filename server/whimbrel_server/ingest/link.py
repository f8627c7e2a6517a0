"""The server's connection to the broker: MQTT 3.1.1, clean session, QoS 1.

The link owns the paho client and its thread, the server's own life (birth on every connect, death
as the Will), and nothing else: what arrives goes to ``receive``; when the subscription stands,
``ready`` is called and the server says that a consumer is there.
"""

from __future__ import annotations

import logging
import ssl
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion

from whimbrel_core.errors import ConfigError
from whimbrel_core.wire import codec, topics
from whimbrel_core.wire.messages import ServerLife

if TYPE_CHECKING:
    from collections.abc import Callable

    from paho.mqtt.reasoncodes import ReasonCode

log = logging.getLogger(__name__)

CLIENT_ID = "whimbrel-server"
# mosquitto with mutual TLS did about 150 handshakes a second on two cores.
HANDSHAKES_PER_S = 150.0
_KEEPALIVE_S = 20
_RECONNECT_MIN_S = 1
_RECONNECT_MAX_S = 15


class LinkSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Where the broker is, and who we are to it."""

    host: str
    port: int
    ca: Path | None = None
    cert: Path | None = None
    key: Path | None = None
    username: str = ""
    password_file: Path | None = None


class Link:
    """Connects, stays connected, and publishes.

    Args:
        settings: the broker.
        incarnation: of this run of the server, higher than the last one's.
        receive: called on paho's thread with topic and payload; may block (that is back pressure).
        ready: called on paho's thread whenever a new subscription stands.
        lost: called on paho's thread when the connection ends.
    """

    def __init__(
        self,
        settings: LinkSettings,
        *,
        incarnation: int,
        receive: Callable[[str, bytes], None],
        ready: Callable[[], None],
        lost: Callable[[], None],
    ) -> None:
        self._settings = settings
        self._incarnation = incarnation
        self._receive, self._ready, self._lost = receive, ready, lost
        self._up = threading.Event()
        self._drain_per_s = 0.0
        self._fleet = 0
        client = mqtt.Client(
            CallbackAPIVersion.VERSION2,
            client_id=CLIENT_ID,
            clean_session=True,
            protocol=mqtt.MQTTv311,
        )
        client.will_set(
            topics.SERVER_LIFE,
            codec.encode(ServerLife(alive=False, incarnation=incarnation)),
            qos=1,
            retain=True,
        )
        client.reconnect_delay_set(_RECONNECT_MIN_S, _RECONNECT_MAX_S)
        # Acknowledgements are small; the default of 20 in flight would make them wait in line.
        client.max_inflight_messages_set(1000)
        client.on_connect = self._on_connect
        client.on_subscribe = self._on_subscribe
        client.on_disconnect = self._on_disconnect
        client.on_message = self._on_message
        client.enable_logger(log)
        self._client = client
        self._secure(settings)

    @property
    def connected(self) -> bool:
        """Whether the subscription stands."""
        return self._up.is_set()

    def start(self) -> None:
        """Begin to connect, and go on trying."""
        host = self._settings.host
        # A broker on this machine is reached from this machine's own address; paho would bind to
        # any address, which firewalls of hardened services rightly refuse.
        source = host if host.startswith("127.") else ""
        self._client.connect_async(host, self._settings.port, _KEEPALIVE_S, bind_address=source)
        self._client.loop_start()

    def stop(self) -> None:
        """Say that no consumer is there any more, and disconnect."""
        if self._up.is_set():
            message = codec.encode(ServerLife(alive=False, incarnation=self._incarnation))
            info = self._client.publish(topics.SERVER_LIFE, message, qos=1, retain=True)
            try:
                info.wait_for_publish(2.0)
            except (RuntimeError, ValueError):
                log.debug("the broker left before the farewell")
        self._up.clear()
        self._client.disconnect()
        self._client.loop_stop()

    def publish(self, topic: str, payload: bytes, *, retain: bool = False) -> None:
        """Publish at QoS 1. What cannot be sent now is dropped: the protocol repeats everything."""
        if self._up.is_set():
            self._client.publish(topic, payload, qos=1, retain=retain)

    def announce(self, *, drain_per_s: float, fleet: int) -> None:
        """Tell devices that a consumer is there, how fast it drains, and how to spread."""
        self._drain_per_s, self._fleet = drain_per_s, fleet
        life = ServerLife(
            alive=True,
            incarnation=self._incarnation,
            drain_per_s=drain_per_s,
            spread_s=2 * fleet / HANDSHAKES_PER_S,
        )
        self.publish(topics.SERVER_LIFE, codec.encode(life), retain=True)

    def _secure(self, settings: LinkSettings) -> None:
        try:
            if settings.ca is not None:
                context = ssl.create_default_context(cafile=str(settings.ca))
                if settings.cert is not None:
                    context.load_cert_chain(settings.cert, settings.key)
                self._client.tls_set_context(context)
            if settings.username:
                password = (
                    settings.password_file.read_text("utf-8").strip()
                    if settings.password_file
                    else None
                )
                self._client.username_pw_set(settings.username, password)
        except (OSError, ssl.SSLError) as error:
            raise ConfigError(
                f"the broker's credentials cannot be read: {error}",
                hint="see [mqtt] ca, cert, key and password_file in server.toml",
            ) from error

    def _on_connect(
        self,
        client: mqtt.Client,
        _data: object,
        _flags: mqtt.ConnectFlags,
        reason: ReasonCode,
        _properties: object,
    ) -> None:
        if reason.is_failure:
            log.warning("the broker %s refuses the server: %s", self._settings.host, reason)
            return
        client.subscribe(topics.UP_FILTER, qos=1)

    def _on_subscribe(
        self,
        _client: mqtt.Client,
        _data: object,
        _mid: int,
        reasons: list[ReasonCode],
        _properties: object,
    ) -> None:
        if any(reason.is_failure for reason in reasons):
            log.error("the broker refuses the subscription to %s", topics.UP_FILTER)
            return
        self._up.set()
        log.info("connected to the broker %s:%d", self._settings.host, self._settings.port)
        self._ready()

    def _on_disconnect(
        self,
        _client: mqtt.Client,
        _data: object,
        _flags: object,
        reason: ReasonCode,
        _properties: object,
    ) -> None:
        if self._up.is_set():
            log.warning("the connection to the broker ended (%s); trying again", reason)
        self._up.clear()
        self._lost()

    def _on_message(self, _client: mqtt.Client, _data: object, message: mqtt.MQTTMessage) -> None:
        self._receive(message.topic, bytes(message.payload))
