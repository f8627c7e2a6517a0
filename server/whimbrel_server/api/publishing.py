"""REST: publishing from a build machine, whose offline keys stay there.

Files come first, in pieces, each called by its SHA-256; then the signed metadata that names them,
which the server verifies and puts in place. Whoever stops in between goes on later, or leaves
nothing that anybody sees.
"""

from __future__ import annotations

from typing import Annotated, Any

from litestar import Controller, Request, get, patch, put
from litestar.openapi.spec import Example
from litestar.params import PathParameter, QueryParameter, RawBody

from whimbrel_server.api.access import actor, may_change, may_read
from whimbrel_server.api.dependency import Fleet
from whimbrel_server.api.responses import CHANGES, READS
from whimbrel_server.repository.incoming import PIECE_BYTES
from whimbrel_server.views.repository import AcceptedView, RepositoryView, UploadView

MAX_METADATA_BYTES = 16 << 20
"""Targets metadata takes about 700 bytes a bundle."""

Digest = Annotated[
    str,
    PathParameter(
        description="SHA-256 of the whole file, hexadecimal",
        examples=[
            Example(value="9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08")
        ],
    ),
]


class PublishingController(Controller):
    """What a publisher sends."""

    path = "/repository"
    tags = ("repository",)

    @get(guards=[may_read], summary="List metadata", responses=READS, sync_to_thread=True)
    def contents(self, fleet: Fleet) -> RepositoryView:
        """Return the names of the metadata files; they are read below ``/repository/metadata``."""
        return fleet.repository_contents()

    @get(
        "/uploads/{digest:str}",
        guards=[may_change],
        summary="Ask about an upload",
        responses=READS,
        sync_to_thread=True,
    )
    def upload(self, fleet: Fleet, digest: Digest) -> UploadView:
        """Return how much of a file is here, so that a sender goes on from there."""
        return fleet.upload(digest)

    @patch(
        "/uploads/{digest:str}",
        guards=[may_change],
        summary="Send a piece of a file",
        responses=CHANGES,
        sync_to_thread=True,
        request_max_body_size=PIECE_BYTES,
    )
    def append(
        self,
        fleet: Fleet,
        digest: Digest,
        offset: Annotated[
            int, QueryParameter(ge=0, description="where the piece begins: what is here already")
        ],
        length: Annotated[int, QueryParameter(ge=1, description="of the whole file, in bytes")],
        body: RawBody,
    ) -> UploadView:
        """Add a piece. The last one completes the file, if all has the digest it is called by."""
        return fleet.append_upload(digest, offset, length, body)

    @put(
        "/metadata/{name:str}",
        guards=[may_change],
        summary="Publish signed metadata",
        responses=CHANGES,
        sync_to_thread=True,
        request_max_body_size=MAX_METADATA_BYTES,
    )
    def accept(
        self,
        fleet: Fleet,
        request: Request[Any, Any, Any],
        name: Annotated[
            str,
            PathParameter(
                description="<version>.<role>.json", examples=[Example(value="3.targets.json")]
            ),
        ],
        body: RawBody,
    ) -> AcceptedView:
        """Verify metadata and the files that it names; put all in place, and sign that it is new.

        It must be the next version, signed by the publisher's keys that the repository names.
        """
        return fleet.accept_metadata(name, body, actor(request))
