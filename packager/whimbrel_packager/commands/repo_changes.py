"""``whimbrel repo sign | discard | export``: changes that several sign, and sticks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from whimbrel_core.errors import UsageError
from whimbrel_packager.commands import output, signing_options
from whimbrel_packager.commands.repo import repo

_FILE = click.Path(path_type=Path)


@repo.command(
    short_help="Sign a change that waits for signatures.",
    epilog="Example: whimbrel repo sign --dir repository --key bob.pem",
)
@signing_options.directory
@click.option("--merge", type=_FILE, help="Take over signatures from another copy's "
              "staged/change.json.")  # fmt: skip
@click.option("--hold", is_flag=True, help="Publish nothing yet, even if enough have signed: for "
              "a copy that travels.")  # fmt: skip
@signing_options.signing
@output.json_option
def sign(**given: Any) -> None:  # noqa: ANN401 - click's options, by name
    """Sign the change in staged/change.json; when enough have signed, it is published.

    What is signed is shown first by 'whimbrel repo show'.
    """
    from datetime import UTC, datetime

    from whimbrel_packager.repository import change
    from whimbrel_packager.repository.repository import Repository

    found = Repository(given["directory"])
    staged = change.staged(found)
    if staged is None:
        raise UsageError("no change waits for signatures", hint="see 'whimbrel repo show'")
    got: tuple[str, ...] = ()
    if given["merge"] is not None:
        file = given["merge"] / change.FILE if given["merge"].is_dir() else given["merge"]
        got = staged.merge(change.read(found, file))
    ring = signing_options.ring(given)
    got += staged.sign(ring)
    if not got and staged.lacking():
        raise UsageError(
            "none of the given keys has anything to sign here; nothing was changed",
            hint="'whimbrel repo show' says whose signatures are wanted",
        )
    written, lacking = found.carry_out(
        lambda: staged,
        ring,
        now=datetime.now(UTC),
        online=signing_options.online_ring(given),
        hold=given["hold"],
    )
    value, lines = signing_options.outcome(found, written, lacking, staged.note)
    output.result(value, lines, as_json=given["as_json"])


@repo.command(
    short_help="Throw away a change that waits for signatures.",
    epilog="Example: whimbrel repo discard --dir repository",
)
@signing_options.directory
@output.json_option
def discard(directory: Path, as_json: bool) -> None:
    """Throw away what is staged; what is published stays as it is."""
    from whimbrel_packager.repository import change
    from whimbrel_packager.repository.repository import Repository

    found = Repository(directory)
    with found.locked():
        file = found.directory / change.FOLDER / change.FILE
        if not file.is_file():
            raise UsageError("no change waits for signatures", hint="see 'whimbrel repo show'")
        file.unlink()
    output.result({"discarded": True}, ["thrown away; nothing was published"], as_json=as_json)


@repo.command(
    short_help="Write a USB stick, valid for a journey.",
    epilog="Example: whimbrel repo export --dir repository --out /media/stick --days 30 "
    "--online-keys online",
)
@signing_options.directory
@click.option(
    "--out", required=True, type=_FILE, help="The stick: a folder, or an archive NAME.tar."
)
@click.option("--bundle", "bundles", multiple=True, metavar="NAME[-VERSION]", help="A bundle to "
              "take along (repeat); default: the newest of each model.")  # fmt: skip
@click.option("--device-class", "classes", multiple=True, help="Take what is for these kinds of "
              "device (repeat); default: any.")  # fmt: skip
@click.option("--days", type=click.IntRange(min=1, max=365), default=30, show_default=True,
              help="Days for which the stick is valid.")  # fmt: skip
@click.option("--online-keys", "online", required=True, type=_FILE, help="Folder with the snapshot "
              "and timestamp keys.")  # fmt: skip
@output.json_option
def export(**given: Any) -> None:  # noqa: ANN401 - click's options, by name
    """Write chosen bundles to a stick, with metadata that lives as long as the journey.

    Run it where the repository is served from: one line of versions holds both. Devices that have
    seen newer metadata since do not go back to the stick.
    """
    from datetime import UTC, datetime

    from whimbrel_packager.repository import stick
    from whimbrel_packager.repository.repository import Repository
    from whimbrel_packager.signing.keyring import Keyring

    found = Repository(given["directory"])
    chosen = stick.choose(found.released(), given["bundles"], given["classes"])
    done = stick.export(
        found,
        given["out"],
        chosen,
        online=Keyring(folders=[given["online"]]),
        now=datetime.now(UTC),
        days=given["days"],
    )
    value = {
        "out": str(given["out"]),
        "bundles": [{"name": one.name, "version": one.version} for one in done.bundles],
        "expires": done.expires.isoformat(),
        "shortened_by": done.shortened,
        "bytes": done.size,
    }
    lines = [
        f"exported to {given['out']}: {len(done.bundles)} bundles, {output.size(done.size)}",
        *(f"  {one.name} {one.version}, release {one.release}" for one in done.bundles),
        f"  valid until {done.expires:%Y-%m-%d %H:%M} UTC",
    ]
    if done.shortened:
        lines.append(
            f"  note  {done.shortened} expires then, before {given['days']} days are over: sign it "
            "anew first (whimbrel repo refresh --keys)"
        )
    output.result(value, lines, as_json=given["as_json"])
