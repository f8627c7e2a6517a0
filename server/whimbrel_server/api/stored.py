"""REST: stored counts, for exports and reports."""

from __future__ import annotations

from typing import Annotated

from litestar import Controller, get
from litestar.params import QueryParameter

from whimbrel_server.api.access import may_read
from whimbrel_server.api.dependency import Fleet
from whimbrel_server.api.models import ModelPath, Since, Until
from whimbrel_server.api.responses import READS
from whimbrel_server.views.stored import Step, StoredCountsView


class StoredCountsController(Controller):
    """Counts as devices sent them, merged by period."""

    path = "/models"
    tags = ("models",)

    @get(
        "/{name:str}/counts",
        guards=[may_read],
        summary="Stored counts",
        responses=READS,
        sync_to_thread=True,
    )
    def stored(
        self,
        fleet: Fleet,
        name: ModelPath,
        *,
        since_ms: Since = None,
        until_ms: Until = None,
        version: Annotated[
            str | None, QueryParameter(description="default: the newest release")
        ] = None,
        subject: Annotated[
            str, QueryParameter(description="a device, `key=value`, or `fleet`")
        ] = "fleet",
        step: Annotated[Step, QueryParameter(description="length of a period")] = "day",
    ) -> StoredCountsView:
        """Return counts by period with the signed reference, each in Whimbrel's encoding."""
        return fleet.stored_counts(name, version, subject, step, since_ms, until_ms)
