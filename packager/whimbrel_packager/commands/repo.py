"""``whimbrel repo``: make, show and keep fresh a repository."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from whimbrel_packager.commands import output, signing_options

if TYPE_CHECKING:
    from collections.abc import Mapping

    from whimbrel_packager.repository.change import Lack
    from whimbrel_packager.repository.repository import Repository
    from whimbrel_packager.repository.trusted import Holder

_FILE = click.Path(path_type=Path)
_DIRECTORY = signing_options.directory


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
@click.option("--root-key", "root_keys", multiple=True, metavar="KEY", help="Somebody who holds "
              "root, by their public key (repeat); default: root in --keys.")  # fmt: skip
@click.option("--threshold-root", type=click.IntRange(min=1), default=1, show_default=True,
              help="How many root keys have to sign.")  # fmt: skip
@click.option("--targets-key", "targets_keys", multiple=True, metavar="KEY", help="Somebody who "
              "holds targets (repeat); default: targets in --keys.")  # fmt: skip
@click.option("--threshold-targets", type=click.IntRange(min=1), default=1, show_default=True,
              help="How many targets keys have to sign.")  # fmt: skip
@click.option("--password-file", type=_FILE, help="Password of encrypted keys, or a token's PIN.")
@click.option("--root-days", type=click.IntRange(min=1), default=365, show_default=True,
              help="Days for which the root of trust is valid.")  # fmt: skip
@click.option("--targets-days", type=click.IntRange(min=1), default=90, show_default=True,
              help="Days for which the list of bundles is valid.")  # fmt: skip
@output.json_option
def init(**given: Any) -> None:  # noqa: ANN401 - click's options, by name
    """Make a repository, its keys, and the list of keys that devices will trust.

    Where several people hold root or targets, it begins to be one when enough of them have signed
    (whimbrel repo sign).
    """
    from datetime import UTC, datetime

    from whimbrel_packager.repository import founding
    from whimbrel_packager.repository.metadata import Lives
    from whimbrel_packager.repository.repository import Repository
    from whimbrel_packager.signing import signers

    directory, keys, online = given["directory"], given["keys"], given["online"]
    together = {
        role: founding.Founders(
            [signers.public(one) for one in given[f"{role}_keys"]], given[f"threshold_{role}"]
        )
        for role in ("root", "targets")
        if given[f"{role}_keys"]
    }
    found = Repository(directory)
    lacking = founding.found(
        found,
        keys,
        online,
        now=datetime.now(UTC),
        lives=Lives(root=given["root_days"], targets=given["targets_days"]),
        together=together,
        more=[Path(one) for role in together for one in given[f"{role}_keys"] if _private(one)],
        password_file=given["password_file"],
    )
    root = f"{found.where}/metadata/1.root.json"
    offline = [name for name in founding.OFFLINE_KEYS if name not in together]
    value = {
        "directory": str(directory),
        "root": root,
        "offline_keys": [str(keys / f"{name}.pem") for name in offline],
        "online_keys": [str(online / f"{name}.pem") for name in founding.ONLINE_KEYS],
        "lacking": {role: lack._asdict() for role, lack in lacking.items()},
    }
    shown = [
        f"made the repository {directory}" if not lacking else f"{directory} is not one yet",
        f"  root of trust  {root}  (devices are enrolled with it)",
        f"  offline keys   {keys}: {', '.join(offline)}  (keep them off every server)",
        f"  online keys    {online}: {', '.join(founding.ONLINE_KEYS)}  (for the fleet server)",
    ]
    if lacking:
        shown += signing_options.wanted(lacking)
    else:
        shown.append(
            f"next: whimbrel pack … --key {keys / 'bundle.pem'} --repo {directory}, then "
            f"whimbrel publish … --repo {directory} --keys {keys}"
        )
    output.result(value, shown, as_json=given["as_json"])


@repo.command(
    short_help="Verify it, and list roles, keys and bundles.",
    epilog="Example: whimbrel repo show --dir repository",
)
@_DIRECTORY
@output.json_option
def show(directory: Path, as_json: bool) -> None:
    """Verify the metadata and list roles, expiry, keys, bundles, and what waits for signatures."""
    from whimbrel_packager.repository import change, trusted
    from whimbrel_packager.repository.repository import Repository

    found = Repository(directory)
    staged = change.staged(found)
    lacking: Mapping[str, Lack] = staged.lacking() if staged is not None else {}
    waiting = None if staged is None else {
        "change": staged.note,
        "lacking": {role: lack._asdict() for role, lack in lacking.items()},
    }  # fmt: skip
    shown = []
    value: dict[str, object] = {"staged": waiting}
    if found.newest("root") or staged is None:
        status, released = found.status(), found.released()
        keys = trusted.holders(found)
        value |= {
            "roles": {
                role: {"version": version, "expires": expires.isoformat() if expires else None}
                for role, version in status.versions.items()
                for expires in [status.expires[role]]
            },
            "waiting_for_server": status.waiting,
            "keys": [one._asdict() for one in keys],
            "bundles": released,
        }
        shown += [f"{directory}: every signature holds", *_roles(found)]
        if status.waiting:
            shown.append("  waiting for the fleet server to sign snapshot and timestamp")
        shown += ["keys:", *(_holder(one) for one in keys)]
        shown.append("bundles:" if released else "no bundles yet")
        shown += [
            (
                f"  {one.name} {one.version}  release {one.release}  {output.size(one.length)}  "
                f"sha256 {one.digest[:16]}…  {len(one.deltas)} deltas"
            )
            for one in released
        ]
    if staged is not None:
        shown += [f"waits for signatures: {staged.note}"]
        shown += [f"  {line}" for line in change.described(found, staged)]
        shown += signing_options.wanted(lacking)
    output.result(value, shown, as_json=as_json)


@repo.command(
    short_help="Sign metadata again before it expires.",
    epilog="Example: whimbrel repo refresh --dir repository --online-keys online",
)
@_DIRECTORY
@click.option("--keys", type=_FILE, help="Folder with the targets key: sign targets anew (and "
              "teams' roles whose keys are there).")  # fmt: skip
@click.option("--online-keys", "online", type=_FILE,
              help="Folder with the snapshot and timestamp keys: sign these anew.")  # fmt: skip
@click.option("--root", "renew_root", is_flag=True, help="Sign root anew, with the root keys in "
              "--keys.")  # fmt: skip
@click.option("--password-file", type=_FILE, help="Password of encrypted keys, or a token's PIN.")
@output.json_option
def refresh(
    directory: Path,
    *,
    keys: Path | None,
    online: Path | None,
    renew_root: bool,
    password_file: Path | None,
    as_json: bool,
) -> None:
    """Sign metadata again before it expires; a running fleet server does the online roles."""
    from datetime import UTC, datetime

    from whimbrel_core.errors import UsageError
    from whimbrel_packager.repository import trusted
    from whimbrel_packager.repository.metadata import Lives
    from whimbrel_packager.repository.repository import Repository
    from whimbrel_packager.signing.keyring import Keyring

    if keys is None and (online is None or renew_root):
        raise UsageError("nothing to sign with", hint="give --keys, --online-keys, or both")
    found, now = Repository(directory), datetime.now(UTC)
    written: tuple[str, ...] = ()
    lines = []
    if renew_root and keys is not None:
        written, lacking = found.carry_out(
            lambda: trusted.change(found, "root", now=now, lives=Lives()),
            Keyring(folders=[keys], password_file=password_file),
            now=now,
        )
        if lacking:
            lines += [
                "root is staged, nothing of it is published yet",
                *signing_options.wanted(lacking),
            ]
        keys = None
    ring = Keyring(folders=[keys], password_file=password_file) if keys is not None else None
    written += found.refresh(now=now, online=online, keys=ring)
    lines.insert(0, f"signed {', '.join(written) or 'nothing'}")
    output.result({"signed": written}, lines, as_json=as_json)


def _roles(found: Repository) -> list[str]:
    from datetime import UTC, datetime

    status, now = found.status(), datetime.now(UTC)
    lines = []
    for role, version in status.versions.items():
        expires = status.expires[role]
        if expires is None:
            lines.append(f"  {role:<10} not signed yet")
            continue
        left = (expires - now).total_seconds() / 86_400
        until = f"{expires:%Y-%m-%d %H:%M} UTC"
        state = f"valid for {left:.1f} days more" if left > 0 else "EXPIRED: whimbrel repo refresh"
        lines.append(f"  {role:<10} version {version}, until {until} ({state})")
    return lines


def _holder(one: Holder) -> str:
    what = f" for {', '.join(one.models)}" if one.models and one.models != ("*",) else ""
    return f"  {one.role:<10} {one.key_id[:16]}…{what}{f'  {one.name}' if one.name else ''}"


def _private(where: str) -> bool:
    """Return whether there is a private key, not only the public half of somebody else's."""
    return Path(where).suffix in {".pem", ".uri"} and b"PUBLIC KEY" not in Path(where).read_bytes()
