"""``whimbrel repo``: make, show and keep fresh a repository."""

from __future__ import annotations

from pathlib import Path

import click

from whimbrel_packager.commands import output

_FILE = click.Path(path_type=Path)
_DIRECTORY = click.option("--dir", "directory", required=True, type=_FILE, help="The repository.")


@click.group()
def repo() -> None:
    """Make and look after a repository: a directory with signed metadata and bundles."""


@repo.command(
    short_help="Make a repository and its keys.",
    epilog="Example: whimbrel repo init --dir repository --keys keys --online-keys online",
)
@_DIRECTORY
@click.option("--keys", required=True, type=_FILE, help="Folder for the offline keys root, targets "
              "and bundle; those that are there are used.")  # fmt: skip
@click.option("--online-keys", "online", required=True, type=_FILE, help="Folder for the online "
              "keys snapshot, timestamp and fleet; goes to the server.")  # fmt: skip
@click.option("--root-days", type=click.IntRange(min=1), default=365, show_default=True,
              help="Days for which the root of trust is valid.")  # fmt: skip
@click.option("--targets-days", type=click.IntRange(min=1), default=90, show_default=True,
              help="Days for which the list of bundles is valid.")  # fmt: skip
@output.json_option
def init(
    directory: Path, *, keys: Path, online: Path, root_days: int, targets_days: int, as_json: bool
) -> None:
    """Make a repository, its keys, and the list of keys that devices will trust."""
    from datetime import UTC, datetime

    from whimbrel_packager.metadata import Lives
    from whimbrel_packager.repository import OFFLINE_KEYS, ONLINE_KEYS, Repository

    lives = Lives(root=root_days, targets=targets_days)
    Repository.init(directory, keys, online, now=datetime.now(UTC), lives=lives)
    root = directory / "metadata" / "1.root.json"
    value = {
        "directory": str(directory),
        "root": str(root),
        "offline_keys": [str(keys / f"{name}.pem") for name in OFFLINE_KEYS],
        "online_keys": [str(online / f"{name}.pem") for name in ONLINE_KEYS],
    }
    shown = [
        f"made the repository {directory}",
        f"  root of trust  {root}  (devices are enrolled with it)",
        f"  offline keys   {keys}: {', '.join(OFFLINE_KEYS)}  (keep them off every server)",
        f"  online keys    {online}: {', '.join(ONLINE_KEYS)}  (for the fleet server)",
        (
            f"next: whimbrel pack … --key {keys / 'bundle.pem'} --repo {directory}, then "
            f"whimbrel publish … --repo {directory} --keys {keys}"
        ),
    ]
    output.result(value, shown, as_json=as_json)


@repo.command(
    short_help="Verify it, and list roles and bundles.",
    epilog="Example: whimbrel repo show --dir repository",
)
@_DIRECTORY
@output.json_option
def show(directory: Path, as_json: bool) -> None:
    """Verify the metadata and list roles, expiry and bundles."""
    from datetime import UTC, datetime

    from whimbrel_packager.repository import Repository

    found = Repository(directory)
    status, released = found.status(), found.released()
    now = datetime.now(UTC)
    roles = {
        role: {"version": version, "expires": expires.isoformat() if expires else None}
        for role, version in status.versions.items()
        for expires in [status.expires[role]]
    }
    value = {"roles": roles, "waiting_for_server": status.waiting, "bundles": released}
    shown = [f"{directory}: every signature holds"]
    for role, version in status.versions.items():
        expires = status.expires[role]
        if expires is None:
            shown.append(f"  {role:<10} not signed yet")
            continue
        left = (expires - now).total_seconds() / 86_400
        until = f"{expires:%Y-%m-%d %H:%M} UTC"
        state = f"valid for {left:.1f} days more" if left > 0 else "EXPIRED: whimbrel repo refresh"
        shown.append(f"  {role:<10} version {version}, until {until} ({state})")
    if status.waiting:
        shown.append("  waiting for the fleet server to sign snapshot and timestamp")
    shown.append("bundles:" if released else "no bundles yet")
    shown += [
        (
            f"  {one.name} {one.version}  release {one.release}  {output.size(one.length)}  "
            f"sha256 {one.digest[:16]}…  {len(one.deltas)} deltas"
        )
        for one in released
    ]
    output.result(value, shown, as_json=as_json)


@repo.command(
    short_help="Sign metadata again before it expires.",
    epilog="Example: whimbrel repo refresh --dir repository --online-keys online",
)
@_DIRECTORY
@click.option("--keys", type=_FILE, help="Folder with the targets key: sign targets anew.")
@click.option("--online-keys", "online", type=_FILE,
              help="Folder with the snapshot and timestamp keys: sign these anew.")  # fmt: skip
@output.json_option
def refresh(directory: Path, keys: Path | None, online: Path | None, as_json: bool) -> None:
    """Sign metadata again before it expires; a running fleet server does the online roles."""
    from datetime import UTC, datetime

    from whimbrel_core.errors import UsageError
    from whimbrel_packager.repository import Repository

    if keys is None and online is None:
        raise UsageError("nothing to sign with", hint="give --keys, --online-keys, or both")
    written = Repository(directory).refresh(now=datetime.now(UTC), online=online, keys=keys)
    output.result({"signed": written}, [f"signed {', '.join(written)}"], as_json=as_json)
