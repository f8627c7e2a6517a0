"""A whole fleet of real processes, made with the commands that a person would use.

One publisher, one broker (mosquitto with mutual TLS, or the one inside the server), one server and
some enrolled agents, each its own process on loopback.
"""

from __future__ import annotations

import contextlib
import json
import sqlite3
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from examples.flights.network import Network
from tests.packager.command import whimbrel
from tests.support.agent import AgentProcess
from tests.support.broker import BrokerProcess
from tests.support.ports import free_port
from tests.support.server_process import RunningServer
from tests.support.shelf import MODEL, publish
from tests.support.traffic import Traffic
from tests.support.waiting import until
from whimbrel_core.errors import WhimbrelError
from whimbrel_core.wire import codec
from whimbrel_core.wire.assignment import Probation
from whimbrel_core.wire.messages import WindowMessage
from whimbrel_server.client import FleetClient
from whimbrel_server.ingest.journal import Entry
from whimbrel_server.views.rollouts import Gates, RolloutSpec

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from tests.support.shelf import Shelf
    from whimbrel_packager import PackResult
    from whimbrel_server.views.devices import CountsView
    from whimbrel_server.views.rollouts import RolloutView

BrokerKind = Literal["mosquitto", "embedded"]
# Windows of the last requests have no later ones that would close them.
IDLE_CLOSE_S = 0.3
TUNED = f"""
[telemetry]
idle_close_s = {IDLE_CLOSE_S}
resend_s = 1.0
"""


class Books:
    """What a server's store says in the end.

    Attributes:
        keys: (device, epoch, seq) of every window in the journal, in order.
        rows: rows in the aggregates, by device.
        windows: windows in the aggregates, by device.
    """

    def __init__(self, database: Path) -> None:
        self.keys: list[tuple[str, str, int]] = []
        with contextlib.closing(sqlite3.connect(database)) as db:
            for (payload,) in db.execute("SELECT payload FROM segments ORDER BY id"):
                for entry in msgspec.msgpack.decode(payload, type=list[Entry]):
                    message = codec.decode(WindowMessage, entry.message)
                    self.keys.append((message.device, message.epoch, message.seq))
            totals = db.execute(
                "SELECT subject, SUM(windows), SUM(rows) FROM aggregates "
                "WHERE step = 'day' AND subject LIKE 'd:%' GROUP BY subject"
            ).fetchall()
        self.windows = {subject[2:]: int(windows) for subject, windows, _ in totals}
        self.rows = {subject[2:]: int(rows) for subject, _, rows in totals}


class Estate:
    """All of it.

    Args:
        folder: for everything.
        shelf: the packed models; 1.0.0 is published.
        kind: of broker.
    """

    def __init__(self, folder: Path, shelf: Shelf, kind: BrokerKind) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self.kind = folder, kind
        self.publisher = shelf.copy(folder / "publisher")
        self.token = folder / "operator.token"
        self.http_port, self.mqtt_port = free_port(), free_port()
        self.agents: dict[str, AgentProcess] = {}
        self.networks: dict[str, Network] = {}
        self._callers: list[Traffic] = []
        directory = folder / "server"
        self.run(
            "server", "init", "--dir", directory, "--repo", self.publisher / "repository",
            "--online-keys", self.publisher / "online-keys", "--token-file", self.token,
            "--http-port", self.http_port, "--mqtt-port", self.mqtt_port,
            *(["--embedded-broker"] if kind == "embedded" else []),
        )  # fmt: skip
        self.server = RunningServer(
            directory,
            {
                "WHIMBREL_SERVER__MONITORING__CHECKPOINT_S": "0.2",
                "WHIMBREL_SERVER__REPOSITORY__WATCH_S": "0.1",
            },
        )
        self.broker: BrokerProcess | None = None
        if kind == "mosquitto":
            conf = directory / "mosquitto.conf"
            self.broker = BrokerProcess(conf, self.mqtt_port, folder / "mosquitto.log")
        self.client = FleetClient(self.url, token=self.token.read_text().strip(), actor="tests")

    @property
    def url(self) -> str:
        """Of the server."""
        return f"http://127.0.0.1:{self.http_port}"

    def run(self, *words: object) -> Any:  # noqa: ANN401 - decoded JSON
        """Run ``whimbrel WORDS --json``, which has to work, and return what it printed."""
        done = whimbrel(*words, "--json")
        assert done.code == 0, (words, done)
        return json.loads(done.out) if done.out.strip() else None

    def fleet(self, *words: object) -> Any:  # noqa: ANN401 - decoded JSON
        """Run ``whimbrel fleet WORDS`` as the operator."""
        return self.run("fleet", *words, "--server", self.url, "--token-file", self.token)

    # ----------------------------------------------------------------------------- life

    def start(self, *devices: str) -> Estate:
        """Start broker and server; enrol devices, start them, and bring them 1.0.0."""
        if self.broker is not None:
            self.broker.start()
        self.start_server()
        for device in devices:
            self.enrol(device).start()
        if devices:
            self.bring("1.0.0")
        return self

    def bring(self, version: str) -> None:
        """Roll a version out to all devices without any gate, and wait until it is over."""
        number = self.client.start_rollout(
            RolloutSpec(
                slot=MODEL,
                model=MODEL,
                version=version,
                gates=Gates(min_rows=0, min_windows=0, max_error_rate=None),
                probation=Probation(rows=0),
            )
        ).id
        self.wait_serving(version, sorted(self.agents))
        until(lambda: self.client.rollout(number).state == "completed", f"rollout {number}")

    def start_server(self) -> None:
        """Start the server and wait until it hears the broker."""
        self.server.start()
        until(lambda: self.client.health().broker_connected, "the server to hear its broker")

    def enrol(self, device: str, *, cut: bool = False) -> AgentProcess:
        """Enrol a device and return its agent; with ``cut`` behind a network of its own."""
        folder = self.folder / device
        self.fleet("enrol", device, "--out", folder, "--http-port", 0)
        config = folder / "agent.toml"
        text = config.read_text() + TUNED
        text = text.replace("\n[mqtt]\n", "\n[mqtt]\nreconnect_max_s = 1.0\n")
        if cut:
            network = self.networks[device] = Network()
            for port in (self.mqtt_port, self.http_port):
                text = text.replace(str(port), str(network.through(port)))
        config.write_text(text)
        self.agents[device] = AgentProcess(folder, config, folder / "data")
        return self.agents[device]

    def caller(self, device: str, seed: int = 1, *, labels: bool = False) -> Traffic:
        """Return an application on a device, which has not begun to ask."""
        self._callers.append(Traffic(self.agents[device], seed, labels=labels))
        return self._callers[-1]

    def close(self) -> None:
        """End every process, devices first."""
        for caller in self._callers:
            caller.stop()
        for stop in (*(agent.stop for agent in self.agents.values()), self.server.stop):
            with contextlib.suppress(AssertionError, OSError):
                stop()
        if self.broker is not None:
            self.broker.close()
        for network in self.networks.values():
            network.close()
        self.client.close()

    # ------------------------------------------------------------------------- rollouts

    def publish(self, packed: PackResult) -> None:
        """Publish a bundle and wait until the server has seen it."""
        publish(self.publisher, packed)
        version = packed.manifest.version

        def known() -> bool:
            return version in {v.version for v in self.client.model(MODEL).versions}

        until(known, f"the server to see {version}")

    def roll_out(self, version: str, *options: object) -> RolloutView:
        """Start a rollout, without gates that wait unless ``options`` ask for them."""
        free = ("--min-rows", 0, "--min-windows", 0)
        given = options if "--min-rows" in options else (*free, *options)
        started = self.fleet("rollout", "start", MODEL, MODEL, version, *given)
        return self.client.rollout(started["id"])

    def wait_serving(self, version: str, devices: Sequence[str]) -> None:
        """Wait until devices report that they serve and keep ``version``."""

        def served(device: str) -> bool:
            slots = self.client.device(device).slots
            return any(s.slot == MODEL and s.version == version and s.committed for s in slots)

        until(lambda: all(map(served, devices)), f"{version} on {', '.join(devices)}")
        for device in devices:
            agent = self.agents[device]
            agent.wait_for(lambda agent=agent: agent.answering() == version)  # type: ignore[misc]

    # ---------------------------------------------------------------------------- counts

    def counts(self, device: str) -> CountsView | None:
        """Return the server's bookkeeping of a device; None while it cannot be asked."""
        with contextlib.suppress(WhimbrelError):
            return next((c for c in self.client.counts() if c.device == device), None)
        return None

    def settle(self, answered: dict[str, int]) -> None:
        """Wait until nothing is open or on its way, and ``answered`` rows are counted."""
        for device, expected in answered.items():
            agent = self.agents[device]
            agent.wait_for(lambda agent=agent: not unsent(agent))  # type: ignore[misc]

            def counted(device: str = device, expected: int = expected) -> bool:
                count = self.counts(device)
                return count is not None and count.rows >= expected

            until(counted, f"{expected} rows of {device}; {self.counts(device)}")
        until(lambda: self.client.health().judged_behind == 0, "the judgement")

    def stop_and_read(self) -> Books:
        """End the server and return its books."""
        assert self.server.stop() == 0, self.server.log.read_text()[-3000:]
        return Books(self.server.database)


def unsent(agent: AgentProcess) -> int:
    """Return what a device still holds: open and closed windows, and rows of its outbox."""
    open_windows = [p for p in agent.home.profiles.iterdir() if p.suffix in {".open", ".closed"}]
    return len(open_windows) + int(agent.status()["outbox"]["rows"])
