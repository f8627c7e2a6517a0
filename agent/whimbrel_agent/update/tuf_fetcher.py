"""TUF's way to our transport. Imported by the updater process alone: `tuf` costs 24 MB."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tuf.api.exceptions import DownloadError, DownloadHTTPError
from tuf.ngclient.fetcher import FetcherInterface

from whimbrel_agent.update.transport import NotInRepositoryError
from whimbrel_core.errors import WhimbrelError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from whimbrel_agent.update.transport import Transport

_NOT_FOUND = 404
SCHEME = "repo:"


class RepositoryFetcher(FetcherInterface):
    """Fetches metadata through a `Transport`; ``cause`` is the last error, with its hint."""

    def __init__(self, source: Transport) -> None:
        self._source = source
        self.cause: WhimbrelError | None = None

    def _fetch(self, url: str) -> Iterator[bytes]:
        try:
            yield from self._source.chunks(url.removeprefix(SCHEME))
        except NotInRepositoryError as error:
            # TUF asks for the next root until there is none: this is how it ends.
            self.cause = error
            raise DownloadHTTPError(error.message, _NOT_FOUND) from error
        except WhimbrelError as error:
            self.cause = error
            raise DownloadError(error.message) from error
