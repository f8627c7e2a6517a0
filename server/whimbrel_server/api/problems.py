"""Errors over HTTP: RFC 9457 problem details made from the error tree.

Every error has the same shape, whoever found it: Litestar (no such route, a body that does not
parse), the fleet (no such device, a rollout that already ended) or a fault of ours, which is
logged here, once, with its traceback, and told to the client without any of its text.
"""

from __future__ import annotations

import logging
from http import HTTPStatus
from typing import Any

import msgspec
from litestar import Request, Response
from litestar.exceptions import HTTPException
from litestar.exceptions import ValidationException as LitestarValidationError

from whimbrel_core.errors import (
    InputError,
    RefusedError,
    StorageError,
    TrustError,
    UnavailableError,
    UsageError,
    WhimbrelError,
)
from whimbrel_server.api import access

log = logging.getLogger("whimbrel.api")

MEDIA_TYPE = "application/problem+json"
_BY_CODE: dict[str, HTTPStatus] = {
    "not_found": HTTPStatus.NOT_FOUND,
    "conflict": HTTPStatus.CONFLICT,
    **access.STATUS,
}
_BY_CLASS: tuple[tuple[type[WhimbrelError], HTTPStatus], ...] = (
    (UsageError, HTTPStatus.BAD_REQUEST),
    (InputError, HTTPStatus.BAD_REQUEST),
    (TrustError, HTTPStatus.UNPROCESSABLE_ENTITY),
    (RefusedError, HTTPStatus.UNPROCESSABLE_ENTITY),
    (UnavailableError, HTTPStatus.SERVICE_UNAVAILABLE),
    (StorageError, HTTPStatus.INSUFFICIENT_STORAGE),
)


class Problem(msgspec.Struct, frozen=True, kw_only=True):
    """What every failed request answers.

    ``code`` is stable and for programs, ``detail`` and ``hint`` are for people.
    """

    type: str
    title: str
    status: int
    detail: str
    code: str
    hint: str | None = None
    instance: str = ""
    retryable: bool = False


def status_of(error: WhimbrelError) -> HTTPStatus:
    """Return the status that an error of the tree answers with."""
    if error.code in _BY_CODE:
        return _BY_CODE[error.code]
    for kind, status in _BY_CLASS:
        if isinstance(error, kind):
            return status
    return HTTPStatus.INTERNAL_SERVER_ERROR


def problem_of(error: Exception, path: str) -> Problem:
    """Return an exception as a problem; what is not ours becomes an internal error."""
    if isinstance(error, WhimbrelError):
        return _problem(
            status_of(error),
            code=error.code,
            detail=error.message,
            hint=error.hint,
            path=path,
            retryable=error.retryable,
        )
    if isinstance(error, HTTPException):
        status = HTTPStatus(error.status_code)
        if status is not HTTPStatus.INTERNAL_SERVER_ERROR:
            code, detail, hint = _say(error, status, path)
            return _problem(status, code=code, detail=detail, hint=hint, path=path)
    return _problem(
        HTTPStatus.INTERNAL_SERVER_ERROR,
        code="internal",
        detail="a fault inside the server; the fleet goes on as before",
        hint="the server's log has the traceback; please report it",
        path=path,
    )


def _say(error: HTTPException, status: HTTPStatus, path: str) -> tuple[str, str, str | None]:
    if status is HTTPStatus.NOT_FOUND:
        return "not_found", f"there is nothing at {path}", "see /schema for what there is"
    if status is HTTPStatus.METHOD_NOT_ALLOWED:
        return "request.method", f"{path} does not take this method", "see /schema"
    detail = str(error.detail)
    if isinstance(error, LitestarValidationError) and isinstance(error.extra, list):
        parts = [
            f"{e['key']}: {e['message']}"
            if e.get("key") and e["key"] != "data"
            else str(e["message"])
            for e in error.extra
            if isinstance(e, dict) and e.get("message")
        ]
        detail = "; ".join(parts) or detail
    return "request.invalid", detail, "see /schema for the fields and their types"


def _problem(
    status: HTTPStatus,
    *,
    code: str,
    detail: str,
    hint: str | None,
    path: str,
    retryable: bool = False,
) -> Problem:
    return Problem(
        type=f"urn:whimbrel:problem:{code}",
        title=status.phrase,
        status=int(status),
        detail=detail,
        code=code,
        hint=hint,
        instance=path,
        retryable=retryable,
    )


def note(error: Exception, request: Request[Any, Any, Any]) -> None:
    """Log what is a fault of the server; the client's own mistakes are not the log's business."""
    if isinstance(error, (UnavailableError, StorageError)):
        log.warning("%s %s: %s [%s]", request.method, request.url.path, error.message, error.code)
    elif not isinstance(error, (WhimbrelError, HTTPException)) or (
        isinstance(error, HTTPException) and error.status_code >= HTTPStatus.INTERNAL_SERVER_ERROR
    ):
        log.error("%s %s failed", request.method, request.url.path, exc_info=error)


def answer(request: Request[Any, Any, Any], error: Exception) -> Response[bytes]:
    """Answer a failed request of a program."""
    note(error, request)
    problem = problem_of(error, request.url.path)
    headers = {"cache-control": "no-store"}
    if problem.status == HTTPStatus.UNAUTHORIZED:
        headers["www-authenticate"] = 'Bearer realm="whimbrel"'
    if isinstance(error, HTTPException) and error.headers:
        headers.update({k.lower(): v for k, v in error.headers.items() if k.lower() == "allow"})
    return Response(
        msgspec.json.encode(problem),
        status_code=problem.status,
        media_type=MEDIA_TYPE,
        headers=headers,
    )
