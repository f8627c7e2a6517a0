"""``whimbrel report``: one HTML file about a bundle, for review, audit and print."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from whimbrel_packager.commands import output

if TYPE_CHECKING:
    from collections.abc import Iterable

    from whimbrel_core.signing.keys import PublicKey
    from whimbrel_packager.contents import Contents

_FILE = click.Path(path_type=Path)
STDOUT = Path("-")


@click.command(epilog="Example: whimbrel report flights-1.0.0.whim --trust keys/bundle.pub")
@click.argument("bundle", type=_FILE)
@click.option("--out", type=_FILE, help="The HTML file; '-' is standard output. Default: "
              "NAME-VERSION.html in this folder.")  # fmt: skip
@click.option("--trust", multiple=True, metavar="KEY", help="Public key that must have signed it: "
              "a PEM file, or a URI (repeat for several). Without one nothing is verified, and "
              "the report says so.")  # fmt: skip
@output.json_option
def report(bundle: Path, out: Path | None, trust: tuple[str, ...], as_json: bool) -> None:
    """Write a report on BUNDLE: one HTML file that loads nothing else.

    Schema, quality, gates, proof, runtime, baseline, lineage, materials and files, from what is in
    the bundle and nothing beside it. The same bundle gives the same report.
    """
    from whimbrel_core import identity
    from whimbrel_packager.pages import report as pages

    contents = read(bundle, keys(trust))
    manifest = contents.manifest
    page = pages.build(contents).encode()
    target = out or Path(f"{manifest.title}.html")
    write(target, page, bundle)
    if target == STDOUT:
        return
    state = contents.signature.state
    value = {
        "path": str(target),
        "digest": identity.sha256(page),
        "bytes": len(page),
        "name": manifest.name,
        "version": manifest.version,
        "release": manifest.release,
        "bundle": contents.digest,
        "verified": state == "verified",
        "key_id": contents.signature.key_id,
        "unread": contents.unread,
    }
    shown = [
        f"{target}  {output.size(len(page))}",
        f"  bundle     {manifest.name} {manifest.version}, release {manifest.release}",
        f"  signature  {_told(contents)}",
        *(f"  note       {text}" for text in contents.unread.values()),
    ]
    output.result(value, shown, as_json=as_json)


def keys(trust: Iterable[str]) -> list[PublicKey]:
    """Return the keys that were named."""
    from whimbrel_packager.signing import signers

    return [signers.public(where) for where in trust]


def read(bundle: Path, trusted: list[PublicKey]) -> Contents:
    """Return the contents of a bundle's file; errors as in `whimbrel_packager.contents.read`."""
    from whimbrel_packager import contents
    from whimbrel_packager.commands.inspect import opened

    with opened(bundle) as file:
        return contents.read(file, what=str(bundle), keys=trusted)


def write(target: Path, page: bytes, *bundles: Path) -> None:
    """Write a page, or print it.

    Raises:
        UsageError: the target is one of the bundles, or a folder.
        StorageError: it cannot be written; an older file is as it was.
    """
    from whimbrel_core.errors import UsageError
    from whimbrel_packager import atomic

    if target == STDOUT:
        click.echo(page, nl=False)
        return
    if any(target.exists() and target.samefile(bundle) for bundle in bundles):
        raise UsageError(f"{target} is the bundle itself; nothing was written")
    if target.is_dir():
        raise UsageError(f"{target} is a folder; nothing was written",
                         hint=f"give --out {target / 'report.html'}")  # fmt: skip
    atomic.write(target, page)


def _told(contents: Contents) -> str:
    signature = contents.signature
    if signature.state == "verified":
        return f"verified, by key {signature.key_id[:16]}…"
    if signature.state == "none":
        return "NOT SIGNED"
    return "NOT VERIFIED (give --trust)"
