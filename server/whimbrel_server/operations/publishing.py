"""Publishing over HTTP: what the publisher signed is taken in, audited, and made visible."""

from __future__ import annotations

import logging
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from whimbrel_server.repository.acceptance import Acceptance
from whimbrel_server.repository.incoming import Incoming
from whimbrel_server.store import audit
from whimbrel_server.views.repository import AcceptedView, RepositoryView, UploadView

if TYPE_CHECKING:
    from collections.abc import Callable

    import sqlalchemy as sa

    from whimbrel_server.repository import Repository
    from whimbrel_server.repository.acceptance import Accepted
    from whimbrel_server.repository.incoming import Received
    from whimbrel_server.store.database import Database

log = logging.getLogger(__name__)


class Publishing:
    """Takes in files and the metadata that names them.

    Args:
        database: where the audit is.
        repository: what is published to.
        limit_bytes: the largest file that is taken.
        sign: makes what was taken in visible: signs snapshot and timestamp where this server
            holds their keys, and reads the targets.
        now_ms: the wall clock.
    """

    def __init__(
        self,
        database: Database,
        repository: Repository,
        *,
        limit_bytes: int,
        sign: Callable[[], None],
        now_ms: Callable[[], int],
    ) -> None:
        self._database, self._sign, self._now_ms = database, sign, now_ms
        self._incoming = Incoming(repository.directory, limit_bytes=limit_bytes)
        self._acceptance = Acceptance(repository.directory, self._incoming)

    def contents(self) -> RepositoryView:
        """Return the names of the metadata files."""
        return RepositoryView(metadata=self._acceptance.names())

    def upload(self, digest: str) -> UploadView:
        """Return how much of a file is here."""
        return _view(self._incoming.received(digest))

    def append(self, digest: str, offset: int, length: int, piece: bytes) -> UploadView:
        """Add a piece to a file that metadata will name."""
        return _view(self._incoming.append(digest, offset, length, piece))

    def accept(self, name: str, data: bytes, actor: str) -> AcceptedView:
        """Take in metadata and the files that it names; the same again changes nothing."""
        now_ms = self._now_ms()

        def note(accepted: Accepted) -> None:
            # Before anything is visible: what a full store cannot write down is not published.
            detail = {"version": accepted.version, "added": list(accepted.added[:20])}

            def change(connection: sa.Connection) -> None:
                audit.note(connection, now_ms, actor, "repository.publish", accepted.role, detail)

            self._database.write(change)

        now = datetime.fromtimestamp(now_ms / 1000, UTC)
        accepted = self._acceptance.accept(name, data, now, note)
        if accepted.fresh:
            log.info("took in %s: %s", name, ", ".join(accepted.added) or "no new target")
        self._sign()
        return AcceptedView(name=name, fresh=accepted.fresh, added=accepted.added)


def _view(received: Received) -> UploadView:
    return UploadView(
        digest=received.digest, received=received.received, complete=received.complete
    )
