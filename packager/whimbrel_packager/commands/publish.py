"""``whimbrel publish``: add a bundle to a repository."""

from __future__ import annotations

from pathlib import Path

import click

from whimbrel_packager.commands import output

_FILE = click.Path(path_type=Path)


@click.command(
    epilog="Example: whimbrel publish flights-1.0.0.whim --repo repository --keys keys "
    "--online-keys online"
)
@click.argument("bundle", type=_FILE)
@click.option("--repo", required=True, type=_FILE, help="The repository directory.")
@click.option("--keys", required=True, type=_FILE, help="Folder with the offline targets key.")
@click.option("--online-keys", "online", type=_FILE, help="Folder with the snapshot and timestamp "
              "keys; without it, the fleet server signs these.")  # fmt: skip
@click.option("--targets-days", type=click.IntRange(min=1), default=90, show_default=True,
              help="Days for which the list of bundles is valid.")  # fmt: skip
@click.option("--password-file", type=_FILE, help="Password of an encrypted targets key.")
@output.json_option
def publish(
    bundle: Path,
    *,
    repo: Path,
    keys: Path,
    online: Path | None,
    targets_days: int,
    password_file: Path | None,
    as_json: bool,
) -> None:
    """Verify BUNDLE and add it to a repository, with deltas from the last two releases.

    The release counter has to grow, a published version never changes, and publishing the same
    bundle again changes nothing. Whoever is interrupted leaves the repository as it was.
    """
    from datetime import UTC, datetime

    from whimbrel_packager.metadata import Lives
    from whimbrel_packager.repository import Repository

    with output.stages(quiet=as_json) as stage:
        done = Repository(repo).publish(
            bundle,
            keys,
            now=datetime.now(UTC),
            online=online,
            lives=Lives(targets=targets_days),
            report=stage,
            password=password_file,
        )
    released = done.released
    value = {
        "released": released,
        "targets_version": done.targets_version,
        "signed": done.signed,
        "waiting_for_server": done.waiting,
        "fresh": done.fresh,
        "delta_bytes": done.delta_bytes,
    }
    what = f"{released.name} {released.version}, release {released.release}"
    lines = [
        f"published: {what}" if done.fresh else f"already published: {what}; nothing was added",
        f"  target    {released.path}, {output.size(released.length)}",
    ]
    lines += [
        f"  delta     from {version}: {output.size(size)} ({size / released.length:.1%})"
        for version, size in done.delta_bytes.items()
    ]
    lines.append(f"  signed    {', '.join(done.signed) or 'nothing'}")
    if done.waiting:
        lines.append("  waiting   for the fleet server to sign snapshot and timestamp")
    output.result(value, lines, as_json=as_json)
