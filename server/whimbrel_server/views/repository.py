"""The repository's metadata, and what a publisher has sent."""

from __future__ import annotations

import msgspec


class RepositoryView(msgspec.Struct, frozen=True, kw_only=True):
    """The repository's metadata: names of files."""

    metadata: tuple[str, ...]


class UploadView(msgspec.Struct, frozen=True, kw_only=True):
    """How much of a file is here: ``received`` bytes; ``complete`` when they have its digest."""

    digest: str
    received: int
    complete: bool


class AcceptedView(msgspec.Struct, frozen=True, kw_only=True):
    """Metadata that was taken in; not ``fresh``: it was there already, and nothing was changed."""

    name: str
    fresh: bool
    added: tuple[str, ...] = ()
