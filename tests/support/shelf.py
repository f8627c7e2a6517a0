"""Really packed models on a shelf: made once with the packager, then copied by whoever needs them.

``good`` is version 1.0.0. ``better`` (1.1.0) says the same in another build. ``wrong`` (1.2.0) was
trained on answers that stood beside the wrong rows, so it is validly signed, plausible on its own
data, and wrong.
"""

from __future__ import annotations

import datetime as dt
import shutil
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from sklearn.linear_model import LogisticRegression

from tests.support.founded import founded
from whimbrel_core.bundle.manifest import DriftPolicy
from whimbrel_packager import pack
from whimbrel_packager.repository import publishing
from whimbrel_packager.repository.repository import Repository

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from whimbrel_packager import PackResult

MODEL = "churn"
COLUMNS = 3
WINDOW_S = 300
_WEIGHTS = np.array([2.0, -1.5, 1.0])


class Shelf(NamedTuple):
    """A publisher in ``folder``: ``repository`` (empty), ``keys``, ``online-keys``, and bundles."""

    folder: Path
    good: PackResult
    better: PackResult
    wrong: PackResult

    def copy(self, folder: Path) -> Path:
        """Return ``folder``, with a publisher of its own who has published ``good``."""
        shutil.copytree(self.folder, folder)
        publish(folder, self.good)
        return folder


def rows(count: int, seed: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Return ``count`` rows, (count, 3) float32, and what turned out to be true of each."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(count, COLUMNS)).astype(np.float32)
    return x, (x @ _WEIGHTS + rng.logistic(size=count) > 0).astype(np.int64)


def make_shelf(folder: Path) -> Shelf:
    """Pack all versions."""
    founded(folder / "repository", folder / "keys", folder / "online-keys", now=_now())
    return Shelf(
        folder,
        good=_pack(folder, "1.0.0", release=1, seed=1),
        better=_pack(folder, "1.1.0", release=2, seed=2),
        wrong=_pack(folder, "1.2.0", release=3, seed=3, sign=-1),
    )


def publish(publisher: Path, packed: PackResult) -> None:
    """Publish a bundle into a publisher's repository; its server signs the rest."""
    publishing.publish(
        Repository(publisher / "repository"), packed.path, publisher / "keys", now=_now()
    )


def _pack(folder: Path, version: str, *, release: int, seed: int, sign: int = 1) -> PackResult:
    x, y = rows(600, seed)
    model: Any = LogisticRegression().fit(sign * x, y)
    return pack(
        model,
        sign * x,
        y,
        name=MODEL,
        version=version,
        release=release,
        key=folder / "keys" / "bundle.pem",
        positive="1",
        out=folder,
        drift=DriftPolicy(window_s=WINDOW_S, min_rows=1),
    )


def _now() -> dt.datetime:
    return dt.datetime.now(dt.timezone.utc)
