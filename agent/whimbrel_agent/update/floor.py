"""The floor under the clock: a time that has certainly passed, from signed metadata alone.

A device whose clock says 1970 must not admit what had expired long ago. What it has once accepted
was signed before now; so the time of signing is a floor. Metadata for a journey (a stick) says
when it was signed, because it lives for weeks; metadata of a repository that is online lives for
days and does not, and there the floor is a week before it expires: timestamps live no longer, so
the floor is never ahead of the true time.
"""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from whimbrel_core.errors import UnavailableError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from whimbrel_agent.paths import DataDirectory

_SLACK_MS = 7 * 86_400_000
_ROLES = ("timestamp", "snapshot", "targets")


def check(home: DataDirectory, floor_ms: int) -> int:
    """Refuse metadata that had expired before the floor; return the floor that now holds.

    Raises:
        UnavailableError: it had.
    """
    signed = {role: _load(home, role) for role in _ROLES}
    expires = {role: _milliseconds(one.expires) for role, one in signed.items()}
    for role in _ROLES:
        _require(role, expires[role], floor_ms)
    first = min(expires.values())
    made = _signed_ms(signed["timestamp"])
    return max(floor_ms, first - _SLACK_MS if made is None else min(made, first))


def teams(home: DataDirectory, path: str) -> dict[str, bool]:
    """Return the roles that targets delegate ``path`` to, and whether each has signed anything."""
    delegations = _load(home, "targets").delegations
    if delegations is None:
        return {}
    named = _load(home, "snapshot").meta
    return {team: f"{team}.json" in named for team, _ in delegations.get_roles_for_target(path)}


def check_teams(home: DataDirectory, names: Iterable[str], floor_ms: int) -> None:
    """Refuse a team's metadata that had expired before the floor. Raises `UnavailableError`."""
    for team in names:
        if (home.tuf / f"{quote(team, '')}.json").exists():
            _require(team, _milliseconds(_load(home, team).expires), floor_ms)


def _require(role: str, expires_ms: int, floor_ms: int) -> None:
    if expires_ms < floor_ms:
        msg = f"the repository's {role} had expired before metadata that was seen earlier was made"
        raise UnavailableError(
            msg, code="trust.expired", hint="check this device's clock, then the repository"
        )


def _signed_ms(signed: Any) -> int | None:  # noqa: ANN401 - TUF's Timestamp, imported late
    said = signed.unrecognized_fields.get("whimbrel")
    text = said.get("signed") if isinstance(said, dict) else None
    try:
        moment = dt.datetime.strptime(str(text), "%Y-%m-%dT%H:%M:%SZ")  # noqa: DTZ007 - it says Z
    except ValueError:
        return None
    return _milliseconds(moment)


def _milliseconds(moment: dt.datetime) -> int:
    return int(moment.replace(tzinfo=dt.timezone.utc).timestamp() * 1000)


def _load(home: DataDirectory, role: str) -> Any:  # noqa: ANN401 - the role's own type
    from tuf.api.metadata import Metadata

    return Metadata.from_file(str(home.tuf / f"{quote(role, '')}.json")).signed
