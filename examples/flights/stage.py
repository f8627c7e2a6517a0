"""The stage of the demo: one build machine, one broker, one server and three devices.

Everything is real and runs as its own process from the command line that a person would use;
only the distances are short: all of it listens on the loopback interface.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import re
import shutil
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any, Final

from examples.flights.data import DEVICES
from examples.flights.network import Network
from examples.flights.processes import (
    Process,
    answers,
    free_port,
    whimbrel,
    whimbrel_json,
    whimbrel_text,
)
from examples.flights.release import BuildMachine
from examples.flights.replay import SLOT
from whimbrel_core.errors import UnavailableError, WhimbrelError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from examples.flights.narrator import Narrator

CUT_DEVICE: Final = "jfk"


class Stage:
    """Files below ``work``, and the processes that use them."""

    def __init__(self, work: Path, narrator: Narrator, *, http_port: int | None = None) -> None:
        self.work = work
        self.machine = BuildMachine(work)
        self.narrator = narrator
        self.http_port = http_port or free_port()
        self._api = http.client.HTTPConnection("127.0.0.1", self.http_port, timeout=10)
        self.mqtt_port = free_port()
        self.device_ports = {device: free_port() for device in DEVICES}
        self.networks: dict[str, Network] = {}
        self.server = Process(
            "the server",
            whimbrel("server", "run", "--config", str(self.server_dir / "server.toml")),
            work / "logs" / "server.log",
        )
        self.agents = {
            device: Process(
                f"the agent of {device}",
                whimbrel("agent", "run", "--config", str(work / device / "agent.toml")),
                work / "logs" / f"{device}.log",
            )
            for device in DEVICES
        }
        mosquitto = shutil.which("mosquitto")
        self.broker = (
            Process(
                "mosquitto",
                [mosquitto, "-c", str(self.server_dir / "mosquitto.conf")],
                work / "logs" / "mosquitto.log",
            )
            if mosquitto
            else None
        )

    @property
    def server_dir(self) -> Path:
        """The fleet server's own folder."""
        return self.work / "server"

    @property
    def token(self) -> Path:
        """The operator's token."""
        return self.work / "operator.token"

    @property
    def url(self) -> str:
        """The address of dashboard and REST interface."""
        return f"http://127.0.0.1:{self.http_port}"

    # ---------------------------------------------------------------------------- commands

    def run(self, *arguments: str, show: bool = True) -> Any:  # noqa: ANN401 - decoded JSON
        """Run ``whimbrel ARGUMENTS --json`` as a person would, and return what it printed.

        Raises:
            UnavailableError: it failed; with all that it said.
        """
        if show:
            self.narrator.command(whimbrel_text(self.work, arguments))
        return whimbrel_json(*arguments)

    def fleet(self, *arguments: str, show: bool = True) -> Any:  # noqa: ANN401 - decoded JSON
        """Run ``whimbrel fleet ARGUMENTS`` against the server, as its operator."""
        where = ("--server", self.url, "--token-file", str(self.token))
        return self.run("fleet", *arguments, *where, show=show)

    def get(self, path: str) -> Any:  # noqa: ANN401 - decoded JSON
        """Return ``GET /api/v1/<path>``, or None while the server is away."""
        for _ in range(2):  # a connection that was kept for long may have been closed meanwhile
            try:
                self._api.request("GET", f"/api/v1/{path}")
                answer = self._api.getresponse()
                content = answer.read()
            except (OSError, http.client.HTTPException):
                self._api.close()
            else:
                return json.loads(content) if answer.status == http.HTTPStatus.OK else None
        return None

    # -------------------------------------------------------------------------------- fleet

    def open_repository(self) -> None:
        """Make keys and an empty repository."""
        self.run(
            "repo", "init", "--dir", str(self.machine.repository), "--keys", str(self.machine.keys),
            "--online-keys", str(self.work / "online-keys"),
        )  # fmt: skip

    def open_server(self) -> None:
        """Set the server up and start it, and the broker before it."""
        self.run(
            "server", "init", "--dir", str(self.server_dir), "--repo", str(self.machine.repository),
            "--online-keys", str(self.work / "online-keys"), "--token-file", str(self.token),
            "--http-port", str(self.http_port), "--mqtt-port", str(self.mqtt_port),
            *([] if self.broker else ["--embedded-broker"]),
        )  # fmt: skip
        self._configure_server()
        self.start_broker()
        self.start_server()

    def _configure_server(self) -> None:
        """Edit ``server.toml`` as an operator would: which command an alarm starts, and when."""
        command = [
            *(sys.executable, "-m", "examples.flights.retrain"),
            *("--work", str(self.work), "--version", "1.1.0"),
        ]
        path = self.server_dir / "server.toml"
        text = path.read_text(encoding="utf-8")
        for key, value in {
            "command": json.dumps(command),
            "devices": str(len(DEVICES)),
            "cooldown_hours": str(365 * 24.0),
            # Several days of the story pass in a second.
            "checkpoint_s": "0.2",
        }.items():
            text, count = re.subn(rf"(?m)^{key} = .*$", f"{key} = {value}", text)
            if count != 1:
                msg = f"{path} has {count} lines for {key!r}, one is expected"
                raise UnavailableError(msg)
        path.write_text(text, encoding="utf-8")

    def start_broker(self) -> None:
        """Start mosquitto, where it is the broker, and wait until it listens."""
        if self.broker:
            self.broker.start()
            self.broker.wait_until(lambda: answers(self.mqtt_port), "listen")

    def start_server(self) -> None:
        """Start the server and wait until it is healthy."""
        self.server.start()
        self.server.wait_until(
            lambda: bool((self.get("health") or {}).get("broker_connected")), "become healthy"
        )

    def enrol(self, device: str) -> None:
        """Enrol one device and start its agent; one of them behind a network that can be cut."""
        folder = self.work / device
        self.fleet("enrol", device, "--out", str(folder), "--label", "region=new-york")
        settings = {
            f"WHIMBREL_AGENT__{key}": value
            for key, value in {
                "HTTP__PORT": str(self.device_ports[device]),
                "MQTT__RECONNECT_MAX_S": "2",
                # The last day has no later one that would close its window.
                "TELEMETRY__IDLE_CLOSE_S": "5",
            }.items()
        }
        if device == CUT_DEVICE:
            network = self.networks[device] = Network()
            settings["WHIMBREL_AGENT__MQTT__PORT"] = str(network.through(self.mqtt_port))
            settings["WHIMBREL_AGENT__REPOSITORY__URL"] = (
                f"http://127.0.0.1:{network.through(self.http_port)}/repository"
            )
        self.agents[device].environment = settings
        self.agents[device].start()

    def wait_for(
        self,
        what: str,
        condition: Callable[[], Any],
        *,
        timeout_s: float = 30.0,
    ) -> Any:  # noqa: ANN401 - whatever the condition found
        """Return the first truthy result of ``condition()``.

        Raises:
            UnavailableError: it did not come in time.
        """
        until = time.monotonic() + timeout_s
        while True:
            found = condition()
            if found:
                return found
            if time.monotonic() > until:
                msg = f"waited {timeout_s:.0f} s in vain until {what}"
                raise UnavailableError(msg, hint=f"look into {self.work / 'logs'}")
            time.sleep(0.05)

    def serving(self) -> dict[str, str]:
        """Return the version that each device says it serves and has committed to."""
        versions = {}
        for device in self.get("devices") or []:
            for slot in device["slots"]:
                if slot["slot"] == SLOT and slot["committed"]:
                    versions[device["device"]] = slot["version"]
        return versions

    def agent_status(self, device: str) -> dict[str, Any]:
        """Return what a device says of itself on its own admin socket."""
        status = self.run(
            "agent", "status", "--config", str(self.work / device / "agent.toml"), show=False
        )
        return dict(status)

    def close(self) -> None:
        """Stop every process, devices first, so that they can say good-bye."""
        for process in (*self.agents.values(), self.server, self.broker):
            if process is not None:
                with contextlib.suppress(WhimbrelError, OSError, subprocess.TimeoutExpired):
                    process.stop()
        for network in self.networks.values():
            network.close()
