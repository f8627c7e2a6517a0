"""``whimbrel agent …``: run an agent on this device, and look at it.

Each subcommand is a file; what it needs is imported when it runs.
"""

from __future__ import annotations

import click

from whimbrel_agent.commands.check import check
from whimbrel_agent.commands.look import forgive, outbox, status, sync
from whimbrel_agent.commands.run import run
from whimbrel_agent.commands.serve import serve
from whimbrel_agent.commands.service import service


@click.group(epilog="Example: whimbrel agent run --config /etc/whimbrel/agent.toml")
def agent() -> None:
    """Verify, serve and watch models on this device, with or without a network."""


for _command in (run, check, status, sync, outbox, forgive, serve, service):
    agent.add_command(_command)

__all__ = ["agent"]
