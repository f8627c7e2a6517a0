"""The reference is written from the product, and in step with it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import click

from whimbrel_core import cli

ROOT = Path(__file__).resolve().parent.parent.parent


def test_the_reference_is_in_step_and_every_declared_command_loads() -> None:
    checked = subprocess.run(
        [sys.executable, "tools/docs.py", "--check"], cwd=ROOT, capture_output=True, text=True
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_every_command_shows_an_example_in_its_help() -> None:
    silent = []

    def look(command: click.Command, context: click.Context, words: list[str]) -> None:
        if isinstance(command, click.Group):
            for name in command.list_commands(context):
                inner = command.get_command(context, name)
                assert inner is not None
                below = click.Context(inner, parent=context, info_name=name)
                look(inner, below, [*words, name])
        elif not command.hidden and "Example" not in command.get_help(context):
            silent.append(" ".join(words))

    look(cli.whimbrel, click.Context(cli.whimbrel, info_name="whimbrel"), ["whimbrel"])
    assert not silent
