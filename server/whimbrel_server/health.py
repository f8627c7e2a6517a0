"""How the server itself does: whether its parts work, and how fast windows come in."""

from __future__ import annotations

import time
from collections import deque
from typing import TYPE_CHECKING

import sqlalchemy as sa

import whimbrel_server
from whimbrel_core.errors import WhimbrelError
from whimbrel_server.views.health import HealthView

if TYPE_CHECKING:
    from whimbrel_server.config import Mqtt
    from whimbrel_server.ingest.link import Link
    from whimbrel_server.jobs.fold import Fold
    from whimbrel_server.jobs.signing import Signing
    from whimbrel_server.store.database import Database

# What devices are told of our speed when nothing was measured yet.
_DRAIN_PER_S = 2000.0
_RECENT_S = 10.0


class Health:
    """Counts what is received, and looks at the parts when asked.

    Args:
        mqtt: where the broker should be. ``link``: the connection to it.
        fold: what judges. ``signing``: what looks after the repository.
        database: whose last change may have been refused.
    """

    def __init__(
        self, mqtt: Mqtt, link: Link, fold: Fold, signing: Signing, database: Database
    ) -> None:
        self._mqtt, self._link, self._fold, self._signing = mqtt, link, fold, signing
        self._database = database
        self._recent: deque[tuple[float, int]] = deque(maxlen=256)
        self._received = 0
        self._started = time.monotonic()

    def count(self, windows: int) -> None:
        """Note that windows were committed."""
        self._received += windows
        if windows:
            self._recent.append((time.monotonic(), windows))

    def rate_per_s(self) -> float:
        """Return how many windows were committed a second, of late."""
        now = time.monotonic()
        recent = [(at, number) for at, number in tuple(self._recent) if now - at < _RECENT_S]
        if not recent:
            return 0.0
        return sum(number for _, number in recent) / max(now - recent[0][0], 1.0)

    def drain_per_s(self) -> float:
        """Return how many windows a second devices may send, all of them together."""
        return max(self.rate_per_s(), _DRAIN_PER_S)

    def view(self) -> HealthView:
        """Return whether the parts of the server work."""
        problems = []
        behind, store_ok = 0, True
        try:
            behind = self._fold.behind
        except (WhimbrelError, sa.exc.SQLAlchemyError) as error:
            store_ok = False
            problems.append(f"store: {error}")
        refusal = self._database.refusal
        if refusal is not None:
            store_ok = False
            problems.append(f"nothing can be stored: {refusal.message}")
        if not self._link.connected:
            problems.append(f"no connection to the broker {self._mqtt.host}:{self._mqtt.port}")
        if self._signing.problem:
            problems.append(self._signing.problem)
        return HealthView(
            ok=not problems,
            version=whimbrel_server.__version__,
            broker_connected=self._link.connected,
            repository_ok=not self._signing.problem,
            store_ok=store_ok,
            uptime_s=time.monotonic() - self._started,
            windows_received=self._received,
            windows_per_s=self.rate_per_s(),
            judged_behind=behind,
            problems=tuple(problems),
        )
