"""Where a repository can be kept: a directory, the fleet server or an S3 bucket.

All are the same few verbs (`port.Destination`), and what is written is the same files in the same
order, so that whoever is interrupted leaves the old state or the new one. An OCI registry keeps
bundles and no repository: `oci`.
"""

from __future__ import annotations

from pathlib import Path

from whimbrel_core.errors import UsageError
from whimbrel_packager.destinations.directory import Directory
from whimbrel_packager.destinations.port import ConflictError, Destination

__all__ = ["ConflictError", "Destination", "Directory", "destination"]


def destination(place: str | Path | Destination, token: str | None = None) -> Destination:
    """Return where ``place`` is.

    Args:
        place: a directory, ``s3://bucket/prefix`` or ``https://server:port``.
        token: of the fleet server's operator.

    Raises:
        UsageError: it is none of these.
    """
    if isinstance(place, Path):
        return Directory(place)
    if not isinstance(place, str):
        return place
    scheme, separator, _ = place.partition("://")
    if not separator or scheme == "file":
        return Directory(Path(place.removeprefix("file://")))
    # Each on demand: most publish to one kind of place.
    if scheme in {"http", "https"}:
        from whimbrel_packager.destinations.server import FleetServer

        return FleetServer(place, token)
    if scheme == "s3":
        from whimbrel_packager.destinations.s3 import Bucket

        return Bucket.open(place)
    raise UsageError(
        f"{place} is no place for a repository",
        hint="give a directory, s3://BUCKET/PREFIX or https://SERVER:PORT; "
        "oci://HOST/NAME keeps bundles alone",
    )
