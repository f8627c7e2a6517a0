"""Real agents for tests: a control process with its workers, on a temporary data directory."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

from whimbrel_agent.control.admin import Request, ask
from whimbrel_agent.paths import DataDirectory
from whimbrel_core.errors import WhimbrelError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from typing_extensions import Self

    from tests.support.broker import Broker
    from tests.support.repository import RepositorySimulator

WAIT_S = 40.0
DEVICE = "device-1"


class AgentProcess:
    """One agent over a folder that has its configuration; killed and started again on its data.

    Args:
        folder: for its log.
        config: its configuration.
        data: its data directory.
        arguments: what Python runs (default: ``whimbrel agent run``).
    """

    def __init__(
        self, folder: Path, config: Path, data: Path, arguments: tuple[str, ...] = ()
    ) -> None:
        self.folder = folder
        self.config = config
        self.home = DataDirectory(data)
        self.log = folder / "agent.log"
        run = ("-m", "whimbrel_core.cli", "agent", "run", "--config", str(config))
        self._arguments = arguments or run
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, environment: dict[str, str] | None = None) -> Self:
        """Start it and wait until it answers on its admin socket."""
        self.launch(environment)
        self.wait_for(self.status)
        return self

    def launch(self, environment: dict[str, str] | None = None) -> None:
        """Start the process, and do not wait."""
        with contextlib.suppress(FileNotFoundError):
            self.home.http_json.unlink()
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, *self._arguments],
                stdout=log,
                stderr=log,
                env={**os.environ, **(environment or {})},
            )

    def status(self) -> dict[str, Any]:
        """Return what ``whimbrel agent status`` says."""
        found: dict[str, Any] = ask(self.home.admin_socket, Request("status"))
        return found

    def ask(self, do: str, digest: str = "") -> Any:  # noqa: ANN401 - JSON
        """Send a request to the admin socket."""
        return ask(self.home.admin_socket, Request(do, digest))

    def slot(self, name: str = "churn") -> dict[str, Any]:
        """Return one slot as reported; {} when there is none."""
        found = [slot for slot in self.status()["slots"] if slot["slot"] == name]
        return found[0] if found else {}

    def wait_for(self, condition: Callable[[], object], timeout_s: float = WAIT_S) -> object:
        """Wait until ``condition`` returns something true, and return that."""
        deadline = time.monotonic() + timeout_s
        found: object = None
        pause_s = 0.02
        while time.monotonic() < deadline:
            try:
                found = condition()
            except (WhimbrelError, OSError, http.client.HTTPException) as error:
                found = None
                last = repr(error)
            else:
                last = repr(found)
            if found:
                return found
            if self.process is not None and self.process.poll() is not None:
                break
            time.sleep(pause_s)
            # What takes long is not asked for ever so often: answering costs the agent time, too.
            pause_s = min(1.2 * pause_s, 0.1)
        with contextlib.suppress(WhimbrelError):
            last += f"\n{self.status()}"
        msg = f"not within {timeout_s} s: {last}\n{self.log.read_text()[-3000:]}"
        raise AssertionError(msg)

    def wait_serving(self, digest: str, slot: str = "churn", phase: str = "serving") -> None:
        """Wait until ``digest`` serves, in ``phase``."""
        self.wait_for(
            lambda: (
                self.slot(slot).get("digest") == digest
                and self.slot(slot)["phase"] == phase
                and self.answering(slot)
            )
        )

    def wait_answering(self, version: str, slot: str = "churn") -> None:
        """Wait until ``version`` answers: after a swap the old worker accepts for a moment more."""
        self.wait_for(lambda: self.answering(slot) == version)

    def answering(self, slot: str = "churn") -> str:
        """Return the version that answers over HTTP, "" when none does."""
        status, body = self.call("GET", f"/v2/models/{slot}")
        return str(body["versions"][0]) if status == 200 else ""

    def call(self, method: str, path: str, body: object = None) -> tuple[int, Any]:
        """Make one HTTP request; return status and decoded body."""
        address = json.loads(self.home.http_json.read_bytes())
        connection = http.client.HTTPConnection(address["host"], address["port"], timeout=10)
        try:
            data = None if body is None else json.dumps(body)
            connection.request(method, path, data, {"content-type": "application/json"})
            response = connection.getresponse()
            content = response.read()
            kind = response.getheader("content-type", "")
            return response.status, json.loads(content) if "json" in kind and content else content
        finally:
            connection.close()

    def infer(self, rows: int = 1, slot: str = "churn", **parameters: object) -> tuple[int, Any]:
        """Ask for predictions of ``rows`` rows of the 20-column test model."""
        item = {"name": "x", "shape": [rows, 20], "datatype": "FP32", "data": [0.5] * 20 * rows}
        body: dict[str, object] = {"inputs": [item]}
        if parameters:
            body["parameters"] = parameters
        return self.call("POST", f"/v2/models/{slot}/infer", body)

    @property
    def exited(self) -> bool:
        """Whether the process has ended."""
        return self.process is not None and self.process.poll() is not None

    def kill(self) -> None:
        """``kill -9`` the control process, by its own process id."""
        if self.process is not None:
            self.process.kill()
            self.process.wait(WAIT_S)

    def kill_worker(self) -> None:
        """``kill -9`` the worker, once there is one."""
        self.wait_for(lambda: self.status()["worker"]["pid"])
        pid = self.status()["worker"]["pid"]
        assert pid > 1  # 0 is our own process group
        os.kill(pid, signal.SIGKILL)

    def stop(self) -> int:
        """End it as a service manager does; return the exit code."""
        if self.process is None:
            return 0
        if self.process.poll() is None:
            self.process.terminate()
        try:
            return self.process.wait(WAIT_S)
        finally:
            self.process.kill()


class RunningAgent(AgentProcess):
    """An agent whose configuration is written by the test.

    Args:
        folder: for its configuration, data and log.
        broker: its fleet's broker, or None.
        repository: its repository, or None; ``url`` says otherwise.
        more: further TOML.
        arguments: what Python runs.
    """

    def __init__(
        self,
        folder: Path,
        broker: Broker | None = None,
        repository: RepositorySimulator | None = None,
        *,
        url: str = "",
        more: str = "",
        arguments: tuple[str, ...] = (),
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        super().__init__(folder, folder / "agent.toml", folder / "data", arguments)
        lines = [f'device_id = "{DEVICE}"', f'data_dir = "{self.home.root}"']
        if repository is not None:
            (folder / "root.json").write_bytes(repository.root_json)
            lines += [f'root = "{folder / "root.json"}"']
        lines += ["[http]", "port = 0"]
        if repository is not None:
            lines += ["[repository]", f'url = "{url or repository.folder}"', "timeout_s = 5.0"]
        if broker is not None:
            lines += ["[mqtt]", f'host = "{broker.host}"', f"port = {broker.port}"]
            lines += ["reconnect_max_s = 0.5"]
        self.config.write_text("\n".join(lines) + "\n" + more)
