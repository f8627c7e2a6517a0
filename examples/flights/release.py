"""Pack and publish one version of the demo's model, with the commands of a build machine."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import msgspec

from examples.flights.data import UNITS
from examples.flights.processes import whimbrel_json, whimbrel_text

if TYPE_CHECKING:
    from collections.abc import Callable

MODEL: Final = "flights"
WINDOW_S: Final = 86_400
WARMUP_WINDOWS: Final = 21


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
            "pack", str(folder / "model.joblib"), "--allow-pickle",
            "--name", MODEL, "--version", version,
            "--reference", str(folder / "data.npz"), "--label", "late", "--positive", "1",
            "--held-out", "held_out", "--key", str(self.keys / "bundle.pem"),
            "--repo", str(self.repository), "--out", str(folder),
            "--window-s", str(WINDOW_S), "--warmup-windows", str(WARMUP_WINDOWS),
            *(f"--units={name}={unit}" for name, unit in UNITS.items()),
        )  # fmt: skip
        self._run(
            say, "publish", packed["path"], "--repo", str(self.repository), "--keys", str(self.keys)
        )
        return packed

    def _run(self, say: Callable[[str], None], *arguments: str) -> Any:  # noqa: ANN401 - JSON
        say(whimbrel_text(self.work, arguments))
        return whimbrel_json(*arguments)
