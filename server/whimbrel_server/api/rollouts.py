"""REST: rollouts and what an operator may do to them."""

from __future__ import annotations

from typing import Annotated, Any

from litestar import Controller, Request, get, post
from litestar.openapi.spec import Example
from litestar.params import Body, PathParameter

from whimbrel_server.api.access import actor, may_change, may_read
from whimbrel_server.api.dependency import Fleet
from whimbrel_server.api.responses import CHANGES, READS
from whimbrel_server.views.rollouts import RolloutSpec, RolloutView

EXAMPLE = {
    "slot": "flights",
    "model": "flights",
    "version": "1.1.0",
    "waves": [{"devices": ["lga"]}, {}],
    "gates": {"min_rows": 200, "labels": 100, "max_auc_drop": 0.02, "soak_windows": 3},
    "probation": {"rows": 100},
    "deadline_s": 604800,
}
Number = Annotated[int, PathParameter(description="the rollout's number", ge=1)]


class RolloutsController(Controller):
    """Versions on their way through waves of devices."""

    path = "/rollouts"
    tags = ("rollouts",)

    @get(guards=[may_read], summary="List rollouts", responses=READS, sync_to_thread=True)
    def all(self, fleet: Fleet) -> tuple[RolloutView, ...]:
        """Return rollouts, newest first, with their waves and gates."""
        return fleet.rollouts()

    @get(
        "/{number:int}",
        guards=[may_read],
        summary="Get one rollout",
        responses=READS,
        sync_to_thread=True,
    )
    def one(self, fleet: Fleet, number: Number) -> RolloutView:
        """Return one rollout."""
        return fleet.rollout(number)

    @post(guards=[may_change], summary="Start a rollout", responses=CHANGES, sync_to_thread=True)
    def start(
        self,
        fleet: Fleet,
        request: Request[Any, Any, Any],
        data: Annotated[RolloutSpec, Body(examples=[Example(value=EXAMPLE)])],
    ) -> RolloutView:
        """Start moving a version through waves; each next wave waits for the gates of the last."""
        return fleet.start_rollout(data, actor(request))

    @post(
        "/{number:int}/pause",
        guards=[may_change],
        summary="Pause a rollout",
        responses=CHANGES,
        status_code=200,
        sync_to_thread=True,
    )
    def pause(self, fleet: Fleet, request: Request[Any, Any, Any], number: Number) -> RolloutView:
        """Hold where it is; devices keep what they serve."""
        return fleet.pause_rollout(number, actor(request))

    @post(
        "/{number:int}/resume",
        guards=[may_change],
        summary="Resume a rollout",
        responses=CHANGES,
        status_code=200,
        sync_to_thread=True,
    )
    def resume(self, fleet: Fleet, request: Request[Any, Any, Any], number: Number) -> RolloutView:
        """Let a paused rollout go on."""
        return fleet.resume_rollout(number, actor(request))

    @post(
        "/{number:int}/abort",
        guards=[may_change],
        summary="Abort a rollout",
        responses=CHANGES,
        status_code=200,
        sync_to_thread=True,
    )
    def abort(self, fleet: Fleet, request: Request[Any, Any, Any], number: Number) -> RolloutView:
        """Stop, and give every moved device back what it had."""
        return fleet.abort_rollout(number, actor(request))
