"""Where a repository can be kept: a directory, the fleet server or an S3 bucket.

All are the same few verbs (`port.Destination`), and what is written is the same files in the same
order, so that whoever is interrupted leaves the old state or the new one.
"""

from __future__ import annotations

from pathlib import Path

from whimbrel_packager.destinations.directory import Directory
from whimbrel_packager.destinations.port import ConflictError, Destination

__all__ = ["ConflictError", "Destination", "Directory", "destination"]


def destination(place: str | Path | Destination) -> Destination:
    """Return where ``place`` is."""
    if isinstance(place, (str, Path)):
        return Directory(Path(place))
    return place
