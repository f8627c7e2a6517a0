"""``whimbrel publish``: add a bundle to a repository, or to a registry."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from whimbrel_packager.commands import output
from whimbrel_packager.commands.place import opened, place, token_option

if TYPE_CHECKING:
    from whimbrel_packager.repository.publishing import Published

_FILE = click.Path(path_type=Path)


@click.command(
    epilog="Example: whimbrel publish flights-1.0.0.whim --to repository --keys keys "
    "--online-keys online"
)
@click.argument("bundle", type=_FILE)
@click.option("--to", "--repo", "to", required=True, type=place, metavar="PLACE",
              help="The repository: a directory, s3://BUCKET/PREFIX, or the fleet server "
              "https://HOST:PORT. Or a registry, oci://HOST/NAME.")  # fmt: skip
@click.option("--keys", type=_FILE, help="Folder with the offline targets key, or the team's; for "
              "a registry, with the public bundle key.")  # fmt: skip
@click.option("--key", "single", multiple=True, metavar="KEY", help="A key to sign the metadata "
              "with: a PEM or .uri file, or a URI (repeat).")  # fmt: skip
@click.option("--online-keys", "online", type=_FILE, help="Folder with the snapshot and timestamp "
              "keys; without it, the fleet server signs these.")  # fmt: skip
@click.option("--targets-days", type=click.IntRange(min=1), default=90, show_default=True,
              help="Days for which the list of bundles is valid.")  # fmt: skip
@click.option("--deltas", type=click.IntRange(0, 20), default=2, show_default=True,
              help="Make deltas from this many releases before.")  # fmt: skip
@click.option("--password-file", type=_FILE, help="Password of an encrypted targets key.")
@token_option
@output.json_option
def publish(
    bundle: Path,
    *,
    to: Path | str,
    keys: Path | None,
    single: tuple[str, ...],
    online: Path | None,
    targets_days: int,
    deltas: int,
    password_file: Path | None,
    token_file: Path | None,
    as_json: bool,
) -> None:
    """Verify BUNDLE and add it to a repository, with deltas from the last releases.

    The release counter has to grow, a published version never changes, and publishing the same
    bundle again changes nothing. Whoever is interrupted leaves the repository as it was.
    """
    if isinstance(to, str) and to.startswith("oci://"):
        _push(bundle, to, _folder(keys), as_json=as_json)
        return
    from datetime import UTC, datetime

    from whimbrel_packager.repository import publishing
    from whimbrel_packager.repository.metadata import Lives
    from whimbrel_packager.repository.repository import Repository
    from whimbrel_packager.signing.keyring import Keyring

    with output.stages(quiet=as_json) as stage:
        done = publishing.publish(
            Repository(opened(to, token_file)),
            bundle,
            Keyring(
                folders=[keys] if single else [_folder(keys)],
                keys=single,
                password_file=password_file,
            ),
            now=datetime.now(UTC),
            online=online,
            lives=Lives(targets=targets_days),
            deltas=deltas,
            report=stage,
        )
    _show(done, as_json=as_json)


def _folder(keys: Path | None) -> Path:
    from whimbrel_core.errors import UsageError

    if keys is None:
        raise UsageError("no key was given", hint="give --keys FOLDER or --key KEY")
    return keys


def _show(done: Published, *, as_json: bool) -> None:
    released = done.released
    value = {
        "released": released,
        "targets_version": done.targets_version,
        "signed": done.signed,
        "waiting_for_server": done.waiting,
        "fresh": done.fresh,
        "delta_bytes": done.delta_bytes,
        "role": done.role,
        "lacking": {role: lack._asdict() for role, lack in done.lacking.items()},
    }
    what = f"{released.name} {released.version}, release {released.release}"
    if done.lacking:
        lines = [f"staged: {what}; not published before enough keys have signed"]
    elif done.fresh:
        lines = [f"published: {what}"]
    else:
        lines = [f"already published: {what}; nothing was added"]
    lines.append(f"  target    {released.path}, {output.size(released.length)}")
    lines += [
        f"  delta     from {version}: {output.size(size)} ({size / released.length:.1%})"
        for version, size in done.delta_bytes.items()
    ]
    lines.append(f"  signed    {', '.join(done.signed) or 'nothing'}")
    lines += [
        f"  lacking   {role} has {lack.have} of {lack.need} signatures: whimbrel repo sign"
        for role, lack in done.lacking.items()
    ]
    if done.waiting and not done.lacking:
        lines.append("  waiting   for the fleet server to sign snapshot and timestamp")
    output.result(value, lines, as_json=as_json)


def _push(bundle: Path, to: str, keys: Path, *, as_json: bool) -> None:
    """Verify a bundle by the public bundle key in ``keys``, and put it into a registry."""
    from whimbrel_core.bundle import bundle as bundles
    from whimbrel_core.errors import TrustError
    from whimbrel_packager.commands.inspect import opened as opened_bundle
    from whimbrel_packager.destinations.oci import Reference, Registry
    from whimbrel_packager.signing import keyfiles

    reference = Reference.parse(to)
    file = keys / "bundle.pub"
    trusted = keyfiles.public(file if file.is_file() else keys / "bundle.pem")
    with output.stages(quiet=as_json) as stage:
        stage("verifying the bundle")
        with opened_bundle(bundle) as stream:
            data = stream.read()
            try:
                manifest = bundles.open_bundle(stream, [trusted], what=str(bundle)).manifest
            except TrustError as error:
                raise TrustError(
                    f"{error.message}; nothing was published", hint=error.hint, code=error.code
                ) from error
        done = Registry(reference).push(data, manifest, stage)
    value = {
        "reference": str(done.reference),
        "digest": done.digest,
        "fresh": done.fresh,
        "sent_bytes": done.sent_bytes,
        "name": manifest.name,
        "version": manifest.version,
        "release": manifest.release,
    }
    what = f"{manifest.name} {manifest.version} at {done.reference}"
    lines = [
        f"published: {what}" if done.fresh else f"already published: {what}; nothing was sent",
        f"  manifest  {done.digest}",
        f"  sent      {output.size(done.sent_bytes)} of {output.size(len(data))}",
    ]
    output.result(value, lines, as_json=as_json)
