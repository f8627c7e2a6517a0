"""The server's commands; heavy imports are inside them, so that `whimbrel --help` stays quick."""

from __future__ import annotations

from whimbrel_server.commands.fleet import fleet
from whimbrel_server.commands.server import server

__all__ = ["fleet", "server"]
