"""The server's process: the fleet and its web, until a signal."""

from __future__ import annotations

import logging
import os
import signal
import socket
from typing import TYPE_CHECKING

import msgspec
import uvicorn

from whimbrel_core.errors import ConfigError, UnavailableError
from whimbrel_server.api.application import WebSettings, create_app
from whimbrel_server.api.hosts import allowed
from whimbrel_server.app import Fleet
from whimbrel_server.config import LOOPBACK

if TYPE_CHECKING:
    from collections.abc import Mapping

    from whimbrel_server.config import Settings

log = logging.getLogger(__name__)

ADDRESS_FILE = "http.json"


def run(settings: Settings, *, env: Mapping[str, str], verbose: bool = False) -> None:
    """Run until SIGINT or SIGTERM.

    Raises:
        ConfigError: the operator token's hash is missing or malformed.
        UnavailableError: a port is taken.
        StorageError: the database cannot be opened.
    """
    logging.basicConfig(
        level=logging.DEBUG if verbose else logging.INFO,
        format="%(asctime)s %(levelname)-7s %(name)s: %(message)s",
    )
    for chatty in ("httpx", "httpcore", "transitions", "amqtt", "alembic", "tuf"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    # uvicorn raises the signal that ended it once more after its own shutdown; the default action
    # would then end the process before the fleet is stopped in order.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: None)
    web = web_settings(settings)
    listening = bind(settings.config.http.host, settings.config.http.port)
    with listening:
        host, port = listening.getsockname()[:2]
        fleet = Fleet(settings, env=env)
        try:
            fleet.bound(host, port)
            app = create_app(fleet, web)
            fleet.start()
            address = settings.path(settings.config.data_dir) / ADDRESS_FILE
            address.write_bytes(
                msgspec.json.encode({"host": host, "port": port, "pid": os.getpid()})
            )
            log.info("dashboard and interface on http://%s:%d", host, port)
            server = uvicorn.Server(
                uvicorn.Config(app, log_config=None, access_log=False, lifespan="on")
            )
            server.run(sockets=[listening])
        finally:
            fleet.stop()


def web_settings(settings: Settings) -> WebSettings:
    """Return what the web needs of the configuration.

    Raises:
        ConfigError: the token's hash cannot be read.
    """
    auth = settings.config.auth
    file = settings.path(auth.token_hash_file)
    try:
        token_hash = file.read_text("ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"the hash of the operator token cannot be read: {error}",
            hint="see [auth] token_hash_file; 'whimbrel server init' makes one",
        ) from error
    http = settings.config.http
    loopback = http.host in LOOPBACK
    read_open = auth.read == "open" or (auth.read == "auto" and loopback)
    return WebSettings(
        repository=settings.path(settings.config.repository.directory),
        token_hash=token_hash,
        read_open=read_open,
        hosts=allowed(http.public_url) if read_open and loopback else None,
        secure_cookie=auth.secure_cookie,
    )


def bind(host: str, port: int) -> socket.socket:
    """Return a listening socket.

    Raises:
        UnavailableError: the address cannot be had.
    """
    try:
        listening = socket.create_server(
            (host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET, backlog=512
        )
        # asyncio does this for sockets that it makes itself. Without it each answer on a
        # connection that is kept waits 40 ms for the client's delayed acknowledgement.
        listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    except OSError as error:
        raise UnavailableError(
            f"the web cannot listen on {host}:{port}: {error.strerror or error}",
            hint="another server may be running; choose another [http] port",
            code="unavailable.port",
        ) from error
    return listening
