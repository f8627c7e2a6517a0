"""The publisher's signed metadata, verified as a device does: root chain, then role by role."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tuf.api.exceptions import RepositoryError
from tuf.api.metadata import (  # type: ignore[attr-defined]  # public by its documentation
    Metadata,
    Root,
    Targets,
)
from tuf.api.serialization import DeserializationError

from whimbrel_core.errors import StorageError, TrustError

if TYPE_CHECKING:
    from pathlib import Path

# The spec's lower bound for clients that read chains of roots.
_MAX_ROOTS = 256


def verified_root(directory: Path) -> Root:
    """Return the newest root, each verified by the one before.

    Raises:
        TrustError: a link of the chain does not verify.
    """
    root: Root | None = None
    for version in range(1, _MAX_ROOTS):
        file = directory / "metadata" / f"{version}.root.json"
        if not file.is_file():
            break
        data = read(file)
        if root is not None:
            verify(root, "root", data, Root)
        root = verify(None, "root", data, Root)
        if root.version != version:
            raise TrustError(f"{file.name} says that it is version {root.version}")
    if root is None:
        raise TrustError(
            f"the repository {directory} has no 1.root.json",
            code="trust.missing",
            hint="make it with 'whimbrel repo init'",
        )
    return root


def verified_targets(directory: Path, root: Root) -> Targets:
    """Return the newest targets.

    Raises:
        TrustError: they do not verify by ``root``.
    """
    version = newest(directory, "targets")
    data = read(directory / "metadata" / f"{version}.targets.json")
    targets: Targets = verify(root, "targets", data, Targets)
    return targets


def newest(directory: Path, role: str) -> int:
    """Return the highest version of a role's metadata files; 0 for none."""
    versions = [
        int(prefix)
        for file in (directory / "metadata").glob(f"*.{role}.json")
        if (prefix := file.name.split(".", 1)[0]).isdigit()
    ]
    return max(versions, default=0)


def verify(root: Root | Targets | None, role: str, data: bytes, kind: type[Any]) -> Any:  # noqa: ANN401 - one of the four roles
    """Return a role's metadata, signed by those whom ``root`` names; None: a root, by itself.

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
