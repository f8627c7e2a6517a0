"""The web application: REST, repository, metrics and dashboard over one `FleetPort`.

``create_app`` wires; whoever runs the server gives it to uvicorn. Handlers are plain functions
that Litestar runs in threads, because the fleet's methods block on the database.
"""

from __future__ import annotations

import functools
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
from litestar import Litestar, Request, Response, Router
from litestar.config.compression import CompressionConfig
from litestar.datastructures import State
from litestar.di import Provide
from litestar.openapi.config import OpenAPIConfig
from litestar.openapi.plugins import JsonRenderPlugin
from litestar.openapi.spec import Components, License, SecurityScheme, Tag

import whimbrel_server
from whimbrel_server.api.access import Access
from whimbrel_server.api.devices import DevicesController, TelemetryController
from whimbrel_server.api.hosts import require_host
from whimbrel_server.api.metrics import metrics
from whimbrel_server.api.models import ModelsController
from whimbrel_server.api.problems import answer
from whimbrel_server.api.publishing import PublishingController
from whimbrel_server.api.records import AlertsController, ServerController
from whimbrel_server.api.repository import repository_file, repository_head
from whimbrel_server.api.rollouts import RolloutsController
from whimbrel_server.api.stored import StoredCountsController
from whimbrel_server.port import FleetPort
from whimbrel_server.web.reference import ReferencePlugin
from whimbrel_server.web.render import HEADERS
from whimbrel_server.web.site import failed
from whimbrel_server.web.site import handlers as pages

if TYPE_CHECKING:
    from collections.abc import Mapping

MAX_BODY_BYTES = 1 << 20
"""The largest body is a certificate request of about a kilobyte; publishing has limits of its own."""

TAGS = {
    "devices": "Devices: what they serve, what they are asked to serve, labels, enrolment.",
    "models": "Models and versions: drift and quality, over the fleet, a cohort or one device.",
    "rollouts": "Versions on their way through waves of devices, behind gates.",
    "alerts": "What a person should know.",
    "telemetry": "What came in from devices, accounted for.",
    "repository": "Signed metadata and bundles, for devices.",
    "server": "The server itself.",
}


class WebSettings(msgspec.Struct, frozen=True, kw_only=True):
    """What the web needs from the configuration.

    ``read_open``: reads need no token; right when bound to loopback, or by configuration.
    ``hosts``: names under which this server may be asked for; None for any.
    """

    repository: Path
    token_hash: str | None = None
    read_open: bool = False
    secure_cookie: bool = False
    hosts: frozenset[str] | None = None


def create_app(fleet: FleetPort, settings: WebSettings) -> Litestar:
    """Return the ASGI application that serves ``fleet``.

    Raises:
        ConfigError: the token hash is not one.
    """
    access = Access(
        token_hash=settings.token_hash,
        read_open=settings.read_open,
        secure_cookie=settings.secure_cookie,
    )
    api = Router(
        "/api/v1",
        route_handlers=[
            DevicesController,
            TelemetryController,
            ModelsController,
            StoredCountsController,
            RolloutsController,
            AlertsController,
            PublishingController,
            ServerController,
        ],
        response_headers={"cache-control": "no-store", "x-content-type-options": "nosniff"},
        security=[{"operator": []}],
    )
    return Litestar(
        route_handlers=[api, metrics, repository_file, repository_head, *pages()],
        dependencies={"fleet": Provide(lambda: fleet, sync_to_thread=False, use_cache=True)},
        state=State({"access": access, "repository": settings.repository, "fleet": fleet}),
        exception_handlers={Exception: _answer},
        before_request=functools.partial(require_host, settings.hosts),
        openapi_config=openapi(),
        # Bundles do not compress and metadata is small; pages and JSON shrink by nine tenths.
        compression_config=CompressionConfig(
            backend="gzip", gzip_compress_level=5, minimum_size=1500, exclude=["^/repository"]
        ),
        request_max_body_size=MAX_BODY_BYTES,
        signature_types=[FleetPort],
        debug=False,
        logging_config=None,
    )


def _answer(request: Request[Any, Any, Any], error: Exception) -> Response[Any]:
    """Answer an error as a page when a person follows a link that leads nowhere."""
    wants_page = "text/html" in request.headers.get("accept", "")
    for_programs = request.url.path.startswith(("/api/", "/repository/", "/metrics"))
    return failed(request, error) if wants_page and not for_programs else answer(request, error)


def openapi(tags: Mapping[str, str] = TAGS) -> OpenAPIConfig:
    """Return how the OpenAPI document at ``/schema/openapi.json`` is made."""
    return OpenAPIConfig(
        title="Whimbrel fleet server",
        version=whimbrel_server.__version__,
        summary="Drift, alerts, staged rollouts and audit of a fleet of edge devices.",
        description=(
            "Times are integer milliseconds since 1970 UTC. A null says 'not known' or 'too "
            "little data', never zero. Failures are RFC 9457 problems with a stable `code` and a "
            "`hint`. Fields are only ever added."
        ),
        license=License(name="Apache-2.0", identifier="Apache-2.0"),
        tags=[Tag(name=name, description=text) for name, text in tags.items()],
        path="/schema",
        render_plugins=[ReferencePlugin(), JsonRenderPlugin()],
        openapi_router=Router(
            "/schema", route_handlers=[], response_headers=HEADERS, include_in_schema=False
        ),
        components=Components(
            security_schemes={
                "operator": SecurityScheme(
                    type="http",
                    scheme="bearer",
                    description="The operator token that 'whimbrel server init' printed.",
                )
            }
        ),
        use_handler_docstrings=True,
        create_examples=False,
    )
