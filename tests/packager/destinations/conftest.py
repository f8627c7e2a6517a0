"""A publisher, and devices that look at what it published."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import pytest

from tests.packager.device import seen_bundles
from tests.support.house import House, build_house
from tests.support.models import MadeBundle, build_bundle, logistic
from whimbrel_core.signing.keys import PrivateKey

if TYPE_CHECKING:
    from pathlib import Path

    from whimbrel_packager.destinations import Destination


class Publisher(NamedTuple):
    """A house, and three versions of one model that are signed and not yet published."""

    house: House
    made: dict[str, MadeBundle]

    @property
    def keys(self) -> Path:
        """The offline keys."""
        return self.house.keys

    @property
    def online(self) -> Path:
        """The online keys."""
        return self.house.online

    def path(self, version: str) -> Path:
        """Where a version's bundle is."""
        return self.made[version].path


def make_publisher(folder: Path) -> Publisher:
    """Return a publisher with a repository in a directory, and bundles."""
    house = build_house(folder)
    key = PrivateKey.from_pem((house.keys / "bundle.pem").read_bytes())
    made = {
        version: build_bundle(
            folder / "built",
            logistic(seed=release),
            name="churn",
            version=version,
            release=release,
            key=key,
        )
        for release, version in enumerate(("1.0.0", "1.1.0", "1.2.0"), start=1)
    }
    return Publisher(house, made)


@pytest.fixture(scope="module")
def publisher(tmp_path_factory: pytest.TempPathFactory) -> Publisher:
    """Bundles and keys; each test keeps a repository of its own."""
    return make_publisher(tmp_path_factory.mktemp("publisher"))


def seen(place: Destination, home: Path) -> set[str]:
    """Return the versions of churn that a new device fetches from there, whole."""
    return seen_bundles(place, home, "churn", ("1.0.0", "1.1.0", "1.2.0"))
