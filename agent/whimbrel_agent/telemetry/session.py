"""One MQTT session, from connecting to losing it: a paho client whose callbacks reach the loop.

A new client for each session: paho then has no queue of its own from before, and what was not
acknowledged is known by the outbox alone. paho's thread moves the bytes of an established
session (its blocking connect, with DNS and TLS, would stop the loop otherwise); every callback
is handed to the asyncio loop, where all state lives.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from whimbrel_agent.control.waiting import within
from whimbrel_core.errors import ConfigError, UnavailableError

# paho looks for dnspython, which it needs for SRV records alone, and takes 90 ms and 8 MB for it
# where some other program has it installed.
_had_dns = "dns" in sys.modules
if not _had_dns:
    sys.modules["dns"] = None  # type: ignore[assignment]
import paho.mqtt.client as paho  # noqa: E402
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion  # noqa: E402

if not _had_dns:
    del sys.modules["dns"]

if TYPE_CHECKING:
    from collections.abc import Callable

    from whimbrel_agent.config import Mqtt

CONNACK_TIMEOUT_S = 10.0
_QOS = 1


class Session:
    """A connection to the broker with a Will; used once.

    Args:
        config: where and as whom.
        client_id: the device id.
        will: topic and payload that the broker publishes when this session dies.
        on_message: called in the loop with topic and payload.
    """

    def __init__(
        self,
        config: Mqtt,
        client_id: str,
        will: tuple[str, bytes],
        on_message: Callable[[str, bytes], None],
    ) -> None:
        self._config = config
        self._client_id = client_id
        self._loop = asyncio.get_running_loop()
        self._on_message = on_message
        self._connected: asyncio.Future[None] = self._loop.create_future()
        self.lost: asyncio.Future[str] = self._loop.create_future()
        client = paho.Client(
            CallbackAPIVersion.VERSION2,
            client_id=client_id,
            clean_session=True,
            protocol=MQTTProtocolVersion.MQTTv311,
            reconnect_on_failure=False,
        )
        client.will_set(will[0], will[1], qos=_QOS, retain=True)
        client.max_inflight_messages_set(1000)
        client.connect_timeout = CONNACK_TIMEOUT_S
        if config.username:
            client.username_pw_set(config.username, _password(config.password_file))
        self._context = _tls(config) if config.ca else None
        if self._context is not None:
            client.tls_set_context(self._context)
        client.on_connect = self._connack
        client.on_disconnect = self._disconnected
        client.on_message = self._message
        self._client = client

    async def connect(self, subscriptions: tuple[str, ...]) -> None:
        """Connect and subscribe.

        Raises:
            UnavailableError: no broker, or it refuses.
        """
        config = self._config
        where = f"broker {config.host}:{config.port}"
        try:
            await asyncio.to_thread(
                self._client.connect, config.host, config.port, config.keepalive_s
            )
        except ssl.SSLCertVerificationError as error:
            msg = (
                f"{where}: its certificate does not hold against mqtt.ca {config.ca}: "
                f"{error.verify_message or error}"
            )
            raise UnavailableError(
                msg, code="mqtt.tls", hint="use the ca.crt from enrolment, and a right clock"
            ) from error
        except ssl.SSLError as error:
            msg = f"{where}: no secure connection: {error.reason or error}"
            raise UnavailableError(
                msg, code="mqtt.tls", hint="is it the broker's port for TLS?"
            ) from error
        except (OSError, ValueError) as error:
            msg = f"{where} cannot be reached: {error}"
            raise UnavailableError(msg, code="mqtt.connect") from error
        self._client.loop_start()
        try:
            await within(self._connected, CONNACK_TIMEOUT_S)
        except asyncio.TimeoutError as error:
            msg = (
                f"{where} took the connection and did not answer the login of {self._client_id} "
                f"within {CONNACK_TIMEOUT_S:g} s: it may not know this device"
            )
            raise UnavailableError(
                msg, code="mqtt.connack", hint="check the certificate and the broker's log"
            ) from error
        self._client.subscribe([(topic, _QOS) for topic in subscriptions])

    def publish(self, topic: str, payload: bytes, *, retain: bool = False) -> bool:
        """Hand a message to the broker with QoS 1; return whether the session took it."""
        return self._client.publish(topic, payload, qos=_QOS, retain=retain).rc == 0

    async def close(self, farewell: tuple[str, bytes] | None = None) -> None:
        """End the session; ``farewell`` is sent first (a clean end fires no Will)."""
        if farewell is not None and not self.lost.done():
            info = self._client.publish(farewell[0], farewell[1], qos=_QOS, retain=True)
            with contextlib.suppress(RuntimeError, ValueError):
                await asyncio.to_thread(info.wait_for_publish, 2.0)
        self._client.disconnect()
        await asyncio.to_thread(self._client.loop_stop)
        if self._context is not None and self._context.made is not None:
            self._context.made.close()
        for future in (self._connected, self.lost):
            if not future.done():
                future.cancel()
            elif not future.cancelled():
                future.exception()

    # ---------------------------------------------------------------- paho's thread

    def _hand_over(self, call: Callable[..., None], *values: object) -> None:
        # The loop may have closed already when the last packet arrives.
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(call, *values)

    def _connack(self, *details: Any) -> None:  # noqa: ANN401 - paho's signature
        reason = details[3]
        self._hand_over(self._set_connected, str(reason) if reason.is_failure else "")

    def _disconnected(self, *details: Any) -> None:  # noqa: ANN401 - paho's signature
        self._hand_over(self._set_lost, str(details[3]))

    def _message(self, _client: object, _data: object, message: paho.MQTTMessage) -> None:
        self._hand_over(self._on_message, message.topic, message.payload)

    # ---------------------------------------------------------------- the loop

    def _set_connected(self, refusal: str) -> None:
        if self._connected.done():
            return
        if refusal:
            msg = f"broker {self._config.host}:{self._config.port} refuses: {refusal}"
            self._connected.set_exception(UnavailableError(msg, code="mqtt.refused"))
        else:
            self._connected.set_result(None)

    def _set_lost(self, reason: str) -> None:
        if self._config.cert and not self._connected.done():
            # In TLS 1.3 a server looks at the client's certificate after the client believes the
            # handshake to be over, and says no by hanging up.
            reason = f"it hung up on the certificate {self._config.cert} ({reason})"
        self._set_connected(reason)
        if not self.lost.done():
            self.lost.set_result(reason)


def _password(path: str) -> str | None:
    if not path:
        return None
    try:
        return Path(path).read_text("utf-8").strip()
    except OSError as error:
        msg = f"mqtt.password_file {path} cannot be read: {error}"
        raise ConfigError(msg) from error


class _Context(ssl.SSLContext):
    """Remembers the socket that it secured: paho leaves it open when the handshake fails."""

    made: ssl.SSLSocket | None = None

    def wrap_socket(self, *values: Any, **named: Any) -> ssl.SSLSocket:  # noqa: ANN401 - as in ssl
        self.made = super().wrap_socket(*values, **named)
        return self.made


def _tls(config: Mqtt) -> _Context:
    # A client's context requires a certificate that fits the host's name.
    context = _Context(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_verify_locations(config.ca)
        if config.cert:
            context.load_cert_chain(config.cert, config.key)
    except (OSError, ssl.SSLError) as error:
        msg = f"mqtt.ca, mqtt.cert or mqtt.key cannot be used: {error}"
        raise ConfigError(msg, hint="they are PEM files from enrolment") from error
    return context
