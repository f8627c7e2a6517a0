"""The listening sockets: bound once by control, inherited by every worker.

Because the same open sockets pass from worker to worker, connections that wait in their queue
are answered by whichever worker accepts next, and a swap refuses nobody.
"""

from __future__ import annotations

import contextlib
import errno
import socket
import stat
from pathlib import Path

import msgspec

from whimbrel_agent.paths import replace_file
from whimbrel_core.errors import ConfigError, UnavailableError

BACKLOG = 256


class Listeners:
    """One TCP and perhaps one Unix socket that listen.

    Raises:
        UnavailableError: the port is taken.
        ConfigError: the address is not this machine's, or may not be used.
    """

    def __init__(self, host: str, port: int, unix: str = "") -> None:
        self._unix = unix
        self.sockets = [_tcp(host, port)]
        self.host, self.port = self.sockets[0].getsockname()[:2]
        if unix:
            try:
                self.sockets.append(_unix(unix))
            except BaseException:  # whatever ends it: leave no socket bound
                self.close()
                raise

    @property
    def descriptors(self) -> tuple[int, ...]:
        """File descriptors, TCP first."""
        return tuple(sock.fileno() for sock in self.sockets)

    def announce(self, path: Path) -> None:
        """Write where to connect: ``{"host", "port", "socket"}``."""
        address = {"host": self.host, "port": self.port, "socket": self._unix}
        replace_file(path, msgspec.json.encode(address), mode=0o644)

    def close(self) -> None:
        """Stop listening."""
        for sock in self.sockets:
            sock.close()
        if self._unix and len(self.sockets) > 1:
            with contextlib.suppress(OSError):
                Path(self._unix).unlink()


def _tcp(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((host, port))
        sock.listen(BACKLOG)
        sock.settimeout(0.0)
    except OSError as error:
        sock.close()
        where = f"http.host {host}, http.port {port}"
        if error.errno == errno.EADDRINUSE:
            msg = f"port {port} on {host} is taken by another program"
            raise UnavailableError(
                msg, code="http.port", hint="stop it, or choose another http.port (0: any)"
            ) from error
        msg = f"{where}: cannot listen there: {error}"
        raise ConfigError(
            msg, hint="use an address of this machine and a port you may use"
        ) from error
    return sock


def _unix(path: str) -> socket.socket:
    file = Path(path)
    with contextlib.suppress(FileNotFoundError):
        if not stat.S_ISSOCK(file.lstat().st_mode):
            msg = f"http.socket {path} is there and is not a socket"
            raise ConfigError(msg, hint="choose another path")
        file.unlink()
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.bind(path)
        sock.listen(BACKLOG)
        sock.settimeout(0.0)
    except OSError as error:
        sock.close()
        msg = f"http.socket {path}: cannot listen there: {error}"
        raise ConfigError(msg, hint="paths of sockets are at most 107 bytes long") from error
    return sock
