"""Pack and publish one version of the demo's model, with the commands of a build machine.

What is packed, and what has to hold before it is signed, is said in the recipe beside this file.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import msgspec

from examples.flights.processes import whimbrel_json, whimbrel_text

if TYPE_CHECKING:
    from collections.abc import Callable

RECIPE: Final = Path(__file__).with_name("whimbrel.toml")
MODEL: Final = "flights"


class BuildMachine(msgspec.Struct, frozen=True):
    """Where things are on the build machine, all below ``work``."""

    work: Path

    @property
    def repository(self) -> Path:
        """The TUF repository: metadata and bundles."""
        return self.work / "repository"

    @property
    def keys(self) -> Path:
        """The publisher's offline keys: on a real build machine, nowhere else."""
        return self.work / "keys"

    def model_folder(self, version: str) -> Path:
        """What `train` leaves for one version."""
        return self.work / "models" / version

    def release(self, version: str, say: Callable[[str], None]) -> dict[str, Any]:
        """Convert, prove, sign and publish one version; return what ``pack`` told."""
        folder = self.model_folder(version)
        packed: dict[str, Any] = self._run(
            say,
            "pack", str(folder / "model.joblib"), "--recipe", str(RECIPE),
            "--reference", str(folder / "data.npz"), "--version", version,
            "--key", str(self.keys / "bundle.pem"),
            "--repo", str(self.repository), "--out", str(folder),
        )  # fmt: skip
        self._run(
            say, "publish", packed["path"], "--repo", str(self.repository), "--keys", str(self.keys)
        )
        return packed

    def _run(self, say: Callable[[str], None], *arguments: str) -> Any:  # noqa: ANN401 - JSON
        say(whimbrel_text(self.work, arguments))
        return whimbrel_json(*arguments)
