"""``whimbrel verify``: does a key vouch for every byte of a bundle, and whose is it?"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from whimbrel_packager.commands import output

if TYPE_CHECKING:
    from collections.abc import Iterable

    from whimbrel_core.signing.keys import PublicKey

_FILE = click.Path(path_type=Path)


class Trusted(NamedTuple):
    """A key that is trusted: where it was named, whose it is, and for which models."""

    public: PublicKey
    where: str
    holder: str = ""
    models: tuple[str, ...] = ("*",)


@click.command(epilog="Example: whimbrel verify flights-1.0.0.whim --key keys/bundle.pub")
@click.argument("bundle", type=_FILE)
@click.option("--key", "keys", multiple=True, metavar="KEY", help="Public key that you trust: a "
              "PEM file, or a URI (repeat for several).")  # fmt: skip
@click.option("--repo", type=_FILE, help="Trust the publishers that this repository names, each "
              "for its models, as devices do.")  # fmt: skip
@click.option("--signature", type=_FILE, help="For a folder: its signature, if it is not "
              "model.sig in it.")  # fmt: skip
@output.json_option
def verify(
    bundle: Path, keys: tuple[str, ...], repo: Path | None, signature: Path | None, as_json: bool
) -> None:
    """Verify the signature and every file of BUNDLE, and say what it is and who signed it.

    BUNDLE is a .whim file, or a folder with an OpenSSF Model Signing signature, made here or by
    'model_signing sign key'. Identity comes from the signed manifest: a renamed file is still the
    same bundle. Exits with 4 when no trusted key vouches for it.
    """
    from whimbrel_core.errors import UsageError

    if not keys and repo is None:
        raise UsageError("no key to trust was given", hint="give --key, --repo, or both")
    trusted = _trusted(keys, repo)
    if bundle.is_dir():
        value, shown = _folder(bundle, trusted, signature)
    elif signature is not None:
        raise UsageError(f"{bundle} is no folder: its signature is inside")
    else:
        value, shown = _bundle(bundle, trusted)
    output.result(value, shown, as_json=as_json)


def _bundle(bundle: Path, trusted: dict[str, Trusted]) -> tuple[dict[str, Any], list[str]]:
    from whimbrel_core import identity
    from whimbrel_core.bundle import bundle as bundles
    from whimbrel_core.profile.baseline import Baseline
    from whimbrel_packager.commands.inspect import opened

    with opened(bundle) as file:
        digest = identity.sha256(file.read())
        whole = bundles.open_bundle(file, _publics(trusted), what=str(bundle))
        # What a device would read is read here, too.
        baseline = Baseline.decode(whole.read(bundles.BASELINE))
    manifest = whole.manifest
    signer = trusted[whole.key_id]
    _require_scope(signer, manifest.name, str(bundle))
    value = {
        "verified": True,
        "name": manifest.name,
        "version": manifest.version,
        "release": manifest.release,
        **_told(signer),
        "digest": digest,
        "profile_id": baseline.profile_id,
        "files": whole.digests,
    }
    shown = [
        f"verified: {manifest.name} {manifest.version}, release {manifest.release}",
        _signed_by(signer),
        f"  files      {len(whole.digests)}, each as it was signed",
        f"  sha256     {digest}",
    ]
    if bundle.name != f"{manifest.title}{bundles.SUFFIX}":
        shown.append(f"  note       the file is called {bundle.name}; its name is not signed")
    return value, shown


def _folder(
    folder: Path, trusted: dict[str, Trusted], signature: Path | None
) -> tuple[dict[str, Any], list[str]]:
    from whimbrel_core.bundle import bundle as bundles
    from whimbrel_core.bundle import manifest as manifests
    from whimbrel_packager.signing import folder as folders

    found = folders.verify(folder, _publics(trusted), signature)
    stated = found.stated
    signer = trusted[stated.key_id]
    value = {
        "verified": True,
        "subject": stated.subject,
        **_told(signer),
        "files": stated.digests,
        "unsigned": found.unsigned,
    }
    if bundles.MANIFEST in stated.digests:
        manifest = manifests.decode((folder / bundles.MANIFEST).read_bytes())
        _require_scope(signer, manifest.name, str(folder))
        value |= {
            "name": manifest.name, "version": manifest.version, "release": manifest.release,
        }  # fmt: skip
        title = f"{manifest.name} {manifest.version}, release {manifest.release} (unpacked)"
    else:
        title = f"{folder}, signed as {stated.subject!r}; it is no bundle"
    shown = [
        f"verified: {title}",
        _signed_by(signer),
        f"  files      {len(stated.digests)}, each as it was signed",
    ]
    if found.unsigned:
        shown.append(f"  unsigned   {', '.join(found.unsigned)} (the signer left these out)")
    return value, shown


def _trusted(keys: Iterable[str], repo: Path | None) -> dict[str, Trusted]:
    """Return the trusted keys by id; one that is given by itself is trusted for all models."""
    from whimbrel_packager.repository import trusted
    from whimbrel_packager.repository.repository import Repository
    from whimbrel_packager.signing import signers

    found = {}
    if repo is not None:
        for one in trusted.named(Repository(repo), trusted.PUBLISHERS):
            models = one.models or ("*",)
            found[one.public.id] = Trusted(one.public, f"a publisher of {repo}", one.name, models)
    for where in keys:
        public = signers.public(where)
        holder = found[public.id].holder if public.id in found else ""
        found[public.id] = Trusted(public, where, holder)
    return found


def _publics(trusted: dict[str, Trusted]) -> list[PublicKey]:
    return [one.public for one in trusted.values()]


def _require_scope(signer: Trusted, model: str, what: str) -> None:
    from whimbrel_core.errors import TrustError

    if not {"*", model} & set(signer.models):
        raise TrustError(
            f"{what}: it is signed by {signer.holder or signer.where}, who may sign "
            f"{', '.join(signer.models)}, and not {model}",
            hint="devices refuse it too; see 'whimbrel repo add-key bundle --model'",
            code="trust.scope",
        )


def _told(signer: Trusted) -> dict[str, Any]:
    return {"key": signer.where, "key_id": signer.public.id, "holder": signer.holder}


def _signed_by(signer: Trusted) -> str:
    who = f"{signer.holder}, {signer.where}" if signer.holder else signer.where
    return f"  signed by  {who} (key {signer.public.id[:16]}…)"
