"""The publisher's signed metadata, verified as a device does: root chain, then role by role."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from tuf.api.exceptions import RepositoryError
from tuf.api.metadata import (  # type: ignore[attr-defined]  # public by its documentation
    Metadata,
    Root,
    Targets,
)
from tuf.api.serialization import DeserializationError

from whimbrel_core.errors import StorageError, TrustError, WhimbrelError

if TYPE_CHECKING:
    from pathlib import Path

    from tuf.api.metadata import TargetFile  # type: ignore[attr-defined]  # as above

log = logging.getLogger(__name__)

# The spec's lower bound for clients that read chains of roots.
_MAX_ROOTS = 256


def verified_roots(directory: Path) -> list[Root]:
    """Return all roots, oldest first, each verified by the one before.

    Raises:
        TrustError: a link of the chain does not verify.
    """
    roots: list[Root] = []
    for version in range(1, _MAX_ROOTS):
        file = directory / "metadata" / f"{version}.root.json"
        if not file.is_file():
            break
        data = read(file)
        if roots:
            verify(roots[-1], "root", data, Root)
        root = verify(None, "root", data, Root)
        if root.version != version:
            raise TrustError(f"{file.name} says that it is version {root.version}")
        roots.append(root)
    if not roots:
        raise TrustError(
            f"the repository {directory} has no 1.root.json",
            code="trust.missing",
            hint="make it with 'whimbrel repo init'",
        )
    return roots


def verified_root(directory: Path) -> Root:
    """Return the newest root; errors as in `verified_roots`."""
    return verified_roots(directory)[-1]


def verified_targets(directory: Path, root: Root) -> Targets:
    """Return the newest targets.

    Raises:
        TrustError: they do not verify by ``root``.
    """
    version = newest(directory, "targets")
    data = read(directory / "metadata" / f"{version}.targets.json")
    targets: Targets = verify(root, "targets", data, Targets)
    if targets.version != version:
        raise TrustError(f"{version}.targets.json is version {targets.version}")
    return targets


def verified_teams(directory: Path, targets: Targets) -> dict[str, Targets]:
    """Return the newest metadata of each role that targets delegates to, as far as it holds.

    What does not hold stops that team's bundles alone, as on devices.
    """
    found: dict[str, Targets] = {}
    for team in (targets.delegations.roles if targets.delegations else None) or {}:
        version = newest(directory, team)
        if not version:
            continue  # nothing released so far
        try:
            data = read(directory / "metadata" / f"{version}.{team}.json")
            signed: Targets = verify(targets, team, data, Targets)
            if signed.version != version:
                raise TrustError(f"{version}.{team}.json is version {signed.version}")
        except WhimbrelError as error:
            log.warning("bundles of %s are left out: %s", team, error)
            continue
        found[team] = signed
    return found


def named(directory: Path, targets: Targets) -> dict[str, TargetFile]:
    """Return all targets by path, those of teams too, as devices find them."""
    found: dict[str, TargetFile] = {}
    roles = (targets.delegations.roles if targets.delegations else None) or {}
    for team, signed in verified_teams(directory, targets).items():
        # A team's role may name anything; what was not delegated to it is not looked up there.
        own = {p: t for p, t in signed.targets.items() if roles[team].is_delegated_path(p)}
        found |= {path: target for path, target in own.items() if path not in found}
    return found | targets.targets


def newest(directory: Path, role: str) -> int:
    """Return the highest version of a role's metadata files; 0 for none."""
    versions = [
        int(prefix)
        for file in (directory / "metadata").glob(f"*.{role}.json")
        if (prefix := file.name.partition(".")[0]).isdigit()
        and file.name == f"{prefix}.{role}.json"
    ]
    return max(versions, default=0)


def verify(root: Root | Targets | None, role: str, data: bytes, kind: type[Any]) -> Any:  # noqa: ANN401 - one of the four roles
    """Return a role's metadata, signed by those whom ``root`` names; None: a root, by itself.

    A team's role is verified by the targets that delegate to it.

    ``root`` may also be targets, which name the keys of delegated roles.

    Raises:
        TrustError: it is malformed, of another role, or not signed by enough of them.
    """
    try:
        metadata: Metadata[Any] = Metadata.from_bytes(data)
        if not isinstance(metadata.signed, kind):
            raise TrustError(f"{role} metadata is of type {metadata.signed.type}")
        if root is None:
            metadata.signed.verify_delegate("root", metadata.signed_bytes, metadata.signatures)
        else:
            root.verify_delegate(role, metadata.signed_bytes, metadata.signatures)
    except (RepositoryError, DeserializationError, ValueError) as error:
        raise TrustError(
            f"the repository's {role} metadata does not verify: {error}",
            code="trust.threshold",
            hint="restore it, or publish again with the publisher's keys; devices refuse it too",
        ) from error
    return metadata.signed


def read(file: Path) -> bytes:
    """Return the bytes of a file of the repository.

    Raises:
        StorageError: it cannot be read.
    """
    try:
        return file.read_bytes()
    except OSError as error:
        raise StorageError(
            f"{file} cannot be read: {error}", hint="publish again, or restore the repository"
        ) from error
