"""The operator's session in a browser: the form, the cookie, and its end."""

from __future__ import annotations

from typing import Annotated, Any
from urllib.parse import urlsplit

import msgspec
from litestar import Request, Response, get, post
from litestar.enums import RequestEncodingType
from litestar.params import Body, FromQuery
from litestar.response import Redirect

from whimbrel_server.api.access import COOKIE, SESSION_S, Access
from whimbrel_server.web.render import page


class LoginForm(msgspec.Struct, frozen=True):
    """What the login form sends."""

    token: str = ""
    next: str = "/"


Form = Annotated[LoginForm, Body(media_type=RequestEncodingType.URL_ENCODED)]


def inside(address: str) -> str:
    """Return an address of this site, whatever was asked for: a login must not lead elsewhere."""
    parts = urlsplit(address)
    good = address.startswith("/") and not address.startswith(("//", "/\\")) and not parts.netloc
    return address if good and "\n" not in address and "\r" not in address else "/"


@get("/login")
async def form(request: Request[Any, Any, Any], next: FromQuery[str] = "/") -> Response[Any]:  # noqa: A002 - the address says it
    """Show the login form."""
    return page("login.html", {"next": inside(next), "wrong": False, **bare(request)})


@post("/login", status_code=303)
async def enter(request: Request[Any, Any, Any], data: Form) -> Response[Any]:
    """Give the browser a session for the operator token."""
    access: Access = request.app.state.access
    if not await access.is_operator(data.token.strip()):
        context = {"next": inside(data.next), "wrong": True, **bare(request)}
        return page("login.html", context, status=401)
    answer = Redirect(inside(data.next), status_code=303)
    answer.set_cookie(
        COOKIE,
        access.session(),
        max_age=SESSION_S,
        httponly=True,
        samesite="strict",
        secure=access.secure_cookie,
    )
    return answer


@post("/logout", status_code=303)
async def leave() -> Redirect:
    """End the session."""
    answer = Redirect("/", status_code=303)
    answer.delete_cookie(COOKIE)
    return answer


def bare(request: Request[Any, Any, Any]) -> dict[str, Any]:
    """Return what a page needs of its surroundings when it is shown to whoever asks."""
    access: Access = request.app.state.access
    return {"path": request.url.path, "twin": "", "logged_in": False, "read_open": access.read_open}
