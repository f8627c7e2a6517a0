"""How the OpenAPI document describes failures: the same problem everywhere, by example."""

from __future__ import annotations

from litestar.openapi.datastructures import ResponseSpec
from litestar.openapi.spec import Example

from whimbrel_server.api.problems import MEDIA_TYPE, Problem


def _failure(status: int, title: str, code: str, detail: str, hint: str | None) -> ResponseSpec:
    return ResponseSpec(
        Problem,
        description=title,
        generate_examples=False,
        media_type=MEDIA_TYPE,
        examples=[
            Example(
                value={
                    "type": f"urn:whimbrel:problem:{code}",
                    "title": title,
                    "status": status,
                    "detail": detail,
                    "code": code,
                    "hint": hint,
                    "instance": "",
                    "retryable": False,
                }
            )
        ],
    )


_BAD = _failure(
    400,
    "Bad Request",
    "request.invalid",
    "limit: Expected `int` <= 1000",
    "see /schema for the fields and their types",
)
_DENIED = _failure(
    401,
    "Unauthorized",
    "access.token",
    "changing this fleet needs the operator token; nothing was changed",
    "send 'Authorization: Bearer <token>'",
)
_MISSING = _failure(
    404, "Not Found", "not_found", "there is no device 'lgb'", "see the list of devices"
)
_CONFLICT = _failure(409, "Conflict", "conflict", "rollout 3 is completed already", None)
_REFUSED = _failure(
    422,
    "Unprocessable Entity",
    "trust.signature",
    "flights 1.2.0 is not signed by a trusted publisher",
    None,
)
_AWAY = _failure(
    503, "Service Unavailable", "unavailable", "the broker does not answer", "try again"
)

READS: dict[int, ResponseSpec] = {400: _BAD, 401: _DENIED, 404: _MISSING, 503: _AWAY}
CHANGES: dict[int, ResponseSpec] = {**READS, 409: _CONFLICT, 422: _REFUSED}
