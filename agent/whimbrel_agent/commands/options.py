"""Options that several subcommands share."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from collections.abc import Callable

    from whimbrel_agent.config import Config

DEFAULT_CONFIG = "/etc/whimbrel/agent.toml"

config_option: Callable[[Any], Any] = click.option(
    "--config",
    "config_path",
    type=click.Path(path_type=Path),
    default=DEFAULT_CONFIG,
    envvar="WHIMBREL_AGENT_CONFIG",
    show_default=True,
    help="The agent's configuration file.",
)
json_option: Callable[[Any], Any] = click.option(
    "--json", "as_json", is_flag=True, help="Print one JSON object."
)


def read_config(path: Path, overrides: dict[str, object] | None = None) -> Config:
    """Return the configuration at ``path``. Raises `ConfigError`."""
    from whimbrel_agent import config

    return config.load(path, os.environ, overrides)
