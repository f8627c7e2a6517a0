"""Brokers: the configuration of a mosquitto with mutual TLS, and an embedded one for trying out.

The lines of the mosquitto configuration are the protocol's authorisation, not a suggestion:
``use_identity_as_username`` makes the certificate's name the user, and
``use_username_as_clientid`` makes it the client id too; without that, one device's certificate
can take over the session of another.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from typing import TYPE_CHECKING

from amqtt.broker import Broker
from amqtt.errors import AMQTTError

from whimbrel_core.errors import UnavailableError
from whimbrel_core.wire.topics import ROOT
from whimbrel_server.enrolment import SERVER_NAME

if TYPE_CHECKING:
    from pathlib import Path

log = logging.getLogger(__name__)

# Above the protocol's 32 KiB, with room for the topic.
_MAX_PACKET_BYTES = 65_536
_START_S = 10.0


def mosquitto_conf(directory: Path, port: int, *, address: str, user: str) -> str:
    """Return the text of mosquitto.conf; certificates and ``acl`` are in ``directory``.

    Args:
        directory: absolute; it is written into the file.
        port: to listen on.
        address: of the interface to listen on.
        user: owner of the folder. Started as root, mosquitto would otherwise become a user who
            may not read the private key there.
    """
    return f"""# Written by 'whimbrel server init'. Start it with: mosquitto -c {directory / "mosquitto.conf"}
# Devices and the server show certificates of the fleet's own authority; their names are their
# users and client ids, and the ACL keeps each device in its own branch.
user {user}
per_listener_settings false
listener {port} {address}
cafile {directory / "ca.crt"}
certfile {directory / "broker.crt"}
keyfile {directory / "broker.key"}
tls_version tlsv1.2
require_certificate true
use_identity_as_username true
use_username_as_clientid true
allow_anonymous false
acl_file {directory / "acl"}
max_packet_size {_MAX_PACKET_BYTES}
# Nothing of the protocol depends on what the broker keeps: retained messages are said again.
persistence false
# Acknowledgements and desired states must not wait behind each other.
max_inflight_messages 1000
max_queued_messages 20000
set_tcp_nodelay true
"""


def mosquitto_acl() -> str:
    """Return the text of the ACL file."""
    return f"""# Written by 'whimbrel server init'. %u is the name in a device's certificate.
user {SERVER_NAME}
topic readwrite {ROOT}/#

pattern write {ROOT}/%u/up/#
pattern read {ROOT}/%u/down/#
pattern read {ROOT}/all/#
pattern read {ROOT}/server/#
"""


class EmbeddedBroker:
    """amqtt in a thread of its own. Loopback, plain TCP, anybody may do anything: for trying out."""

    def __init__(self, host: str, port: int) -> None:
        self._bind = f"{host}:{port}"
        self._ready = threading.Event()
        self._failure: BaseException | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: asyncio.Event | None = None
        self._thread = threading.Thread(target=self._run, name="broker", daemon=True)

    def start(self) -> None:
        """Listen.

        Raises:
            UnavailableError: the port is taken, or the broker does not start.
        """
        self._thread.start()
        self._ready.wait(_START_S)
        if self._failure is not None or not self._ready.is_set():
            raise UnavailableError(
                f"the embedded broker cannot listen on {self._bind}: {self._failure or 'no answer'}",
                hint="choose another [mqtt] port",
                code="unavailable.broker",
            )
        log.warning(
            "embedded broker on %s: loopback only, no TLS, no authorisation; use mosquitto for "
            "anything real",
            self._bind,
        )

    def stop(self) -> None:
        """Close every connection and end."""
        if self._loop is not None and self._stop is not None:
            self._loop.call_soon_threadsafe(self._stop.set)
            self._thread.join(_START_S)

    def _run(self) -> None:
        try:
            asyncio.run(self._serve())
        except BaseException as error:  # noqa: BLE001 - reported by `start`
            self._failure = error
            self._ready.set()

    async def _serve(self) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        broker = Broker(
            {
                "listeners": {"default": {"type": "tcp", "bind": self._bind}},
                "plugins": {
                    "amqtt.plugins.authentication.AnonymousAuthPlugin": {"allow_anonymous": True}
                },
            }
        )
        await broker.start()
        self._ready.set()
        await self._stop.wait()
        try:
            await broker.shutdown()
        except AMQTTError as error:
            log.debug("the embedded broker did not end cleanly: %s", error)
