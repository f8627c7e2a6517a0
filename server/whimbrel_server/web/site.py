"""The dashboard's routes: pages, their ``.json`` twins, and the buttons."""

from __future__ import annotations

import asyncio
import functools
import re
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import quote

import msgspec
from litestar import MediaType, Request, Response, Router, get, post
from litestar.params import FromPath
from litestar.response import Redirect

from whimbrel_core.errors import InputError, UsageError, WhimbrelError
from whimbrel_server.api import problems
from whimbrel_server.api.access import DENIED, is_logged_in, may_press, may_read
from whimbrel_server.api.dependency import Fleet
from whimbrel_server.web import login
from whimbrel_server.web.assets import ASSETS
from whimbrel_server.web.pages import patterns
from whimbrel_server.web.pages.alert import AlertQuery, alert_page
from whimbrel_server.web.pages.device import DeviceQuery, device_page
from whimbrel_server.web.pages.fleet import FleetQuery, fleet_page
from whimbrel_server.web.pages.model import ModelQuery, model_page
from whimbrel_server.web.pages.rollouts import rollout_page, rollouts_page
from whimbrel_server.web.render import page

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T", bound=msgspec.Struct)
TWIN = ".json"
_NUMBER = re.compile(r"[0-9]{1,12}")


async def _show(
    request: Request[Any, Any, Any],
    template: str,
    make: Callable[[], msgspec.Struct | tuple[Any, ...]],
    *,
    twin: bool,
    address: str,
) -> Response[Any]:
    """Return a page or its twin; both are made of the same value, in a thread."""
    value = await asyncio.to_thread(make)
    if twin:
        return Response(
            msgspec.json.encode(value),
            media_type=MediaType.JSON,
            headers={"cache-control": "private, no-cache", "x-content-type-options": "nosniff"},
        )
    query = f"?{request.url.query}" if request.url.query else ""
    context = {
        "page": value,
        "path": request.url.path,
        "twin": address + TWIN + query if address else "",
        "logged_in": await is_logged_in(request),
        "read_open": request.app.state.access.read_open,
    }
    return await asyncio.to_thread(page, template, context, request)


def _state(request: Request[Any, Any, Any], kind: type[T]) -> T:
    """Return the page's state from the address; what is unknown there is passed over."""
    try:
        return msgspec.convert(dict(request.query_params.items()), kind, strict=False)
    except msgspec.ValidationError as error:
        raise InputError(
            f"the address is not understood: {error}",
            hint="open the page without what follows '?'",
            code="request.invalid",
        ) from error


def _name(text: str) -> tuple[str, bool]:
    return (text.removesuffix(TWIN), True) if text.endswith(TWIN) else (text, False)


def _number(text: str, what: str) -> int:
    if not _NUMBER.fullmatch(text):
        raise UsageError(f"there is no {what} {text[:40]!r}", code="not_found")
    return int(text)


@get(["/", "/fleet.json"], guards=[may_read])
async def fleet_route(request: Request[Any, Any, Any], fleet: Fleet) -> Response[Any]:
    """Show the fleet."""
    make = functools.partial(fleet_page, fleet, _state(request, FleetQuery))
    twin = request.url.path.endswith(TWIN)
    return await _show(request, "fleet.html", make, twin=twin, address="/fleet")


@get(["/models", "/models.json"], guards=[may_read])
async def models_route(request: Request[Any, Any, Any], fleet: Fleet) -> Response[Any]:
    """Show the models."""
    twin = request.url.path.endswith(TWIN)
    return await _show(request, "models.html", fleet.models, twin=twin, address="/models")


@get("/models/{name:str}", guards=[may_read])
async def model_route(
    request: Request[Any, Any, Any], fleet: Fleet, name: FromPath[str]
) -> Response[Any]:
    """Show one model."""
    name, twin = _name(name)
    make = functools.partial(model_page, fleet, name, _state(request, ModelQuery))
    return await _show(request, "model.html", make, twin=twin, address=f"/models/{quote(name)}")


@get("/devices/{name:str}", guards=[may_read])
async def device_route(
    request: Request[Any, Any, Any], fleet: Fleet, name: FromPath[str]
) -> Response[Any]:
    """Show one device."""
    name, twin = _name(name)
    make = functools.partial(device_page, fleet, name, _state(request, DeviceQuery))
    return await _show(request, "device.html", make, twin=twin, address=f"/devices/{quote(name)}")


@get("/alerts/{number:str}", guards=[may_read])
async def alert_route(
    request: Request[Any, Any, Any], fleet: Fleet, number: FromPath[str]
) -> Response[Any]:
    """Show one alert: why, since when, at what cost."""
    number, twin = _name(number)
    wanted = _number(number, "alert")
    make = functools.partial(alert_page, fleet, wanted, _state(request, AlertQuery))
    return await _show(request, "alert.html", make, twin=twin, address=f"/alerts/{number}")


@get(["/rollouts", "/rollouts.json"], guards=[may_read])
async def rollouts_route(request: Request[Any, Any, Any], fleet: Fleet) -> Response[Any]:
    """Show the rollouts."""
    make = functools.partial(rollouts_page, fleet)
    twin = request.url.path.endswith(TWIN)
    return await _show(request, "rollouts.html", make, twin=twin, address="/rollouts")


@get("/rollouts/{number:str}", guards=[may_read])
async def rollout_route(
    request: Request[Any, Any, Any], fleet: Fleet, number: FromPath[str]
) -> Response[Any]:
    """Show one rollout."""
    number, twin = _name(number)
    make = functools.partial(rollout_page, fleet, _number(number, "rollout"))
    return await _show(request, "rollout.html", make, twin=twin, address=f"/rollouts/{number}")


@get("/patterns", guards=[may_read])
async def patterns_route(request: Request[Any, Any, Any]) -> Response[Any]:
    """Show every component in every state."""
    return await _show(request, "patterns.html", patterns.samples, twin=False, address="")


@get("/static/{name:str}")
async def static_route(name: FromPath[str]) -> Response[bytes]:
    """Return a stylesheet, script or icon."""
    asset = ASSETS.get(name)
    if asset is None:
        raise UsageError(f"there is no file {name[:80]!r}", code="not_found")
    headers = {
        "cache-control": "public, max-age=31536000, immutable",
        "x-content-type-options": "nosniff",
    }
    return Response(asset.data, media_type=asset.media_type, headers=headers)


@post("/alerts/{number:int}/acknowledge", guards=[may_press], status_code=303)
async def acknowledge(
    request: Request[Any, Any, Any], fleet: Fleet, number: FromPath[int]
) -> Redirect:
    """Mark an alert as seen."""
    await asyncio.to_thread(fleet.acknowledge_alert, number, "operator (dashboard)")
    return Redirect(_back(request), status_code=303)


@post("/rollouts/{number:int}/{verb:str}", guards=[may_press], status_code=303)
async def move(fleet: Fleet, number: FromPath[int], verb: FromPath[str]) -> Redirect:
    """Pause, resume or abort a rollout."""
    verbs = {
        "pause": fleet.pause_rollout,
        "resume": fleet.resume_rollout,
        "abort": fleet.abort_rollout,
    }
    if verb not in verbs:
        raise UsageError(f"a rollout cannot be told to {verb[:40]!r}", code="not_found")
    await asyncio.to_thread(verbs[verb], number, "operator (dashboard)")
    return Redirect(f"/rollouts/{number}", status_code=303)


def _back(request: Request[Any, Any, Any]) -> str:
    return login.inside(request.query_params.get("back", "/"))


def failed(request: Request[Any, Any, Any], error: Exception) -> Response[Any]:
    """Answer a failed request of a browser: a page that says what to do; a twin answers JSON."""
    path = request.url.path
    denied = isinstance(error, WhimbrelError) and error.code == DENIED
    if path.endswith(TWIN):
        return problems.answer(request, error)
    if denied and request.method == "GET":
        query = f"?{request.url.query}" if request.url.query else ""
        return Redirect(f"/login?next={quote(path + query, safe='')}", status_code=303)
    problems.note(error, request)
    problem = problems.problem_of(error, path)
    return page("problem.html", {"problem": problem, **login.bare(request)}, status=problem.status)


def handlers() -> list[Router]:
    """Return the dashboard's routes; they are for people and not part of the OpenAPI document."""
    routes = [
        fleet_route,
        models_route,
        model_route,
        device_route,
        alert_route,
        rollouts_route,
        rollout_route,
        patterns_route,
        static_route,
        login.form,
        login.enter,
        login.leave,
        acknowledge,
        move,
    ]
    return [
        Router(
            "/",
            route_handlers=routes,
            include_in_schema=False,
            exception_handlers={Exception: failed},
        )
    ]
