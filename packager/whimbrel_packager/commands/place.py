"""How commands name a place: a directory or an address, with the operator's token."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import click

from whimbrel_core.errors import UsageError

if TYPE_CHECKING:
    from whimbrel_packager.destinations import Destination

TOKEN_FILE = "WHIMBREL_FLEET_TOKEN_FILE"  # noqa: S105 - the name of a variable
_LOCAL = frozenset({"127.0.0.1", "::1", "localhost"})


def place(value: str | Path) -> Path | str:
    """Return a directory as a path, and an address as it is."""
    text = str(value)
    if text.startswith("file://"):
        return Path(text.removeprefix("file://"))
    return text if "://" in text else Path(text)


token_option = click.option(
    "--token-file",
    type=click.Path(path_type=Path),
    envvar=TOKEN_FILE,
    show_envvar=True,
    help="A file with the operator token, for a fleet server.",
)


def opened(where: Path | str, token_file: Path | None = None) -> Destination:
    """Return where a repository is kept; without a token file, the environment's is taken.

    Raises:
        UsageError: it is no place for one, or the token file cannot be read.
    """
    from whimbrel_packager.destinations import destination

    if isinstance(where, Path) or not where.startswith(("http://", "https://")):
        return destination(where)
    return destination(where, _token(where, token_file))


def _token(where: str, file: Path | None) -> str | None:
    if file is None:
        if not os.environ.get(TOKEN_FILE):
            return None
        file = Path(os.environ[TOKEN_FILE])
    try:
        token = file.read_text("utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(
            f"token file {file} cannot be read: {error}",
            hint=f"give the file with --token-file or {TOKEN_FILE}",
        ) from error
    if not token or any(c.isspace() for c in token):
        raise UsageError(
            f"token file {file} holds no token",
            hint="it has one line: the token that 'whimbrel server init' printed",
        )
    parts = urlsplit(where)
    if parts.scheme == "http" and parts.hostname not in _LOCAL:
        click.echo(f"note: the token travels to {parts.hostname} unencrypted", err=True)
    return token
