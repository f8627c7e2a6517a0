"""The fleet server's web over a fake fleet: in memory, and on a real socket."""

from __future__ import annotations

import contextlib
import functools
import socket
import threading
from typing import TYPE_CHECKING

import uvicorn

from whimbrel_server.api.access import hash_token
from whimbrel_server.api.application import WebSettings, create_app

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from litestar import Litestar

    from whimbrel_server.port import FleetPort

TOKEN = "whim_correct-horse-battery-staple"


@functools.cache
def token_hash() -> str:
    """Return the hash of `TOKEN`; slow on purpose, so made once."""
    return hash_token(TOKEN)


def web(fleet: FleetPort, repository: Path, *, read_open: bool = True) -> Litestar:
    """Return the application over ``fleet``."""
    settings = WebSettings(repository=repository, token_hash=token_hash(), read_open=read_open)
    return create_app(fleet, settings)


@contextlib.contextmanager
def serving(app: Litestar) -> Iterator[str]:
    """Serve ``app`` on a free port of loopback and give its address."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        config = uvicorn.Config(app, log_config=None, lifespan="on", timeout_graceful_shutdown=2)
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
        thread.start()
        try:
            # The socket listens already: a request waits in its queue until the server is up.
            yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join(timeout=10)
            assert not thread.is_alive()
