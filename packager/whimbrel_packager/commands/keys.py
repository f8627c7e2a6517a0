"""``whimbrel keys``: key files."""

from __future__ import annotations

from pathlib import Path

import click

from whimbrel_packager.commands import output

_FILE = click.Path(path_type=Path)


@click.group()
def keys() -> None:
    """Make and show signing keys (EC P-256, PEM files)."""


@keys.command(epilog="Example: whimbrel keys new bundle --dir keys")
@click.argument("name")
@click.option("--dir", "folder", type=_FILE, default=".", show_default=True, help="Where to.")
@click.option("--password-file", type=_FILE, help="Encrypt the private key with what is in here.")
@output.json_option
def new(name: str, folder: Path, password_file: Path | None, as_json: bool) -> None:
    """Make a key: NAME.pem (private, mode 0600) and NAME.pub. Never replaces one."""
    from whimbrel_core.errors import UsageError
    from whimbrel_packager import keyfiles

    if not name.replace("-", "").replace("_", "").isalnum():
        raise UsageError(f"{name!r} is no name for a key", hint="use letters, digits, '-' and '_'")
    password = None
    if password_file is not None:
        try:
            password = password_file.read_bytes().strip()
        except OSError as error:
            raise UsageError(f"{password_file} cannot be read: {error.strerror}") from error
    key, path = keyfiles.create(folder, name, password)
    value = {"private": str(path), "public": str(path.with_suffix(".pub")), "id": key.public.id}
    shown = [
        f"{path}  keep it secret, and a copy of it offline: nothing new can be signed without it",
        f"{path.with_suffix('.pub')}  give this to whoever verifies",
        f"  id  {key.public.id}",
    ]
    output.result(value, shown, as_json=as_json)


@keys.command(epilog="Example: whimbrel keys show keys/bundle.pub")
@click.argument("path", type=_FILE)
@click.option("--password-file", type=_FILE, help="Password of an encrypted private key.")
@output.json_option
def show(path: Path, password_file: Path | None, as_json: bool) -> None:
    """Show the id and the public text of a key file, private or public."""
    from whimbrel_packager import keyfiles

    key = keyfiles.private(path, password_file).public if password_file else keyfiles.public(path)
    output.result({"id": key.id, "pem": key.pem}, [f"id {key.id}", key.pem.rstrip()],
                  as_json=as_json)  # fmt: skip
