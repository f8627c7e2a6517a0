"""Which transport a repository's address asks for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from whimbrel_agent.update.folder_transport import FolderTransport

if TYPE_CHECKING:
    from whimbrel_agent.update.transport import Transport


def transport(url: str, *, ca: str = "", timeout_s: float = 30.0) -> Transport:
    """Return the transport for a repository's ``url`` (http, https, or a folder's path)."""
    if url.startswith(("http://", "https://")):
        # Control, which only moves files, does without the 30 ms and 5 MB of an HTTP client.
        from whimbrel_agent.update.http_transport import HttpTransport

        return HttpTransport(url, ca=ca, timeout_s=timeout_s)
    return FolderTransport(url)
