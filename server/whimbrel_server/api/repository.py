"""``/repository/…``: TUF metadata and bundles from a directory, with Range, as devices need them.

Only ``metadata/`` and ``targets/`` are served, and only regular files that are inside the
directory after every link was followed. No token: what is here is signed, and a device that has
none must be able to update. One range per request; more than one are answered with the whole
file, which RFC 9110 (14.2) allows.
"""

from __future__ import annotations

import asyncio
import os
import re
import stat
from email.utils import formatdate
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
from litestar import Request, Response, get, head
from litestar.openapi.datastructures import ResponseSpec
from litestar.openapi.spec import Example
from litestar.params import PathParameter
from litestar.response import Stream

from whimbrel_core.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path
    from typing import BinaryIO

BLOCK_BYTES = 256 * 1024
FOLDERS = frozenset({"metadata", "targets"})
_RANGE = re.compile(r"bytes=(\d{0,18})-(\d{0,18})")
_CONTENT_NAMED = re.compile(r"(?:[0-9a-f]{64}\.|\d+\.(?:root|targets|snapshot)\.json$)")


class Span(msgspec.Struct, frozen=True):
    """Bytes ``first`` to ``last``, both included, of ``size``."""

    first: int
    last: int
    size: int

    @property
    def length(self) -> int:
        """How many bytes that is."""
        return self.last - self.first + 1


class Served(msgspec.Struct, frozen=True):
    """What is said about a file before its bytes."""

    size: int
    etag: str
    modified: str
    lasting: bool


def locate(root: Path, path: str) -> Path:
    """Return the file that ``path`` names inside the repository.

    Raises:
        UsageError: there is none; code ``not_found``, whatever the reason, so that nothing
            outside can be probed.
    """
    parts = path.strip("/").split("/")
    found: Path | None = None
    if parts[0] in FOLDERS and all(p and not p.startswith(".") and "\0" not in p for p in parts):
        try:
            # resolve() follows links: a link that leads out of the repository is not served.
            candidate = root.joinpath(*parts).resolve(strict=True)
            inside = candidate.is_relative_to(root.resolve() / parts[0])
            found = candidate if inside and candidate.is_file() else None
        except (OSError, ValueError):
            found = None
    if found is None:
        raise UsageError(
            f"the repository has no {path[:200]!r}",
            hint="see 'whimbrel repo list' on the build machine for what is published",
            code="not_found",
        )
    return found


def wanted(header: str | None, size: int) -> Span | bool | None:
    """Return the span that a Range header asks for, None for the whole file, False for neither.

    >>> wanted("bytes=10-", 100), wanted("bytes=-10", 100)
    (Span(first=10, last=99, size=100), Span(first=90, last=99, size=100))
    >>> wanted("bytes=0-1,5-6", 100) is None, wanted("bytes=100-", 100)
    (True, False)
    """
    match = _RANGE.fullmatch((header or "").replace(" ", ""))
    if match is None or match.groups() == ("", ""):
        return None  # another unit, several ranges, or malformed: ignored, as RFC 9110 asks
    first, last = match.groups()
    if not first:
        length = min(int(last), size)
        return Span(size - length, size - 1, size) if length else False
    start, end = int(first), min(int(last), size - 1) if last else size - 1
    if last and int(last) < start:
        return None
    return Span(start, end, size) if start < size else False


def describe(file: BinaryIO, name: str) -> Served:
    """Return size and validators of an open file, so that they are of the very bytes sent."""
    info = os.fstat(file.fileno())
    if not stat.S_ISREG(info.st_mode):
        raise UsageError(f"{name} is not a file", code="not_found")
    return Served(
        size=info.st_size,
        etag=f'"{info.st_ino:x}-{info.st_size:x}-{info.st_mtime_ns:x}"',
        modified=formatdate(info.st_mtime, usegmt=True),
        lasting=_CONTENT_NAMED.match(name) is not None,
    )


def headers_of(served: Served) -> dict[str, str]:
    """Return the headers that every answer about a file has."""
    return {
        "accept-ranges": "bytes",
        "etag": served.etag,
        "last-modified": served.modified,
        # Consistent snapshots: a name with a hash or a number never gets other content.
        "cache-control": "public, max-age=31536000, immutable" if served.lasting else "no-cache",
        "x-content-type-options": "nosniff",
    }


def media_type(name: str) -> str:
    """Return the media type of a repository file."""
    if name.endswith(".json"):
        return "application/json"
    return "application/zstd" if name.endswith(".zst") else "application/octet-stream"


async def _blocks(file: BinaryIO, first: int, length: int) -> AsyncIterator[bytes]:
    try:
        await asyncio.to_thread(file.seek, first)
        left = length
        while left:
            block = await asyncio.to_thread(file.read, min(BLOCK_BYTES, left))
            if not block:
                # Truncated under us: end short, so that the client sees a broken transfer.
                return
            left -= len(block)
            yield block
    finally:
        file.close()


def _open(root: Path, path: str) -> tuple[BinaryIO, Served, str]:
    found = locate(root, path)
    try:
        file = found.open("rb")
    except OSError as error:
        raise UsageError(f"the repository has no {path!r}", code="not_found") from error
    return file, describe(file, found.name), found.name


_RESPONSES: dict[int, ResponseSpec] = {
    206: ResponseSpec(bytes, description="the bytes that Range asked for", generate_examples=False),
    304: ResponseSpec(
        None, description="If-None-Match holds: nothing new", generate_examples=False
    ),
    416: ResponseSpec(None, description="Range begins beyond the file", generate_examples=False),
}
FilePath = Annotated[
    str,
    PathParameter(
        description="below the repository", examples=[Example(value="metadata/timestamp.json")]
    ),
]


@get(
    "/repository/{file_path:path}",
    tags=["repository"],
    summary="Fetch repository file",
    media_type="application/octet-stream",
    responses=_RESPONSES,
)
async def repository_file(request: Request[Any, Any, Any], file_path: FilePath) -> Response[Any]:
    """Return a file or a range of it; resumable by ETag and If-Range."""
    file, served, name = await asyncio.to_thread(_open, request.app.state.repository, file_path)
    headers = headers_of(served)
    kind = media_type(name)
    if served.etag in request.headers.get("if-none-match", ""):
        file.close()
        return Response(b"", status_code=304, media_type=kind, headers=headers)
    span: Span | bool | None = wanted(request.headers.get("range"), served.size)
    condition = request.headers.get("if-range")
    if condition is not None and condition not in {served.etag, served.modified}:
        span = None  # the file changed since the client's first part: it needs all of it
    if span is False:
        file.close()
        headers["content-range"] = f"bytes */{served.size}"
        return Response(b"", status_code=416, media_type=kind, headers=headers)
    if not isinstance(span, Span):
        span, status = Span(0, served.size - 1, served.size), 200
    else:
        status = 206
        headers["content-range"] = f"bytes {span.first}-{span.last}/{span.size}"
    headers["content-length"] = str(span.length)
    return Stream(
        _blocks(file, span.first, span.length), status_code=status, media_type=kind, headers=headers
    )


@head(
    "/repository/{file_path:path}",
    tags=["repository"],
    summary="Ask about repository file",
    responses={},
)
async def repository_head(request: Request[Any, Any, Any], file_path: FilePath) -> Response[None]:
    """Return size and validators of a file."""
    file, served, name = await asyncio.to_thread(_open, request.app.state.repository, file_path)
    file.close()
    headers = {**headers_of(served), "content-length": str(served.size)}
    nothing: Any = b""  # what Litestar can encode in any media type
    return Response(nothing, media_type=media_type(name), headers=headers)
