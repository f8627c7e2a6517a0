"""``whimbrel agent status | sync | outbox | forgive``: ask the agent that runs on this machine."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import click

from whimbrel_agent.commands.options import config_option, json_option, read_config

if TYPE_CHECKING:
    from pathlib import Path


# A repository may take its own time limit for each file.
_SYNC_S = 300.0


def _ask(config_path: Path, do: str, digest: str = "") -> Any:  # noqa: ANN401 - JSON
    from whimbrel_agent.control.admin import Request, ask
    from whimbrel_agent.paths import DataDirectory

    home = DataDirectory(read_config(config_path).data_dir)
    limit = {"timeout_s": _SYNC_S} if do == "sync" else {}
    return ask(home.admin_socket, Request(do, digest), **limit)


@click.command(epilog="Example: whimbrel agent status --json")
@config_option
@json_option
def status(config_path: Path, as_json: bool) -> None:
    """Show what this device serves, wants and holds back."""
    found = _ask(config_path, "status")
    if as_json:
        click.echo(json.dumps(found))
        return
    fleet = found["fleet"]
    link = "no fleet is configured"
    if fleet["configured"]:
        link = "connected" if fleet["connected"] else f"not connected: {fleet['last_error']}"
        link += ", windows are taken" if fleet["consumer"] else ", nobody takes windows now"
    click.echo(f"device    {found['device']}  (agent {found['agent']}, clock {found['clock']})")
    click.echo(f"serves    http://{found['http']['host']}:{found['http']['port']}/v2")
    click.echo(f"fleet     {link}; revision {found['revision']}")
    waiting = found["outbox"]
    click.echo(
        f"outbox    {waiting['windows']} windows, {waiting['events']} events, "
        f"{waiting['bytes']} bytes; {waiting['dropped_windows']} windows dropped"
    )
    if not found["slots"]:
        click.echo("slots     none is assigned yet")
    for slot in found["slots"]:
        serving = f"{slot['name']} {slot['version']}" if slot["digest"] else "nothing"
        proven = "" if slot["committed"] or not slot["digest"] else ", on probation"
        click.echo(f"slot      {slot['slot']}: {slot['phase']}, serves {serving}{proven}")
        if slot["error"]:
            click.echo(f"          {slot['error']} [{slot['error_code']}]")
    for entry in found["quarantined"]:
        click.echo(f"refused   {entry['digest'][:16]} ({entry['slot']}): {entry['reason']}")
    if found["last_error"]:
        click.echo(f"last      {found['last_error']}")


@click.command(epilog="Example: whimbrel agent sync")
@config_option
@json_option
def sync(config_path: Path, as_json: bool) -> None:
    """Look at the repository now, and try again what waits."""
    found = _ask(config_path, "sync")
    click.echo(json.dumps(found) if as_json else "trust is up to date; what waited is tried again")


@click.command(epilog="Example: whimbrel agent outbox --json")
@config_option
@json_option
def outbox(config_path: Path, as_json: bool) -> None:
    """Show what waits for the fleet's acknowledgement."""
    found = _ask(config_path, "outbox")
    if as_json:
        click.echo(json.dumps(found))
        return
    for key, value in found.items():
        click.echo(f"{key.replace('_', ' '):<16} {value}")


@click.command(epilog="Example: whimbrel agent forgive 3f9a6c")
@click.argument("digest")
@config_option
def forgive(digest: str, config_path: Path) -> None:
    """Take a bundle (by DIGEST or its beginning) out of quarantine, so that it is tried again."""
    found = _ask(config_path, "forgive", digest)
    click.echo(f"{found['forgiven']} may be tried again")
