"""``whimbrel agent service``: a systemd unit for this device."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from whimbrel_agent.commands.options import DEFAULT_CONFIG

# The agent needs its data directory, its sockets and the network, and nothing else. No
# MemoryDenyWriteExecute: numerical libraries map memory that is written and then executed.
_UNIT = """\
[Unit]
Description=Whimbrel agent: verified models on this device
Documentation=man:systemd.service(5)
After=network.target
# Starts without a network, too: what was proven here serves at once.

[Service]
Type=notify
ExecStart={command} run --config {config}
Restart=always
RestartSec=1
WatchdogSec=60
TimeoutStopSec=30
User={user}
StateDirectory=whimbrel
StateDirectoryMode=0700
Nice=5
OOMPolicy=continue
KillMode=mixed
LimitCORE=0
UMask=0077
NoNewPrivileges=yes
CapabilityBoundingSet=
AmbientCapabilities=
ProtectSystem=strict
ProtectHome=yes
PrivateTmp=yes
PrivateDevices=yes
ProtectClock=yes
ProtectControlGroups=yes
ProtectHostname=yes
ProtectKernelLogs=yes
ProtectKernelModules=yes
ProtectKernelTunables=yes
ProtectProc=invisible
RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
LockPersonality=yes
RemoveIPC=yes
SystemCallArchitectures=native
SystemCallFilter=@system-service
SystemCallFilter=~@privileged
Environment=PYTHONUNBUFFERED=1 MALLOC_ARENA_MAX=2

[Install]
WantedBy=multi-user.target
"""


@click.command(
    epilog="Example: whimbrel agent service | sudo tee /etc/systemd/system/whimbrel-agent.service"
)
@click.option("--config", default=DEFAULT_CONFIG, show_default=True, help="Configuration file.")
@click.option("--user", default="whimbrel", show_default=True, help="User to run as.")
def service(config: str, user: str) -> None:
    """Print a hardened systemd unit (data in /var/lib/whimbrel, watchdog, no privileges)."""
    program = Path(sys.executable).with_name("whimbrel")
    command = f"{program} agent" if program.exists() else f"{sys.executable} -m whimbrel_agent"
    click.echo(_UNIT.format(command=command, config=Path(config).absolute(), user=user), nl=False)
