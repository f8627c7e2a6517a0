"""A publisher's repository with real signed bundles, and a server's folder over it."""

from __future__ import annotations

import dataclasses
from datetime import datetime, timezone
from typing import TYPE_CHECKING

from tests.support.founded import founded
from tests.support.models import MadeBundle, Recipe, build_bundle, logistic
from whimbrel_core.signing.keys import PrivateKey
from whimbrel_packager.repository.publishing import publish

if TYPE_CHECKING:
    from pathlib import Path

    from whimbrel_packager.repository.repository import Repository


@dataclasses.dataclass
class House:
    """A publisher: its repository, keys, and what it published, by version."""

    folder: Path
    repository: Repository
    bundles: dict[str, MadeBundle]

    @property
    def keys(self) -> Path:
        """The publisher's offline keys."""
        return self.folder / "keys"

    @property
    def online(self) -> Path:
        """The keys that the fleet server holds."""
        return self.folder / "online"

    @property
    def fleet_key(self) -> PrivateKey:
        """The key that signs assignments."""
        return PrivateKey.from_pem((self.online / "fleet.pem").read_bytes())

    def publish(
        self,
        version: str,
        *,
        recipe: Recipe | None = None,
        release: int | None = None,
        window_s: int = 300,
        min_rows: int = 100,
        name: str = "churn",
        online: bool = True,
    ) -> MadeBundle:
        """Build, sign and publish a version; without ``online`` the server signs the rest."""
        made = build_bundle(
            self.folder / "built",
            recipe or logistic(6),
            name=name,
            version=version,
            release=release or len(self.bundles) + 1,
            key=PrivateKey.from_pem((self.keys / "bundle.pem").read_bytes()),
            window_s=window_s,
            min_rows=min_rows,
        )
        now = datetime.now(timezone.utc)
        publish(
            self.repository, made.path, self.keys, now=now, online=self.online if online else None
        )
        self.bundles[version] = made
        return made


def build_house(folder: Path) -> House:
    """Return a publisher with an empty repository."""
    repository = founded(
        folder / "repository",
        folder / "keys",
        folder / "online",
        now=datetime.now(timezone.utc),
    )
    return House(folder, repository, {})
