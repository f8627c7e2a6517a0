"""The packager's commands; `whimbrel_core.cli` finds them by entry points."""

from whimbrel_packager.commands import repo_changes, repo_keys  # noqa: F401 - commands of `repo`
from whimbrel_packager.commands.diff import diff
from whimbrel_packager.commands.inspect import inspect
from whimbrel_packager.commands.keys import keys
from whimbrel_packager.commands.pack import pack
from whimbrel_packager.commands.profile import profile
from whimbrel_packager.commands.publish import publish
from whimbrel_packager.commands.pull import pull
from whimbrel_packager.commands.rebuild import rebuild
from whimbrel_packager.commands.recipe import recipe
from whimbrel_packager.commands.repo import repo
from whimbrel_packager.commands.report import report
from whimbrel_packager.commands.verify import verify

__all__ = [
    "diff",
    "inspect",
    "keys",
    "pack",
    "profile",
    "publish",
    "pull",
    "rebuild",
    "recipe",
    "repo",
    "report",
    "verify",
]
