"""The processes of the demo: started by their own command lines, watched, ended by their pid."""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import signal
import socket
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

from whimbrel_core.errors import UnavailableError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

_TAIL_LINES = 12


class Process:
    """A child process in a session of its own, with its output in a log file."""

    def __init__(self, name: str, command: Sequence[str], log: Path) -> None:
        self.name = name
        self.command = list(command)
        self.log = log
        self.environment: dict[str, str] = {}
        self._child: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it (again), appending to the log."""
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as log:
            self._child = subprocess.Popen(
                self.command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**os.environ, **self.environment},
                start_new_session=True,
            )

    @property
    def alive(self) -> bool:
        """Whether the process runs."""
        return self._child is not None and self._child.poll() is None

    def kill(self) -> None:
        """Kill it with -9, as a power cut or the kernel would."""
        if self._child is not None:
            self._child.kill()
            self._child.wait(10)

    def stop(self, timeout_s: float = 10.0) -> None:
        """Ask it to stop; after ``timeout_s``, end it and whatever it started."""
        child = self._child
        if child is None:
            return
        if child.poll() is None:
            child.terminate()
        try:
            child.wait(timeout_s)
        except subprocess.TimeoutExpired:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)
            child.wait(timeout_s)

    def wait_until(self, ready: Callable[[], bool], what: str, timeout_s: float = 30.0) -> None:
        """Wait until ``ready()``.

        Raises:
            UnavailableError: the process ended, or the time is over; with the log's last lines.
        """
        until = time.monotonic() + timeout_s
        while not ready():
            if not self.alive or time.monotonic() > until:
                state = "does not answer" if self.alive else "ended"
                msg = f"{self.name} {state} while waiting for it to {what}\n{self.tail()}"
                raise UnavailableError(msg, hint=f"its whole output is in {self.log}")
            time.sleep(0.02)

    def tail(self) -> str:
        """Return the last lines of the log."""
        with contextlib.suppress(OSError):
            lines = self.log.read_text(errors="replace").splitlines()[-_TAIL_LINES:]
            return "\n".join(f"    {line}" for line in lines)
        return ""


def whimbrel(*arguments: str) -> list[str]:
    """Return the command line of ``whimbrel ARGUMENTS`` in this environment."""
    return [sys.executable, "-m", "whimbrel_core.cli", *arguments]


def whimbrel_text(work: Path, arguments: Sequence[str]) -> str:
    """Return a command as a person would type it in the folder ``work``."""
    return shlex.join(["whimbrel", *(a.replace(f"{work}/", "") for a in arguments)])


def whimbrel_json(*arguments: str) -> Any:  # noqa: ANN401 - decoded JSON
    """Run ``whimbrel ARGUMENTS --json`` and return what it printed.

    Raises:
        UnavailableError: it failed; with all that it said.
    """
    done = subprocess.run(
        whimbrel(*arguments, "--json"), capture_output=True, text=True, check=False
    )
    if done.returncode:
        msg = f"whimbrel {shlex.join(arguments)} failed ({done.returncode}):\n{done.stderr}"
        raise UnavailableError(msg, code="demo.command")
    return json.loads(done.stdout) if done.stdout.strip() else None


def free_port() -> int:
    """Return a loopback port that is free now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def answers(port: int) -> bool:
    """Return whether something accepts connections on a loopback port."""
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
        return True
    return False
