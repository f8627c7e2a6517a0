"""``whimbrel report``: one HTML file about a bundle, for review, audit and print."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from whimbrel_packager.commands import output
from whimbrel_packager.commands.named import bundles, repo_option

if TYPE_CHECKING:
    from whimbrel_packager.contents import Contents

_FILE = click.Path(path_type=Path)
STDOUT = Path("-")


@click.command(
    epilog="Example: whimbrel report flights-1.0.0.whim --trust keys/bundle.pub; or, of a "
    "repository: whimbrel report flights@1.0.0 --repo repository"
)
@click.argument("bundle")
@repo_option
@click.option("--out", type=_FILE, help="The HTML file; '-' is standard output. Default: "
              "NAME-VERSION.html in this folder.")  # fmt: skip
@click.option("--trust", multiple=True, metavar="KEY", help="Public key that must have signed it: "
              "a PEM file, or a URI (repeat for several). Without one nothing is verified, and "
              "the report says so.")  # fmt: skip
@output.json_option
def report(
    bundle: str, repo: Path | str | None, out: Path | None, trust: tuple[str, ...], as_json: bool
) -> None:
    """Write a report on BUNDLE: one HTML file that loads nothing else.

    BUNDLE is a .whim file, or with --repo a release of it, NAME@VERSION.

    Schema, quality, gates, proof, runtime, baseline, lineage, materials and files, from what is in
    the bundle and nothing beside it. The same bundle gives the same report.
    """
    from whimbrel_core import identity
    from whimbrel_packager.pages import report as pages

    ((contents, _, file),) = bundles([bundle], trust, repo)
    manifest = contents.manifest
    page = pages.build(contents).encode()
    target = out or Path(f"{manifest.title}.html")
    write(target, page, *([file] if file else []))
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
