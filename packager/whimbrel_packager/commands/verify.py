"""``whimbrel verify``: does a key vouch for every byte of a bundle?"""

from __future__ import annotations

from pathlib import Path

import click

from whimbrel_packager.commands import output


@click.command(epilog="Example: whimbrel verify flights-1.0.0.whim --key keys/bundle.pub")
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option("--key", "keys", multiple=True, required=True, type=click.Path(path_type=Path),
              help="Public key (PEM) that you trust (repeat for several).")  # fmt: skip
@output.json_option
def verify(bundle: Path, keys: tuple[Path, ...], as_json: bool) -> None:
    """Verify the signature and every file of BUNDLE, and say what it is and who signed it.

    Identity comes from the signed manifest: a renamed file is still the same bundle. Exits with 4
    when no given key vouches for it.
    """
    from whimbrel_core import identity
    from whimbrel_core.bundle import bundle as bundles
    from whimbrel_core.profile.baseline import Baseline
    from whimbrel_packager import keyfiles
    from whimbrel_packager.commands.inspect import opened

    trusted = {path: keyfiles.public(path) for path in keys}
    with opened(bundle) as file:
        digest = identity.sha256(file.read())
        whole = bundles.open_bundle(file, trusted.values(), what=str(bundle))
        # What a device would read is read here, too.
        baseline = Baseline.decode(whole.read(bundles.BASELINE))
    manifest = whole.manifest
    signer = next(path for path, key in trusted.items() if key.id == whole.key_id)
    value = {
        "verified": True,
        "name": manifest.name,
        "version": manifest.version,
        "release": manifest.release,
        "key": str(signer),
        "key_id": whole.key_id,
        "digest": digest,
        "profile_id": baseline.profile_id,
        "files": whole.digests,
    }
    shown = [
        f"verified: {manifest.name} {manifest.version}, release {manifest.release}",
        f"  signed by  {signer} (key {whole.key_id[:16]}…)",
        f"  files      {len(whole.digests)}, each as it was signed",
        f"  sha256     {digest}",
    ]
    if bundle.name != f"{manifest.title}{bundles.SUFFIX}":
        shown.append(f"  note       the file is called {bundle.name}; its name is not signed")
    output.result(value, shown, as_json=as_json)
