"""``whimbrel agent check``: is this device ready?"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import click

from whimbrel_agent.commands.options import config_option, json_option, read_config

if TYPE_CHECKING:
    from pathlib import Path


@click.command(epilog="Example: whimbrel agent check --config agent.toml")
@config_option
@json_option
def check(config_path: Path, as_json: bool) -> None:
    """Look at configuration, disk, trust, port, clock, repository and broker.

    One line each; exit code 5 when one has a problem. Nothing is changed.
    """
    import msgspec

    from whimbrel_agent.system import checks
    from whimbrel_core.errors import RefusedError

    config = read_config(config_path)
    found = [checks.Finding("config", ok=True, detail=str(config_path)), *checks.check(config)]
    if as_json:
        click.echo(json.dumps({"checks": [msgspec.to_builtins(finding) for finding in found]}))
    else:
        for finding in found:
            word = (
                click.style("ok     ", fg="green")
                if finding.ok
                else click.style("problem", fg="red")
            )
            click.echo(f"{word}  {finding.what:<11} {finding.detail}")
            if not finding.ok and finding.hint:
                click.echo(f"{'':<21} {finding.hint}")
    bad = [finding.what for finding in found if not finding.ok]
    if bad:
        msg = f"{len(bad)} of {len(found)} checks found a problem: {', '.join(bad)}"
        raise RefusedError(msg, code="check.failed", hint="see the lines above")
