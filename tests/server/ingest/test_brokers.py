"""Brokers: mosquitto with the configuration that init writes, the embedded one, lost memories."""

from __future__ import annotations

import socket
import ssl
import subprocess
import threading
import time
from typing import TYPE_CHECKING

import paho.mqtt.client as mqtt
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from paho.mqtt.enums import CallbackAPIVersion

from tests.server.conftest import running, settings_for, until
from tests.support.device import SimulatedDevice, serving
from tests.support.windows import Counter
from whimbrel_core.errors import ConfigError, UnavailableError
from whimbrel_core.wire.messages import Life
from whimbrel_server import config, provision
from whimbrel_server.broker import EmbeddedBroker
from whimbrel_server.enrolment import now_utc

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.broker import Broker
    from tests.support.house import House
    from whimbrel_server.app import Fleet

START_MS = 1_735_689_600_000


def request_for(name: str, folder: Path) -> tuple[str, Path]:
    key = ec.generate_private_key(ec.SECP256R1())
    file = folder / f"{name}.key"
    file.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "somebody-else")])
    request = x509.CertificateSigningRequestBuilder().subject_name(subject)
    pem = request.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
    return pem.decode(), file


class Secured:
    """A server and a mosquitto as ``server init`` makes them: mutual TLS, ACL."""

    def __init__(self, house: House, folder: Path, port: int) -> None:
        self.folder, self.port = folder, port
        plan = provision.Plan(
            directory=folder,
            repository=house.repository.directory,
            online_keys=house.online,
            mqtt_port=port,
        )
        provision.make(plan, token_hash="unused", now=now_utc())
        conf = folder / "mosquitto.conf"
        # Tests stay on the loopback.
        text = conf.read_text().replace(f"listener {port} 0.0.0.0", f"listener {port} 127.0.0.1")
        conf.write_text(text)
        self.log = (folder / "mosquitto.log").open("wb")
        self.process = subprocess.Popen(
            ["mosquitto", "-c", str(conf)], stdout=self.log, stderr=self.log
        )
        until(self._answers, "mosquitto")
        self.settings = config.load(folder / config.FILE, {})

    def _answers(self) -> bool:
        try:
            socket.create_connection(("127.0.0.1", self.port), 1).close()
        except OSError:
            return False
        return True

    def client(self, fleet: Fleet, name: str, client_id: str = "") -> mqtt.Client:
        pem, key = request_for(name, self.folder)
        given = fleet.enrol(name, pem, {}, "operator")
        cert = self.folder / f"{name}.crt"
        cert.write_text(given.cert_pem)
        client = mqtt.Client(CallbackAPIVersion.VERSION2, client_id=client_id or name)
        context = ssl.create_default_context(cafile=str(self.folder / "ca.crt"))
        context.load_cert_chain(cert, key)
        client.tls_set_context(context)
        return client

    def close(self) -> None:
        self.process.terminate()
        self.process.wait(10)
        self.log.close()


@pytest.fixture
def secured(house: House, tmp_path: Path, free_port: int) -> Iterator[Secured]:
    made = Secured(house, tmp_path / "secured", free_port)
    yield made
    made.close()


@pytest.mark.needs("mosquitto")
def test_a_device_speaks_in_its_own_branch_only(house: House, secured: Secured) -> None:
    from whimbrel_core.wire import codec

    house.publish("1.0.0")
    with running(secured.settings) as fleet:
        until(lambda: fleet.health().broker_connected, "the server's own certificate")
        client = secured.client(fleet, "ewr")
        secured.client(fleet, "jfk")
        heard: list[str] = []
        up = threading.Event()
        client.on_connect = lambda *_: up.set()
        client.on_message = lambda _c, _d, message: heard.append(message.topic)
        client.connect("127.0.0.1", secured.port, bind_address="127.0.0.1")
        client.loop_start()
        assert up.wait(10)
        client.subscribe("whimbrel/v1/jfk/down/#", 1)
        client.subscribe("whimbrel/v1/ewr/down/#", 1)
        # The broker says yes to everything; what counts is what arrives.
        for victim in ("jfk", "ewr"):
            life = codec.encode(Life(victim, alive=True, incarnation=1, epoch="0" * 15 + "1"))
            client.publish(f"whimbrel/v1/{victim}/up/life", life, qos=1).wait_for_publish(5)
        until(lambda: fleet.device("ewr").online, "its own birth")
        assert not fleet.device("jfk").online
        for name in ("jfk", "ewr"):
            fleet.assign(name, "churn", "churn", "1.0.0", "operator")
        until(lambda: heard, "its own assignment")
        assert set(heard) == {"whimbrel/v1/ewr/down/desired"}
        client.disconnect()
        client.loop_stop()


@pytest.mark.needs("mosquitto")
def test_without_a_certificate_of_the_fleet_nobody_connects(house: House, secured: Secured) -> None:
    context = ssl.create_default_context(cafile=str(secured.folder / "ca.crt"))
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    with (
        socket.create_connection(("127.0.0.1", secured.port), 5) as raw,
        pytest.raises((ssl.SSLError, ConnectionError)),
        context.wrap_socket(raw, server_hostname="127.0.0.1") as wrapped,
    ):
        wrapped.recv(1)


@pytest.mark.needs("mosquitto")
def test_a_broker_that_lost_its_memory_is_told_everything_again(
    house: House, broker: Broker, tmp_path: Path
) -> None:
    made = house.publish("1.0.0")
    with running(settings_for(house, broker.port, tmp_path / "server")) as fleet:
        assert fleet.knows("ewr")
        until(lambda: fleet.health().broker_connected, "the broker")
        fleet.assign("ewr", "churn", "churn", "1.0.0", "operator")
        broker.kill()
        broker.start()
        until(lambda: fleet.health().broker_connected, "the broker, again")
        device = SimulatedDevice(
            "ewr",
            broker.port,
            fleet_key=house.fleet_key.public,
            adopt=lambda slot, _: serving(made, slot),
        ).start()
        until(lambda: device.assignments, "the assignment")
        until(lambda: fleet.device("ewr").slots[0].version == "1.0.0", "its report")
        device.close()


@pytest.mark.needs("mosquitto")
def test_a_server_that_is_behind_its_devices_jumps_above_what_they_have_seen(
    house: House, broker: Broker, tmp_path: Path
) -> None:
    house.publish("1.0.0")
    with running(settings_for(house, broker.port, tmp_path / "server")) as fleet:
        assert fleet.knows("ewr")
        fleet.assign("ewr", "churn", "churn", "1.0.0", "operator")
        device = SimulatedDevice(
            "ewr", broker.port, fleet_key=house.fleet_key.public, revision=41
        ).start()
        until(lambda: device.assignments, "a revision that the device takes")
        assert device.assignments[0].revision == 42
        until(lambda: fleet.device("ewr").revision_seen == 42, "its report")
        device.close()


def test_the_embedded_broker_carries_telemetry_and_assignments(
    house: House, free_port: int, tmp_path: Path
) -> None:
    made = house.publish("1.0.0")
    embedded = config.Mqtt(port=free_port, embedded=True)
    with running(settings_for(house, free_port, tmp_path / "server", mqtt=embedded)) as fleet:
        device = SimulatedDevice(
            "ewr",
            free_port,
            fleet_key=house.fleet_key.public,
            adopt=lambda slot, _: serving(made, slot),
        )
        counter = Counter(made)
        for i in range(20):
            device.put_window(made, counter.window(START_MS + i * 300_000))
        device.start()
        assert device.wait_empty(20.0)
        fleet.assign("ewr", "churn", "churn", "1.0.0", "operator")
        until(
            lambda: [slot.version for slot in fleet.device("ewr").slots] == ["1.0.0"], "the report"
        )
        (count,) = fleet.counts()
        assert (count.windows, count.lost) == (20, 0)
        device.close()
        # amqtt ends sessions of its own accord; give the farewell a moment to be written.
        time.sleep(0.05)


def test_the_embedded_broker_says_when_its_port_is_taken(free_port: int) -> None:
    with socket.create_server(("127.0.0.1", free_port)):
        broker = EmbeddedBroker("127.0.0.1", free_port)
        with pytest.raises(UnavailableError, match=str(free_port)):
            broker.start()


def test_the_embedded_broker_is_refused_on_other_addresses(tmp_path: Path) -> None:
    file = tmp_path / "server.toml"
    file.write_text('[mqtt]\nembedded = true\nhost = "0.0.0.0"\n')
    with pytest.raises(ConfigError, match="loopback"):
        config.load(file, {})
