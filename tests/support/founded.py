"""A publisher's new repository, all of whose keys are in two folders."""

from __future__ import annotations

from typing import TYPE_CHECKING

from whimbrel_packager.repository import founding
from whimbrel_packager.repository.metadata import Lives
from whimbrel_packager.repository.repository import Repository

if TYPE_CHECKING:
    from datetime import datetime
    from pathlib import Path

    from whimbrel_packager.destinations import Destination


def founded(
    place: str | Path | Destination,
    keys: Path,
    online: Path,
    *,
    now: datetime,
    lives: Lives | None = None,
) -> Repository:
    """Make the keys that are not there yet, the four roles, and the trust targets."""
    made = Repository(place)
    founding.found(made, keys, online, now=now, lives=lives or Lives(), together={})
    return made
