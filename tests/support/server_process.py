"""A fleet server as its users run it: a process, killed with -9 and started again."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

from whimbrel_server import config, provision
from whimbrel_server.api.access import hash_token
from whimbrel_server.enrolment import now_utc

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from typing_extensions import Self

    from tests.support.house import House

TOKEN = "whim_for-tests"
WAIT_S = 30.0


class RunningServer:
    """One ``whimbrel server run`` over a server's folder.

    Args:
        folder: of the server.
        environment: what goes before its configuration.
    """

    def __init__(self, folder: Path, environment: Mapping[str, str] | None = None) -> None:
        self.folder = folder
        self.log = folder.with_suffix(".log")
        self._environment = {**os.environ, **(environment or {})}
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def database(self) -> Path:
        """Its store."""
        return self.folder / "data" / "fleet.db"

    @property
    def url(self) -> str:
        """Where its web is."""
        address = json.loads((self.folder / "data" / "http.json").read_text())
        return f"http://{address['host']}:{address['port']}"

    @property
    def pid(self) -> int:
        """Its process id."""
        assert self._process is not None
        return self._process.pid

    def start(self) -> Self:
        """Start it and wait until its web listens."""
        address = self.folder / "data" / "http.json"
        address.unlink(missing_ok=True)
        command = [sys.executable, "-m", "whimbrel_core.cli", "server", "run", "--config"]
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [*command, str(self.folder / config.FILE)],
                stdout=log,
                stderr=log,
                env=self._environment,
            )
        try:
            deadline = time.monotonic() + WAIT_S
            while not address.exists():
                assert self._process.poll() is None, self.log.read_text()
                assert time.monotonic() < deadline, self.log.read_text()
                time.sleep(0.02)
        except BaseException:
            self.kill()  # nobody else knows of it yet
            raise
        return self

    def kill(self) -> None:
        """``kill -9``, by its own process id."""
        assert self._process is not None
        self._process.kill()
        self._process.wait(WAIT_S)

    def stop(self) -> int:
        """End it as an operator does, and return its exit code."""
        assert self._process is not None
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
        try:
            return self._process.wait(WAIT_S)
        finally:
            self._process.kill()  # does nothing to one that has ended


class ServerProcess(RunningServer):
    """A server whose folder is made by the test, over a broker without TLS on 127.0.0.1.

    Args:
        house: the publisher.
        folder: of the server; made new.
        mqtt_port: of the broker.
        values: other keys of the configuration.
    """

    def __init__(self, house: House, folder: Path, mqtt_port: int, **values: object) -> None:
        super().__init__(folder)
        plan = provision.Plan(
            directory=folder,
            repository=house.repository.directory,
            online_keys=house.online,
            http_port=0,
            mqtt_port=mqtt_port,
        )
        provision.make(plan, token_hash=hash_token(TOKEN), now=now_utc())
        plain = {"mqtt.ca": "", "mqtt.cert": "", "mqtt.key": ""}
        admit = {"enrolment.unknown_devices": "admit", "monitoring.checkpoint_s": 0.2}
        file = folder / config.FILE
        chosen: dict[str, Any] = {**plain, **admit, **values}
        file.write_text(provision.fill_in(file.read_text(), chosen))
