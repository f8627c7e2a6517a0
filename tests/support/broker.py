"""A real mosquitto on a free port: started, killed with -9, started again on the same port."""

from __future__ import annotations

import socket
import subprocess
import time
from typing import TYPE_CHECKING

from tests.support.ports import free_port

if TYPE_CHECKING:
    from pathlib import Path

    from typing_extensions import Self

WAIT_S = 10.0


class BrokerProcess:
    """One mosquitto over a configuration file.

    Args:
        config: the file, with a listener on ``port`` of 127.0.0.1.
        port: that port.
        log: where its words go.
    """

    def __init__(self, config: Path, port: int, log: Path) -> None:
        self.host = "127.0.0.1"
        self.port = port
        self._config = config
        self._log = log
        self._process: subprocess.Popen[bytes] | None = None
        self.kills = 0

    def start(self) -> Self:
        """Start it and wait until it takes connections."""
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                ["mosquitto", "-c", str(self._config)], stdout=log, stderr=log
            )
        deadline = time.monotonic() + WAIT_S
        while True:
            try:
                with socket.create_connection((self.host, self.port), timeout=1.0):
                    return self
            except OSError:  # noqa: PERF203 - it is what is waited for
                if self._process.poll() is not None or time.monotonic() > deadline:
                    msg = f"mosquitto does not run: {self._log.read_text()}"
                    raise RuntimeError(msg) from None
                time.sleep(0.01)

    def kill(self) -> None:
        """``kill -9``, by its own process id."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(WAIT_S)
            self._process = None
            self.kills += 1

    def close(self) -> None:
        """End it."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait(WAIT_S)
            self._process = None


class Broker(BrokerProcess):
    """A mosquitto that lets anybody in, without persistence: whatever it knew dies with it.

    Args:
        folder: for its configuration and log.
        more: lines for its configuration.
    """

    def __init__(self, folder: Path, *, more: str = "") -> None:
        folder.mkdir(parents=True, exist_ok=True)
        super().__init__(folder / "mosquitto.conf", free_port(), folder / "mosquitto.log")
        self._config.write_text(
            f"listener {self.port} {self.host}\nallow_anonymous true\npersistence false\n"
            f"max_queued_messages 100000\n{more}\n"
        )
