"""How commands reach the server: the options that every command shares, and a client."""

from __future__ import annotations

import functools
import getpass
import re
import socket
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

import click

from whimbrel_core.errors import ConfigError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from whimbrel_server.client import FleetClient

SERVER = "WHIMBREL_FLEET_SERVER"
TOKEN_FILE = "WHIMBREL_FLEET_TOKEN_FILE"  # noqa: S105 - the name of a variable
DEFAULT = "http://127.0.0.1:8500"
# As `whimbrel_server.config.LOOPBACK`, whose import would make every command slow.
_LOCAL = frozenset({"127.0.0.1", "::1", "localhost"})
C = TypeVar("C", bound="Callable[..., None]")


def connect(server: str, token_file: Path | None) -> FleetClient:
    """Return a client.

    Raises:
        ConfigError: the token file cannot be read or is empty.
        UsageError: the address is not one.
    """
    from whimbrel_server.client import FleetClient

    token = None
    if token_file is not None:
        try:
            token = token_file.read_text("utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(
                f"token file {token_file} cannot be read: {error}",
                hint=f"give the file with --token-file or {TOKEN_FILE}",
            ) from error
        if not token or any(c.isspace() for c in token):
            raise ConfigError(
                f"token file {token_file} holds no token",
                hint="it has one line: the token that 'whimbrel server init' printed",
            )
        parts = urlsplit(server)
        if parts.scheme == "http" and parts.hostname not in _LOCAL:
            click.echo(f"note: the token travels to {parts.hostname} unencrypted", err=True)
    return FleetClient(server, token=token, actor=_actor())


def _actor() -> str:
    try:
        name = f"{getpass.getuser()}@{socket.gethostname()}"
    except (OSError, KeyError, ImportError):  # no such user, as in some containers
        name = socket.gethostname()
    return re.sub(r"[^A-Za-z0-9_.@ -]", "-", name)[:64]


def connected(command: C) -> C:
    """Give a command ``--server``, ``--token-file`` and ``--json``, and a client to work with."""

    @click.option(
        "--server",
        envvar=SERVER,
        default=DEFAULT,
        show_default=True,
        show_envvar=True,
        metavar="URL",
        help="The fleet server's address.",
    )
    @click.option(
        "--token-file",
        envvar=TOKEN_FILE,
        type=click.Path(path_type=Path, dir_okay=False),
        show_envvar=True,
        help="A file with the operator token; needed for changes.",
    )
    @click.option("--json", "as_json", is_flag=True, help="Print JSON.")
    @functools.wraps(command)
    def run(server: str, token_file: Path | None, **options: Any) -> None:  # noqa: ANN401 - click's
        client = connect(server, token_file)
        try:
            command(client, **options)
        finally:
            client.close()

    return run  # type: ignore[return-value]


def pairs(texts: Iterable[str], what: str) -> dict[str, str]:
    """Return ``KEY=VALUE`` texts as a dictionary.

    Raises:
        UsageError: one of them has no ``=`` or no key.
    """
    found = {}
    for text in texts:
        key, sign, value = text.partition("=")
        if not sign or not key.strip():
            raise UsageError(
                f"{text!r} is not a {what}", hint=f"a {what} is written KEY=VALUE, e.g. site=north"
            )
        found[key.strip()] = value.strip()
    return found
