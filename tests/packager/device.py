"""A device's TUF client over any destination: what it sees is what was published."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from tuf.api.exceptions import DownloadHTTPError
from tuf.ngclient import (  # type: ignore[attr-defined]  # public, not listed
    FetcherInterface,
    Updater,
    UpdaterConfig,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from whimbrel_packager.destinations import Destination


class DestinationFetcher(FetcherInterface):
    """Reads what a destination keeps."""

    def __init__(self, place: Destination) -> None:
        self._place = place

    def _fetch(self, url: str) -> Iterator[bytes]:
        data = self._place.read(unquote(urlsplit(url).path).lstrip("/"))
        if data is None:
            raise DownloadHTTPError(f"no {url}", 404)
        yield data


def seen_bundles(place: Destination, home: Path, name: str, versions: Iterable[str]) -> set[str]:
    """Return the versions that a device which knows the first root alone fetches, verified."""
    home.mkdir(parents=True, exist_ok=True)
    root = place.read("metadata/1.root.json")
    assert root is not None
    client = Updater(
        str(home),
        "https://repo/metadata",
        target_dir=str(home),
        target_base_url="https://repo/targets",
        fetcher=DestinationFetcher(place),
        config=UpdaterConfig(prefix_targets_with_hash=True),
        bootstrap=root,
    )
    found = set()
    for version in versions:
        info = client.get_targetinfo(f"bundles/{name}/{name}-{version}.whim")
        if info is not None:
            client.download_target(info, str(home / "bundle"))
            found.add(version)
    return found
