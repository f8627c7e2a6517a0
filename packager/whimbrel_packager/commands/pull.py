"""``whimbrel pull``: fetch a bundle from a registry."""

from __future__ import annotations

from pathlib import Path

import click

from whimbrel_packager.commands import output

_FILE = click.Path(path_type=Path)


@click.command(
    epilog="Example: whimbrel pull oci://registry.example/models/flights:1.0.0 --key keys/bundle.pub"
)
@click.argument("reference")
@click.option("--out", type=_FILE, default=Path(), help="Folder for the bundle. Default: here.")
@click.option("--key", "keys", multiple=True, required=True, type=_FILE,
              help="Public key (PEM) that you trust (repeat for several).")  # fmt: skip
@output.json_option
def pull(reference: str, *, out: Path, keys: tuple[Path, ...], as_json: bool) -> None:
    """Fetch REFERENCE, oci://HOST/NAME:VERSION, verify it, and write NAME-VERSION.whim.

    The file has the bytes that were published. What no given key vouches for is not written.
    """
    import io

    from whimbrel_core.bundle import bundle as bundles
    from whimbrel_packager import atomic, bundle_file
    from whimbrel_packager.destinations.oci import Reference, Registry
    from whimbrel_packager.signing import keyfiles

    wanted = Reference.parse(reference)
    trusted = [keyfiles.public(path) for path in keys]
    with output.stages(quiet=as_json) as stage:
        stage(f"fetching {reference}")
        data, digest = Registry(wanted).pull()
        stage("verifying the bundle")
        manifest = bundles.open_bundle(io.BytesIO(data), trusted, what=reference).manifest
    target = out / f"{manifest.title}{bundles.SUFFIX}"
    try:
        atomic.write(target, data, replace=False)
    except FileExistsError:
        if target.read_bytes() != data:
            raise bundle_file.taken(target) from None
    value = {
        "path": str(target),
        "name": manifest.name,
        "version": manifest.version,
        "release": manifest.release,
        "digest": digest,
    }
    lines = [
        f"pulled and verified: {manifest.name} {manifest.version}, release {manifest.release}",
        f"  file      {target}, {output.size(len(data))}",
    ]
    output.result(value, lines, as_json=as_json)
