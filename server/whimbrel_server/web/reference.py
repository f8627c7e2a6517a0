"""``/schema``: the API reference as a page of the dashboard, made from the OpenAPI document.

The usual viewers load a megabyte of script from other sites; this needs none, and it is readable
by whoever is in front of a fleet without the internet.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from litestar.openapi.plugins import OpenAPIRenderPlugin

from whimbrel_server.web.render import ENVIRONMENT

if TYPE_CHECKING:
    from litestar import Request

METHODS = ("get", "post", "put", "patch", "delete", "head")


class ReferencePlugin(OpenAPIRenderPlugin):
    """Renders the document with the dashboard's own templates."""

    def __init__(self) -> None:
        super().__init__(path="/")

    def render(self, request: Request[Any, Any, Any], openapi_schema: dict[str, Any]) -> bytes:
        """Return the page."""
        operations: dict[str, list[dict[str, Any]]] = {
            t["name"]: [] for t in openapi_schema["tags"]
        }
        for path, item in openapi_schema["paths"].items():
            for method in METHODS:
                if method in item:
                    found = item[method]
                    tag = (found.get("tags") or ["server"])[0]
                    operations.setdefault(tag, []).append(_operation(path, method, found))
        context = {
            "document": openapi_schema,
            "operations": operations,
            "path": "/schema",
            "twin": "/schema/openapi.json",
            "logged_in": False,
            "read_open": request.app.state.access.read_open,
        }
        return ENVIRONMENT.get_template("reference.html").render(context).encode()


def _operation(path: str, method: str, found: dict[str, Any]) -> dict[str, Any]:
    media = (found.get("requestBody") or {}).get("content", {})
    return {
        "id": found["operationId"],
        "path": path,
        "method": method,
        "summary": found.get("summary", ""),
        "description": found.get("description", ""),
        "responses": found["responses"],
        "parameters": [
            {
                "name": p["name"],
                "place": p["in"],
                "required": p.get("required", False),
                "type": _type(p["schema"]),
                "description": p.get("description", ""),
            }
            for p in found.get("parameters", ())
        ],
        "examples": [
            example
            for content in media.values()
            for example in content.get("schema", {}).get("examples", ())
        ],
    }


def _type(schema: dict[str, Any]) -> str:
    if "enum" in schema:
        return " | ".join(str(value) for value in schema["enum"] if value is not None)
    parts = [_type(s) for s in schema.get("oneOf") or schema.get("anyOf") or ()]
    named = [p for p in parts if p and p != "null"] or [str(schema.get("type") or "")]
    return " or ".join(named)
