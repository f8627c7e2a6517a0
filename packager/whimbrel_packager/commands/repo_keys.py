"""``whimbrel repo add-key | rotate | revoke | delegate``: who may sign what."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from whimbrel_packager.commands import output, signing_options
from whimbrel_packager.commands.repo import repo

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from whimbrel_packager.repository.change import Change
    from whimbrel_packager.repository.repository import Repository
    from whimbrel_packager.repository.trusted import Named

_ROLE = click.argument("role", metavar="ROLE")
_NEW = click.option("--new", "new", required=True, metavar="KEY", help="The new key: its public "
                    "half (.pub), or a private key's file or URI.")  # fmt: skip
_OLD = click.option("--old", "old", metavar="KEY", help="The key to take away: its .pub file, or "
                    "the first letters of its id (see 'whimbrel repo show').")  # fmt: skip
_MODELS = click.option("--model", "models", multiple=True, metavar="NAME", help="For a bundle key: "
                       "a model whose bundles it may sign (repeat); default: all.")  # fmt: skip
_HOLDER = click.option("--holder", default="", metavar="TEXT", help="For a bundle or fleet key: "
                       "whose it is; 'whimbrel verify' names them.")  # fmt: skip
_THRESHOLD = click.option("--threshold", type=click.IntRange(min=1), help="How many of the role's "
                          "keys have to sign from now on.")  # fmt: skip


@repo.command(
    "add-key",
    short_help="Trust one more key for a role.",
    epilog="Example: whimbrel repo add-key bundle --dir repository --new turbine.pub "
    "--model turbine --holder 'Turbine team' --keys keys",
)
@_ROLE
@signing_options.directory
@_NEW
@_MODELS
@_HOLDER
@_THRESHOLD
@signing_options.signing
@output.json_option
def add_key(**given: Any) -> None:  # noqa: ANN401 - click's options, by name
    """Trust one more key for ROLE, beside those that it has.

    ROLE is root, targets, snapshot or timestamp (a new root is signed by enough of its old and
    new keys), bundle or fleet (new targets), or a team's (see 'whimbrel repo delegate').
    """
    _change(given, add=[_named(given)], revoke=[])


@repo.command(
    short_help="Exchange a key of a role for another.",
    epilog="Example: whimbrel repo rotate targets --dir repository --new keys/targets-2.pub "
    "--keys keys --online-keys online",
)
@_ROLE
@signing_options.directory
@_NEW
@_OLD
@_MODELS
@_HOLDER
@_THRESHOLD
@signing_options.signing
@output.json_option
def rotate(**given: Any) -> None:  # noqa: ANN401 - click's options, by name
    """Exchange a key of ROLE for another, in one step.

    Without --old, the role's only key is exchanged. The new key countersigns what is there, so
    the old one is not needed, unless ROLE is root itself.
    """
    _change(given, add=[_named(given)], revoke=[_old(given)])


@repo.command(
    short_help="Trust a key no longer, or end a delegation.",
    epilog="Example: whimbrel repo revoke bundle --dir repository --old stolen.pub --keys keys",
)
@_ROLE
@signing_options.directory
@_OLD
@_THRESHOLD
@signing_options.signing
@output.json_option
def revoke(**given: Any) -> None:  # noqa: ANN401 - click's options, by name
    """Trust a key of ROLE no longer; without --old, end the delegation to a team.

    What devices serve goes on serving: a key that is revoked stops what comes next.
    """
    from whimbrel_packager.repository.delegation import take_back
    from whimbrel_packager.repository.metadata import ROLES
    from whimbrel_packager.repository.trusted import TRUST

    if given["old"] is None and given["role"] not in {*ROLES, *TRUST}:
        team = given["role"]
        _carry_out(given, lambda r, **times: take_back(r, team, **times))
        return
    _change(given, add=[], revoke=[_old(given)])


@repo.command(
    short_help="Let a team release bundles of some models.",
    epilog="Example: whimbrel repo delegate turbine-team --dir repository --model turbine "
    "--team-key team.pub --keys keys",
)
@click.argument("team")
@signing_options.directory
@click.option("--model", "models", multiple=True, required=True, metavar="NAME", help="A model "
              "that the team releases (repeat).")  # fmt: skip
@click.option("--team-key", "team_keys", multiple=True, required=True, metavar="KEY", help="A key "
              "of the team: its public half (repeat).")  # fmt: skip
@click.option("--threshold", type=click.IntRange(min=1), default=1, show_default=True,
              help="How many of the team's keys have to sign.")  # fmt: skip
@signing_options.signing
@output.json_option
def delegate(**given: Any) -> None:  # noqa: ANN401 - click's options, by name
    """Let TEAM release bundles of some models, with keys of its own, and nothing else.

    The team publishes with 'whimbrel publish --keys', as everybody does. That devices accept the
    bundles' own signatures is another matter: 'whimbrel repo add-key bundle --model'.
    """
    from whimbrel_packager.repository import delegation
    from whimbrel_packager.signing import signers

    keys = [signers.public(one) for one in given["team_keys"]]
    _carry_out(
        given,
        lambda r, **times: delegation.delegate(
            r, given["team"], keys=keys, threshold=given["threshold"], models=given["models"],
            **times,
        ),
    )  # fmt: skip


def _change(given: dict[str, Any], *, add: Sequence[Named], revoke: Sequence[str]) -> None:
    from whimbrel_packager.repository import trusted

    _carry_out(
        given,
        lambda r, **times: trusted.change(
            r, given["role"], add=add, revoke=revoke, threshold=given["threshold"], **times
        ),
    )


def _carry_out(given: dict[str, Any], make: Callable[..., Change]) -> None:
    from datetime import UTC, datetime

    from whimbrel_packager.repository import change, trusted
    from whimbrel_packager.repository.metadata import Lives
    from whimbrel_packager.repository.repository import Repository

    found = Repository(given["directory"])
    now, lives = datetime.now(UTC), Lives()
    ring, online = signing_options.ring(given), signing_options.online_ring(given)
    notes = []

    def made() -> Change:
        change.require_none(found)
        one: Change = make(found, now=now, lives=lives)
        notes.append(one.note)
        return one

    written, lacking = found.carry_out(made, ring, now=now, online=online, lives=lives)
    value, lines = signing_options.outcome(found, written, lacking, notes[0])
    if written and given.get("role") == "bundle":
        untrusted = trusted.untrusted(found)
        value["untrusted"] = [f"{one.name} {one.version}" for one in untrusted]
        lines += [
            (
                f"  note      {one.name} {one.version} is signed by a key that is not trusted for "
                "it (any more): devices that have it go on, no other takes it; pack it again as "
                "a new version"
            )
            for one in untrusted
        ]
    output.result(value, lines, as_json=given["as_json"])


def _named(given: dict[str, Any]) -> Named:
    from whimbrel_core import identity
    from whimbrel_core.errors import UsageError
    from whimbrel_packager.repository.trusted import TRUST, Named
    from whimbrel_packager.signing import signers

    models = tuple(identity.model_name(one) for one in given["models"]) or None
    if given["role"] != "bundle" and models:
        raise UsageError(f"--model is for bundle keys, and this is a {given['role']} key")
    if given["role"] not in TRUST and given["holder"]:
        raise UsageError(f"--holder is for bundle and fleet keys, not for {given['role']}")
    return Named(signers.public(given["new"]).pem, models, given["holder"])


def _old(given: dict[str, Any]) -> str:
    """Return the id of the key to take away: the given one's, or the role's only one."""
    from whimbrel_core.errors import UsageError
    from whimbrel_packager.repository import trusted
    from whimbrel_packager.signing import signers

    old = given["old"]
    if old is not None:
        is_key = Path(old).exists() or signers.is_uri(old)
        return signers.public(old).id if is_key else str(old).rstrip("…")
    repository = _repository(given)
    mine = [one for one in trusted.holders(repository) if one.role == given["role"]]
    if len(mine) != 1:
        raise UsageError(
            f"{given['role']} has {len(mine)} keys",
            hint="say which with --old; 'whimbrel repo show' lists them",
        )
    return mine[0].key_id


def _repository(given: dict[str, Any]) -> Repository:
    from whimbrel_packager.repository.repository import Repository

    return Repository(given["directory"])
