"""What a device trusts, as TUF delivered it: publishers' keys and the fleet's keys.

Read by control, which has no cryptography: keys stay PEM text here, and are used by the processes
that verify.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

import msgspec

from whimbrel_agent.update.messages import PublisherKey
from whimbrel_core.errors import StorageError

if TYPE_CHECKING:
    from pathlib import Path

PUBLISHERS = "trust/publishers.json"
FLEET = "trust/fleet.json"
MAX_TRUST_BYTES = 256 * 1024
_T = TypeVar("_T", bound=msgspec.Struct)


class _Publishers(msgspec.Struct, frozen=True):
    keys: tuple[PublisherKey, ...]


class _FleetKey(msgspec.Struct, frozen=True):
    pem: str


class _Fleet(msgspec.Struct, frozen=True):
    keys: tuple[_FleetKey, ...]


def publishers(path: Path) -> tuple[PublisherKey, ...]:
    """Return the publishers' keys in the file at ``path``; none when there is no file yet.

    Raises:
        StorageError: the file is there and cannot be read.
    """
    found = _read(path, _Publishers)
    return found.keys if found is not None else ()


def fleet(path: Path) -> tuple[str, ...]:
    """Return the fleet's keys as PEM; none when there is no file yet. Raises `StorageError`."""
    found = _read(path, _Fleet)
    return tuple(key.pem for key in found.keys) if found is not None else ()


def keys_for(keys: tuple[PublisherKey, ...], name: str) -> tuple[str, ...]:
    """Return the PEM keys that may sign bundles of the model ``name``."""
    return tuple(key.pem for key in keys if "*" in key.models or name in key.models)


def encode_publishers(keys: tuple[PublisherKey, ...]) -> bytes:
    """Return the content of a ``publishers.json``."""
    return msgspec.json.encode(_Publishers(keys))


def _read(path: Path, kind: type[_T]) -> _T | None:
    try:
        with path.open("rb") as file:
            data = file.read(MAX_TRUST_BYTES + 1)
        return msgspec.json.decode(data, type=kind)
    except FileNotFoundError:
        return None
    except (OSError, msgspec.DecodeError, UnicodeDecodeError) as error:
        msg = f"trust file {path} cannot be read: {error}"
        raise StorageError(
            msg, code="trust.file", hint="remove it and run 'whimbrel agent sync'"
        ) from error
