"""Options of the commands that sign a repository's metadata, and what they come to."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from whimbrel_packager.commands.place import place

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from whimbrel_packager.repository.change import Lack
    from whimbrel_packager.repository.repository import Repository
    from whimbrel_packager.signing.keyring import Keyring

FILE = click.Path(path_type=Path)
directory = click.option("--dir", "directory", required=True, type=place, metavar="PLACE",
                         help="The repository: a directory, or s3://BUCKET/PREFIX.")  # fmt: skip


def signing(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options that say what to sign with."""
    for option in (
        click.option("--password-file", type=FILE, help="Password of an encrypted key, or a PIN."),
        click.option("--online-keys", "online", type=FILE, help="Folder with the snapshot and "
                     "timestamp keys; without it, the fleet server signs these."),
        click.option("--key", "single", multiple=True, metavar="KEY", help="A key to sign with: a "
                     "PEM or .uri file, or a URI (repeat)."),
        click.option("--keys", type=FILE, help="Folder of keys to sign with; those that are "
                     "needed are used."),
    ):  # fmt: skip
        command = option(command)
    return command


def ring(given: Mapping[str, Any]) -> Keyring:
    """Return the keys to sign with."""
    from whimbrel_packager.signing.keyring import Keyring

    return Keyring(
        folders=[given["keys"]],
        keys=given["single"],
        password_file=given["password_file"],
    )


def online_ring(given: Mapping[str, Any]) -> Keyring | None:
    """Return the keys of snapshot and timestamp; None: the fleet server has them."""
    from whimbrel_packager.signing.keyring import Keyring

    if given["online"] is None:
        return None
    return Keyring(folders=[given["online"]], password_file=given["password_file"])


def outcome(
    repository: Repository, written: tuple[str, ...], lacking: Mapping[str, Lack], note: str
) -> tuple[dict[str, object], list[str]]:
    """Return what came of a change, as a value and as lines."""
    value: dict[str, object] = {
        "change": note,
        "signed": written,
        "published": not lacking and bool(written),
        "lacking": {
            role: {"have": lack.have, "need": lack.need, "keys": lack.others}
            for role, lack in lacking.items()
        },
    }
    if written and not lacking:
        lines = [f"published: {note}", f"  signed    {', '.join(written)}"]
        if repository.status().waiting:
            lines.append("  waiting   for the fleet server to sign snapshot and timestamp")
        return value, lines
    return value, [f"staged, nothing is published yet: {note}", *wanted(lacking)]


def wanted(lacking: Mapping[str, Lack]) -> list[str]:
    """Return a line for each role that wants signatures, and what to do."""
    lines = [
        (
            f"  {role:<10}{lack.have} of {lack.need} signatures; more by "
            + ", ".join(f"{keyid[:8]}…" for keyid in lack.others)
        )
        for role, lack in lacking.items()
    ]
    lines.append(
        "next: whimbrel repo sign --dir … --key …, by somebody who holds one of these"
        if lacking
        else "next: whimbrel repo sign --dir …, which publishes it"
    )
    return lines
