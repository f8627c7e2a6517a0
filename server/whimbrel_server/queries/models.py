"""Models, and how their versions do in the field, as views."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import sqlalchemy as sa

from whimbrel_core.errors import UsageError, WhimbrelError
from whimbrel_core.profile.watching import alarms
from whimbrel_server.domain.subjects import FLEET, device_subject
from whimbrel_server.queries.measures import Measures, measured
from whimbrel_server.store import aggregates, schema
from whimbrel_server.views.models import ModelView, VersionView

if TYPE_CHECKING:
    from collections.abc import Iterable

    from whimbrel_server.repository import Published, Repository
    from whimbrel_server.store.registry import Record
    from whimbrel_server.views.drift import DriftState


def views(
    connection: sa.Connection,
    repository: Repository,
    records: tuple[Record, ...],
    name: str | None = None,
) -> tuple[ModelView, ...]:
    """Return models by name; of ``name`` alone when it is given."""
    found: dict[str, list[VersionView]] = {}
    for published in repository.published():
        if name in {None, published.name}:
            version = _version(connection, repository, published, records)
            found.setdefault(published.name, []).append(version)
    return tuple(
        ModelView(name=model, versions=tuple(versions), latest=versions[0].version)
        for model, versions in sorted(found.items())
    )


def require(repository: Repository, name: str, version: str | None = None) -> Published:
    """Return a published version; without ``version`` the newest release.

    Raises:
        UsageError: there is none (``not_found``).
    """
    if version is not None:
        return repository.find(name, version)
    for published in repository.published():
        if published.name == name:
            return published
    raise UsageError(
        f"there is no model {name}", hint="see 'whimbrel fleet models'", code="not_found"
    )


def _version(
    connection: sa.Connection,
    repository: Repository,
    published: Published,
    records: Iterable[Record],
) -> VersionView:
    serving = tuple(
        record.device
        for record in records
        if record.state is not None
        and any(slot.digest == published.digest for slot in record.state.slots)
    )
    plain = VersionView(
        version=published.version,
        release=published.release,
        digest=published.digest,
        path=published.path,
        length=published.length,
        profile_id=published.profile_id,
        published_ms=published.published_ms,
        device_classes=published.device_classes,
        devices_serving=serving,
        trusted=not published.problem,
        problem=published.problem,
    )
    try:
        contents = repository.contents(published.digest)
    except WhimbrelError:
        return plain
    baseline, manifest = contents.baseline, contents.manifest
    found = aggregates.periods(connection, published.digest, FLEET, "all")
    numbers = measured(published.digest, baseline, found) if found else Measures()
    return msgspec.structs.replace(
        plain,
        task=manifest.task,
        classes=manifest.classes,
        description=manifest.description,
        metrics=manifest.metrics,
        state=_state(connection, published.digest, serving),
        **msgspec.structs.asdict(numbers),
    )


def _state(connection: sa.Connection, digest: str, serving: tuple[str, ...]) -> DriftState:
    """Return the worst newest state of the devices that serve a version (of all, if none does)."""
    table = schema.judgements
    query = sa.select(table.c.subject, table.c.worst, sa.func.max(table.c.start_ms)).where(
        table.c.digest == digest, table.c.level == "device"
    )
    rows = connection.execute(query.group_by(table.c.subject)).all()
    subjects = {device_subject(device) for device in serving}
    return alarms.worst_of(row.worst for row in rows if not subjects or row.subject in subjects)
