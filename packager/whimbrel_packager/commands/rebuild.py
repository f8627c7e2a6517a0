"""``whimbrel rebuild``: is a bundle what its provenance says?"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from whimbrel_packager.commands import output

if TYPE_CHECKING:
    from whimbrel_packager.rebuild import Rebuilt

_FILE = click.Path(path_type=Path)
_DIFFERS = 5  # as every refusal


@click.command(
    epilog="Example: whimbrel rebuild flights-1.0.0.whim --model model.skops "
    "--reference data.npz --trust keys/bundle.pub"
)
@click.argument("bundle", type=_FILE)
@click.option("--model", required=True, type=_FILE, help="The model that was packed.")
@click.option("--reference", required=True, type=_FILE, help="The reference data.")
@click.option("--trust", multiple=True, metavar="KEY",
              help="Public key that has to vouch for the bundle before its recipe is followed "
              "(repeat for several).")  # fmt: skip
@click.option("--key", help="Signing key: make the signature again, too.")
@click.option("--password-file", type=_FILE, help="Password of an encrypted signing key.")
@click.option("--files", type=_FILE, help="Folder of other files that the recipe names "
              "(a predecessor). Default: the bundle's.")  # fmt: skip
@click.option("--allow-pickle", is_flag=True,
              help="Load .joblib/.pkl, which runs whatever code is in them.")  # fmt: skip
@click.option("--trusted", multiple=True, metavar="TYPE", help="Type that a .skops file may hold.")
@output.json_option
def rebuild(
    *,
    bundle: Path,
    model: Path,
    reference: Path,
    trust: tuple[str, ...],
    key: str | None,
    password_file: Path | None,
    files: Path | None,
    allow_pickle: bool,
    trusted: tuple[str, ...],
    as_json: bool,
) -> int:
    """Make BUNDLE again from the recipe inside it, and compare it byte for byte.

    The date, what was measured and where the model came from are taken from the record; all else is
    made from MODEL and the reference data, on this machine. Nothing is written. Exits with 0 when
    everything is the same, with 5 when a file differs (which, and which versions are others here),
    with 3 when the model or the data is not what was packed.
    """
    from whimbrel_packager import rebuild as rebuilding
    from whimbrel_packager.signing import signers

    with output.stages(quiet=as_json) as stage:
        done = rebuilding.rebuild(
            bundle,
            model,
            reference,
            key=signers.load(key, password_file) if key else None,
            trust=[signers.public(name) for name in trust],
            permissions=rebuilding.Permissions(allow_pickle=allow_pickle, trusted=trusted),
            files=files,
            tell=stage,
        )
    output.result(done, _lines(done), as_json=as_json)
    return 0 if done.same else _DIFFERS


def _lines(done: Rebuilt) -> list[str]:
    title = f"{done.name} {done.version}"
    if done.same:
        lines = [f"the same: {title}, {done.files} files, byte for byte"]
    else:
        lines = [
            f"NOT the same: {title}; {len(done.differences)} files differ, {done.files} do not"
        ]
    for entry in done.differences:
        lines.append(f"  differs    {entry.file}: {entry.what}")
        lines.append(f"             recorded {entry.recorded[:16]}…, here {entry.here[:16]}…")
    for change in done.versions:
        lines.append(
            f"  version    {change.name} {change.here or '(none)'} here, "
            f"{change.recorded or '(none)'} recorded"
        )
    signed = {
        "same": "the same, made with this key",
        "differs": "differs",
        "not made": "not made again (give --key)",
    }
    lines.append(f"  signature  {signed[done.signature]}")
    vouched = f"key {done.verified_by[:16]}… vouches for it" if done.verified_by else "not verified"
    lines.append(f"  trust      {vouched}" + ("" if done.verified_by else " (give --trust)"))
    lines += [f"  note       {note}" for note in done.notes]
    lines.append(f"  sha256     {done.digest}")
    return lines
