"""Looking after the repository: what is new in it is read, what is due in it is signed."""

from __future__ import annotations

import logging
from datetime import UTC, datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from whimbrel_server.repository import Repository
    from whimbrel_server.repository.online import OnlineRoles

log = logging.getLogger(__name__)


class Signing:
    """Signs and reads at every tick; ``problem`` says why the repository cannot be used, if so.

    Args:
        repository: what is read.
        online: what signs; None: somebody else does.
        now_ms: the wall clock.
    """

    def __init__(
        self, repository: Repository, online: OnlineRoles | None, *, now_ms: Callable[[], int]
    ) -> None:
        self._repository, self._online, self._now_ms = repository, online, now_ms
        self.problem = repository.problem()

    def tick(self) -> None:
        """Sign snapshot and timestamp when they are due; read the targets when they changed."""
        if self._online is not None:
            now = datetime.fromtimestamp(self._now_ms() / 1000, UTC)
            written = self._online.refresh(now)
            if written:
                log.info("signed %s", ", ".join(written))
        self.problem = self._repository.problem()
