"""Delegation: a team releases the bundles of some models, with keys of its own, and nothing else."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

from tuf.api.metadata import (  # type: ignore[attr-defined]  # public by its documentation
    DelegatedRole,
    Delegations,
    Metadata,
)

from whimbrel_core import identity
from whimbrel_core.errors import UsageError
from whimbrel_packager.repository.change import Change
from whimbrel_packager.repository.metadata import ROLES, expiry
from whimbrel_packager.repository.trusted import TRUST, Named, exchange, models_of, team_of

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from whimbrel_core.signing.keys import PublicKey
    from whimbrel_packager.repository.metadata import Lives
    from whimbrel_packager.repository.repository import Repository


def delegate(
    repository: Repository,
    team: str,
    *,
    keys: Sequence[PublicKey],
    threshold: int,
    models: Sequence[str],
    now: datetime,
    lives: Lives,
) -> Change:
    """Return the change that lets a team's keys release bundles of some models, and no others.

    The delegation is terminating: nobody else is asked about these models.

    Raises:
        UsageError: the name is taken or malformed, or there are too few keys.
    """
    if not team.replace("-", "").replace("_", "").isalnum() or not team.islower():
        raise UsageError(f"{team!r} is no name for a team", hint="use letters, digits, '-', '_'")
    if team in ROLES or team in TRUST:
        raise UsageError(f"{team} is a role already", hint="choose another name")
    if not models:
        raise UsageError("no model was given", hint="give --model NAME for each")
    for model in models:
        identity.model_name(model)
    targets = copy.deepcopy(repository.targets())
    if targets.delegations is None:
        targets.delegations = Delegations(keys={}, roles={})
    roles = targets.delegations.roles
    assert roles is not None  # noqa: S101 - made above, never with succinct roles
    for name, other in roles.items():
        shared = set(models) & set(models_of(other))
        if name == team or shared:
            what = f"bundles of {min(shared)} are" if shared else f"{team} is"
            raise UsageError(
                f"{what} delegated to {name} already",
                hint=f"change its keys with 'whimbrel repo add-key {name}', or take it back with "
                f"'whimbrel repo revoke {name}'",
                code="usage.exists",
            )
    paths = [f"{kind}/{model}/*" for model in models for kind in ("bundles", "deltas")]
    roles[team] = DelegatedRole(team, [], threshold, terminating=True, paths=paths)
    exchange(
        targets,
        team,
        roles[team],
        {},
        add=[Named(key.pem) for key in keys],
        revoke=(),
        threshold=threshold,
    )
    targets.version += 1
    targets.expires = expiry(now, lives.targets)
    said = f"delegate {', '.join(models)} to {team}"
    return Change(repository, {"targets": Metadata(targets)}, said)


def take_back(repository: Repository, team: str, *, now: datetime, lives: Lives) -> Change:
    """Return the change that ends a delegation; the team's bundles are not released any more."""
    targets = copy.deepcopy(repository.targets())
    role = team_of(targets, team)
    assert targets.delegations is not None  # noqa: S101 - it has the team
    for keyid in list(role.keyids):
        targets.revoke_key(keyid, team)
    assert targets.delegations.roles is not None  # noqa: S101 - as above
    del targets.delegations.roles[team]
    targets.version += 1
    targets.expires = expiry(now, lives.targets)
    return Change(repository, {"targets": Metadata(targets)}, f"take back what {team} had")
