"""``whimbrel keys``: key files, and keys on tokens and in key services."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from whimbrel_packager.commands import output

if TYPE_CHECKING:
    from whimbrel_core.signing.keys import PublicKey

_FILE = click.Path(path_type=Path)
_FOLDER = click.option("--dir", "folder", type=_FILE, default=".", show_default=True,
                       help="Where to.")  # fmt: skip


@click.group()
def keys() -> None:
    """Make and show signing keys (EC P-256): PEM files, tokens, key services."""


@keys.command(epilog="Example: whimbrel keys new bundle --dir keys")
@click.argument("name")
@_FOLDER
@click.option("--password-file", type=_FILE, help="Encrypt the private key with what is in here; "
              "with --token: the token's PIN.")  # fmt: skip
@click.option("--token", metavar="URI", help="Make it on a PKCS#11 token, which it never leaves: "
              "pkcs11:token=LABEL;object=NAME?module-path=….so")  # fmt: skip
@output.json_option
def new(
    name: str, folder: Path, password_file: Path | None, token: str | None, as_json: bool
) -> None:
    """Make a key: NAME.pem (private, mode 0600) and NAME.pub. Never replaces one.

    With --token the private key is made on the token, and NAME.uri says where.
    """
    from whimbrel_core.errors import UsageError
    from whimbrel_packager.signing import hsm, keyfiles

    _check_name(name)
    if token is not None:
        if not token.startswith("pkcs11:"):
            raise UsageError(f"{token!r} is no pkcs11: URI", hint="see 'whimbrel keys new --help'")
        keyfiles.require_free(folder, name)
        public = hsm.generate(hsm.parse(token), hsm.Pin(password_file, token))
        _imported(folder, name, token, public, as_json=as_json)
        return
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


@keys.command(
    "import", epilog="Example: whimbrel keys import bundle awskms:alias/bundle --dir keys"
)
@click.argument("name")
@click.argument("uri")
@_FOLDER
@click.option("--password-file", type=_FILE, help="A token's PIN, if it shows nothing without.")
@output.json_option
def import_(name: str, uri: str, folder: Path, password_file: Path | None, as_json: bool) -> None:
    """Note a key that is elsewhere: NAME.uri says where, NAME.pub is its public half.

    URI is pkcs11:… (or hsm:…), awskms:…, gcpkms:…, azurekms:… or hv:… (Vault). Nothing secret is
    written. Every --key and --keys takes what it wrote as it takes NAME.pem.
    """
    from whimbrel_packager.signing import keyfiles, signers

    _check_name(name)
    keyfiles.require_free(folder, name)
    found, public = signers.fetch_public(uri, password_file)
    _imported(folder, name, found, public, as_json=as_json)


@keys.command(epilog="Example: whimbrel keys show keys/bundle.pub")
@click.argument("key", metavar="KEY")
@click.option("--password-file", type=_FILE, help="Password of an encrypted key, or a PIN.")
@output.json_option
def show(key: str, password_file: Path | None, as_json: bool) -> None:
    """Show the id and the public text of KEY: a file, private or public, or a key's URI."""
    from whimbrel_packager.signing import signers

    found = signers.public(key, password_file)
    output.result({"id": found.id, "pem": found.pem}, [f"id {found.id}", found.pem.rstrip()],
                  as_json=as_json)  # fmt: skip


def _imported(folder: Path, name: str, uri: str, public: PublicKey, *, as_json: bool) -> None:
    from whimbrel_packager.signing import keyfiles

    path = keyfiles.write_uri(folder, name, uri, public)
    value = {"uri": str(path), "public": str(path.with_suffix(".pub")), "id": public.id}
    shown = [
        f"{path}  says where the private key is; it is not secret",
        f"{path.with_suffix('.pub')}  give this to whoever verifies",
        f"  id  {public.id}",
    ]
    output.result(value, shown, as_json=as_json)


def _check_name(name: str) -> None:
    from whimbrel_core.errors import UsageError

    if not name.replace("-", "").replace("_", "").isalnum():
        raise UsageError(f"{name!r} is no name for a key", hint="use letters, digits, '-' and '_'")
