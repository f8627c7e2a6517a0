"""Mutual TLS as ``whimbrel server init`` sets it up: what is wrong is said, and serving goes on."""

from __future__ import annotations

import asyncio
import socket
import ssl
import threading
from typing import TYPE_CHECKING

import paho.mqtt.client as paho
import pytest

from tests.support.agent import DEVICE, RunningAgent
from tests.support.broker import BrokerProcess
from tests.support.ports import free_port
from whimbrel_agent.config import Mqtt
from whimbrel_agent.telemetry import session as sessions
from whimbrel_core.errors import UnavailableError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

enrolment = pytest.importorskip(
    "whimbrel_server.enrolment", reason="the server's part is not installed in this Python"
)
provision = pytest.importorskip("whimbrel_server.provision", reason="same")
pytestmark = pytest.mark.needs("mosquitto")


class House:
    """A server's folder with its authority, a stranger's authority, and a broker."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        port = free_port()
        plan = provision.Plan(
            directory=folder / "server", repository=folder / "repository", mqtt_port=port
        )
        now = enrolment.now_utc()
        provision.make(plan, token_hash="", now=now)
        server = folder / "server"
        self.ca = server / "ca.crt"
        self.server = server
        self._authority = enrolment.Authority.load(self.ca, server / "ca.key")
        stranger = enrolment.Authority.create(now)
        self.other_ca = folder / "other.crt"
        self.other_ca.write_text(stranger.certificate_pem)
        self.device = self._issue(self._authority, "device")
        self.stranger = self._issue(stranger, "stranger")
        self.broker = BrokerProcess(server / "mosquitto.conf", port, folder / "mosquitto.log")

    def _issue(self, authority: object, name: str) -> tuple[Path, Path]:
        pem, key = authority.issue(DEVICE, enrolment.now_utc())  # type: ignore[attr-defined]
        cert, private = self.folder / f"{name}.crt", self.folder / f"{name}.key"
        cert.write_text(pem)
        private.write_bytes(key)
        return cert, private

    def settings(self, *, ca: Path | None = None, own: tuple[Path, Path] | None = None) -> Mqtt:
        cert, key = own or self.device
        return Mqtt(
            host="127.0.0.1",
            port=self.broker.port,
            ca=str(ca or self.ca),
            cert=str(cert),
            key=str(key),
        )


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    found = House(tmp_path_factory.mktemp("tls"))
    found.broker.start()
    yield found
    found.broker.close()


def configured(folder: Path, mqtt: Mqtt) -> RunningAgent:
    lines = [
        "[mqtt]",
        *(f'{key} = "{getattr(mqtt, key)}"' for key in ("host", "ca", "cert", "key")),
    ]
    lines += [f"port = {mqtt.port}", "reconnect_max_s = 0.2"]
    return RunningAgent(folder, more="\n".join(lines) + "\n")


def test_an_agent_says_what_is_wrong_with_its_certificates_and_connects_once_they_are_right(
    house: House, tmp_path: Path
) -> None:
    missing = (tmp_path / "no.crt", tmp_path / "no.key")
    stories = {
        "ca": (
            house.settings(ca=house.other_ca),
            f"does not hold against mqtt.ca {house.other_ca}",
        ),
        "own": (
            house.settings(own=house.stranger),
            f"hung up on the certificate {house.stranger[0]}",
        ),
        "file": (house.settings(own=missing), "mqtt.ca, mqtt.cert or mqtt.key cannot be used"),
        "right": (house.settings(), ""),
    }
    agents = {name: configured(tmp_path / name, mqtt) for name, (mqtt, _) in stories.items()}
    try:
        for agent in agents.values():
            agent.launch()
        for name, agent in agents.items():
            agent.wait_for(agent.status)
            sentence = stories[name][1]
            if not sentence:
                agent.wait_for(lambda: agent.status()["fleet"]["connected"])  # noqa: B023
                continue
            agent.wait_for(lambda: sentence in agent.status()["fleet"]["last_error"])  # noqa: B023
            assert not agent.status()["fleet"]["connected"]
            # It serves, and goes on trying.
            assert agent.call("GET", "/v2/health/live")[0] == 200
        # Put right, the file is read at the next try: no restart is needed.
        for path, source in zip(missing, house.device, strict=True):
            path.write_bytes(source.read_bytes())
        agents["file"].wait_for(lambda: agents["file"].status()["fleet"]["connected"])
    finally:
        for agent in agents.values():
            agent.stop()


@pytest.fixture(autouse=True)
def _from_loopback(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bind to loopback: paho binds to every address otherwise, which tests must not."""
    real = paho.Client.connect

    def connect(client: paho.Client, host: str, port: int, keepalive: int) -> object:
        return real(client, host, port, keepalive, bind_address="127.0.0.1")

    monkeypatch.setattr(paho.Client, "connect", connect)


def connecting(mqtt: Mqtt) -> UnavailableError:
    """Return how a session fails to connect."""

    async def story() -> None:
        session = sessions.Session(mqtt, DEVICE, ("t", b""), lambda _topic, _payload: None)
        try:
            await session.connect(())
        finally:
            await session.close()

    with pytest.raises(UnavailableError) as caught:
        asyncio.run(story())
    return caught.value


def test_a_broker_that_takes_the_connection_and_never_answers_is_an_authentication_failure(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert sessions.CONNACK_TIMEOUT_S == 10.0
    monkeypatch.setattr(sessions, "CONNACK_TIMEOUT_S", 0.5)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(house.server / "broker.crt", house.server / "broker.key")
    done = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def silent() -> None:
            listening.settimeout(20)
            link, _ = listening.accept()
            with context.wrap_socket(link, server_side=True) as secure:
                secure.recv(4096)
                done.wait(20)

        thread = threading.Thread(target=silent, daemon=True)
        thread.start()
        mqtt = house.settings()
        port = listening.getsockname()[1]
        error = connecting(Mqtt(mqtt.host, port, mqtt.ca, mqtt.cert, mqtt.key))
        done.set()
        thread.join()
    assert error.code == "mqtt.connack"
    assert f"did not answer the login of {DEVICE} within 0.5 s" in error.message
    assert "certificate" in str(error.hint)


def test_a_port_without_tls_is_told_apart_from_a_wrong_certificate(house: House) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def plain() -> None:
            listening.settimeout(20)
            link, _ = listening.accept()
            with link:
                link.recv(4096)
                link.sendall(b"SSH-2.0-something else\r\n")

        thread = threading.Thread(target=plain, daemon=True)
        thread.start()
        mqtt = house.settings()
        port = listening.getsockname()[1]
        error = connecting(Mqtt(mqtt.host, port, mqtt.ca, mqtt.cert, mqtt.key))
        thread.join()
    assert error.code == "mqtt.tls"
    assert "no secure connection" in error.message
    wrong = connecting(house.settings(ca=house.other_ca))
    assert wrong.code == "mqtt.tls"
    assert "clock" in str(wrong.hint)


def test_nobody_at_the_address_is_said_with_the_address(house: House) -> None:
    mqtt = house.settings()
    error = connecting(Mqtt(mqtt.host, free_port(), mqtt.ca, mqtt.cert, mqtt.key))
    assert error.code == "mqtt.connect"
    assert "127.0.0.1:" in error.message
