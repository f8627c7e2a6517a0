"""REST: alerts, audit, health."""

from __future__ import annotations

from typing import Annotated, Any

from litestar import Controller, Request, Response, get, post
from litestar.params import PathParameter, QueryParameter

from whimbrel_server.api.access import actor, may_change, may_read
from whimbrel_server.api.dependency import Fleet
from whimbrel_server.api.responses import CHANGES, READS
from whimbrel_server.views.alerts import AlertState, AlertView
from whimbrel_server.views.audit import AuditView
from whimbrel_server.views.health import HealthView
from whimbrel_server.views.verdicts import ExplanationView, ReplayView


class AlertsController(Controller):
    """What a person should know."""

    path = "/alerts"
    tags = ("alerts",)

    @get(guards=[may_read], summary="List alerts", responses=READS, sync_to_thread=True)
    def all(
        self,
        fleet: Fleet,
        # Litestar keeps the name "state" for itself.
        alert_state: Annotated[
            AlertState | None, QueryParameter(name="state", description="only in this state")
        ] = None,
        limit: Annotated[int, QueryParameter(ge=1, le=1000, description="at most so many")] = 100,
    ) -> tuple[AlertView, ...]:
        """Return alerts, newest first, each with its evidence."""
        return fleet.alerts(alert_state, limit)

    @get(
        "/replays",
        guards=[may_read],
        summary="Recompute verdicts",
        responses=READS,
        sync_to_thread=True,
    )
    def replays(
        self,
        fleet: Fleet,
        limit: Annotated[int, QueryParameter(ge=1, le=1000, description="at most so many")] = 100,
    ) -> tuple[ReplayView, ...]:
        """Recompute the verdicts of the newest alerts from what is stored: the same, or what differs."""
        return fleet.replays(limit)

    @get(
        "/{number:int}/explanation",
        guards=[may_read],
        summary="Explain an alert",
        responses=READS,
        sync_to_thread=True,
    )
    def explanation(
        self,
        fleet: Fleet,
        number: Annotated[int, PathParameter(description="the alert's number", ge=1)],
    ) -> ExplanationView:
        """Return what was found, since when, where else, what else changed, and what it costs."""
        return fleet.explain(number)

    @get(
        "/{number:int}/replay",
        guards=[may_read],
        summary="Recompute a verdict",
        responses=READS,
        sync_to_thread=True,
    )
    def replay(
        self,
        fleet: Fleet,
        number: Annotated[int, PathParameter(description="the alert's number", ge=1)],
    ) -> ReplayView:
        """Recompute the verdict of an alert from what is stored: the same, or what differs."""
        return fleet.replay(number)

    @post(
        "/{number:int}/acknowledge",
        guards=[may_change],
        summary="Acknowledge an alert",
        responses=CHANGES,
        status_code=200,
        sync_to_thread=True,
    )
    def acknowledge(
        self,
        fleet: Fleet,
        request: Request[Any, Any, Any],
        number: Annotated[int, PathParameter(description="the alert's number", ge=1)],
    ) -> AlertView:
        """Mark an alert as seen; it closes by itself when its cause is gone."""
        return fleet.acknowledge_alert(number, actor(request))


class ServerController(Controller):
    """The server itself."""

    path = "/"
    tags = ("server",)

    @get(
        "/audit", guards=[may_read], summary="Read the audit", responses=READS, sync_to_thread=True
    )
    def audit(
        self,
        fleet: Fleet,
        limit: Annotated[int, QueryParameter(ge=1, le=1000, description="at most so many")] = 200,
    ) -> tuple[AuditView, ...]:
        """Return who did what, newest first."""
        return fleet.audit(limit)

    @get("/health", summary="Check the server", responses={503: READS[503]}, sync_to_thread=True)
    def health(self, fleet: Fleet) -> Response[HealthView]:
        """Return whether broker, store and repository work; 503 when one of them does not.

        Needs no token: a load balancer asks this.
        """
        health = fleet.health()
        return Response(health, status_code=200 if health.ok else 503)
