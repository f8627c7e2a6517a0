"""The public `model_signing` command, in this process: its imports take seconds each time."""

from __future__ import annotations

from typing import NamedTuple


class Ran(NamedTuple):
    """How it ended, and what it said."""

    returncode: int
    stderr: str


def tool(*words: object) -> Ran:
    """Run the command as its console script does."""
    from click.testing import CliRunner
    from model_signing import _cli

    done = CliRunner().invoke(_cli.main, [str(word) for word in words])
    return Ran(done.exit_code, done.output)
