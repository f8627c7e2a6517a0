"""``whimbrel agent run``: the agent itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from whimbrel_agent.commands.options import config_option, read_config

if TYPE_CHECKING:
    from pathlib import Path


@click.command(epilog="Example: whimbrel agent run --config agent.toml --port 8080")
@config_option
@click.option("--port", type=int, help="Port of the inference interface, instead of http.port.")
@click.option("--data-dir", help="Data directory, instead of data_dir.")
@click.option("--print-default-config", is_flag=True, help="Print the commented defaults and exit.")
def run(
    config_path: Path, port: int | None, data_dir: str | None, print_default_config: bool
) -> None:
    """Run the agent until it is told to stop (SIGTERM, Ctrl-C).

    It serves what was proven here before at once, without waiting for any network. One line per
    step goes to standard error; WHIMBREL_LOG=WARNING says less.
    """
    if print_default_config:
        from whimbrel_agent import config

        click.echo(config.default_text(), nl=False)
        return
    import logging
    import os

    from whimbrel_agent.control import app

    logging.basicConfig(
        level=os.environ.get("WHIMBREL_LOG", "INFO"),
        format="%(levelname)s %(name)s: %(message)s",
    )
    app.run(read_config(config_path, {"http.port": port, "data_dir": data_dir}))
