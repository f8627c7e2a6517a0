"""The `whimbrel` command: finds what is installed on this machine by entry points.

Each distribution registers click commands in the group ``whimbrel.commands``; this module loads
one only when it is used. It is also the boundary where errors become text and exit codes:

====  ==========================================================
0     done
1     a fault inside Whimbrel (please report it)
2     wrong usage or configuration
3     bad input (a bundle, message, profile or request)
4     not trusted (signature, key, digest, role)
5     refused (conversion, parity, compatibility)
6     unavailable (broker, server, repository)
7     storage (disk, database)
8     a declared gate does not hold
====  ==========================================================
"""

from __future__ import annotations

import json
import sys
from importlib.metadata import EntryPoint, PackageNotFoundError, entry_points
from importlib.metadata import version as installed_version
from typing import TYPE_CHECKING

import click

from whimbrel_core.errors import UsageError, WhimbrelError

if TYPE_CHECKING:
    from collections.abc import Sequence

GROUP = "whimbrel.commands"
PARTS = {
    "whimbrel-packager": "convert, prove, sign and publish models (build machine)",
    "whimbrel-agent": "verify, serve and watch models (device)",
    "whimbrel-server": "judge drift and roll out versions (fleet server)",
}


class InstalledCommands(click.Group):
    """A group whose commands are the entry points of the installed distributions."""

    def _points(self) -> dict[str, EntryPoint]:
        return {point.name: point for point in entry_points(group=GROUP)}

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of the installed commands, sorted."""
        return sorted({*super().list_commands(ctx), *self._points()})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Load one command, or return None when no installed part has it."""
        point = self._points().get(cmd_name)
        if point is None:
            return super().get_command(ctx, cmd_name)
        try:
            loaded = point.load()
        except Exception as error:  # noqa: BLE001 - whatever a damaged part raises when loaded
            return _broken(point, error)
        if not isinstance(loaded, click.Command):
            return _broken(point, TypeError(f"{point.value} is not a command"))
        return loaded


def _broken(point: EntryPoint, cause: Exception) -> click.Command:
    """Return a stand-in, so that one damaged part leaves the other parts usable."""

    def fail() -> None:
        msg = f"the command {point.name!r} is installed but cannot be loaded: {cause}"
        raise UsageError(msg, code="usage.installation", hint="reinstall the part that has it")

    settings = {"ignore_unknown_options": True, "allow_extra_args": True}
    return click.Command(
        point.name, callback=fail, help=f"(cannot be loaded: {cause})", context_settings=settings
    )


@click.group(
    cls=InstalledCommands,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Example: whimbrel pack --help",
)
@click.version_option(package_name="whimbrel-core", prog_name="whimbrel")
@click.pass_context
def whimbrel(ctx: click.Context) -> None:
    """Take models from a build machine to a fleet of edge devices, and watch them there."""
    if ctx.invoked_subcommand is None:
        click.echo("Installed on this machine:\n")
        for part, purpose in PARTS.items():
            try:
                shown = installed_version(part)
            except PackageNotFoundError:
                shown = "not installed"
            click.echo(f"  {part:<18} {shown:<14} {purpose}")
        click.echo("\n" + ctx.get_help())


def print_error(error: WhimbrelError, *, as_json: bool) -> None:
    """Print an error to standard error: ``error:`` and ``hint:`` lines, or one JSON object."""
    if as_json:
        click.echo(json.dumps({"error": error.as_dict()}), err=True)
        return
    click.secho("error: ", fg="red", bold=True, nl=False, err=True)
    click.echo(f"{error.message} [{error.code}]", err=True)
    if error.hint:
        click.secho("hint:  ", fg="cyan", bold=True, nl=False, err=True)
        click.echo(error.hint, err=True)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return the process's exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        result = whimbrel.main(args=arguments, prog_name="whimbrel", standalone_mode=False)
    except WhimbrelError as error:
        print_error(error, as_json="--json" in arguments)
        return error.exit_code
    except click.ClickException as error:
        error.show()
        return 2
    except (click.Abort, KeyboardInterrupt):
        click.echo("interrupted", err=True)
        return 130
    return result if isinstance(result, int) else 0


if __name__ == "__main__":
    sys.exit(main())
