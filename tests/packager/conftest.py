"""One small model of the demo's kind, packed once through the real commands, and its keys."""

from __future__ import annotations

import io
import json
from typing import TYPE_CHECKING, Any, NamedTuple

import joblib
import msgspec
import numpy as np
import pandas as pd
import pytest
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import OrdinalEncoder

from tests.packager.command import whimbrel
from whimbrel_core.bundle import bundle as bundles
from whimbrel_packager.signing import keyfiles

if TYPE_CHECKING:
    from pathlib import Path

NUMBERS = ["temp", "wind", "hour"]


class Packed(NamedTuple):
    folder: Path
    model: Path
    data: Path
    key: Path
    bundle: Path
    result: dict[str, Any]

    @property
    def content(self) -> bytes:
        return self.bundle.read_bytes()

    def again(
        self, version: str, release: int, key: Path | None = None, **changes: object
    ) -> bytes:
        """The same bundle under another version, signed again."""
        signer = keyfiles.private(key or self.key)
        opened = bundles.open_bundle(io.BytesIO(self.content), [keyfiles.public(self.key)])
        files = {name: opened.read(name) for name in opened.names}
        manifest = msgspec.structs.replace(
            opened.manifest,
            version=version,
            release=release,
            **changes,
        )
        return bundles.build({**files, bundles.MANIFEST: manifest.encode()}, signer)


def late_flights(rows: int = 1500) -> tuple[pd.DataFrame, np.ndarray]:
    rng = np.random.default_rng(7)
    table = pd.DataFrame(
        {
            "temp": rng.normal(40, 15, rows).astype(np.float32),
            "wind": rng.gamma(2, 5, rows).astype(np.float32),
            "hour": rng.integers(5, 24, rows).astype(np.float32),
            "carrier": rng.choice(["AA", "B6", "UA"], rows),
        }
    )
    table.loc[rng.random(rows) < 0.1, "wind"] = np.nan
    risk = (table.hour - 12) / 6 + table.wind.fillna(10) / 20 + (table.carrier == "B6") - 1.5
    return table, (rng.random(rows) < 1 / (1 + np.exp(-risk))).to_numpy()


@pytest.fixture(scope="session")
def material(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A model file and its reference data."""
    folder = tmp_path_factory.mktemp("material")
    table, late = late_flights()
    columns = ColumnTransformer(
        [
            ("numbers", "passthrough", NUMBERS),
            (
                "words",
                OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1),
                ["carrier"],
            ),
        ]
    )
    boosting = HistGradientBoostingClassifier(max_iter=15, max_leaf_nodes=8, random_state=0)
    held_out = np.arange(len(table)) % 3 == 0
    model = Pipeline([("columns", columns), ("boosting", boosting)])
    model.fit(table[~held_out], late[~held_out])
    joblib.dump(model, folder / "model.joblib")
    arrays = {name: table[name].to_numpy() for name in NUMBERS}
    carriers = table["carrier"].to_numpy(dtype=str)
    np.savez(folder / "data.npz", **arrays, carrier=carriers, late=late, held_out=held_out)
    return folder / "model.joblib", folder / "data.npz"


@pytest.fixture(scope="session")
def packed(material: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Packed:
    folder = tmp_path_factory.mktemp("packed")
    model, data = material
    keyfiles.create(folder / "keys", "bundle")
    key = folder / "keys" / "bundle.pem"
    done = whimbrel(
        "pack", model, "--name", "flights", "--version", "1.0.0", "--reference", data,
        "--label", "late", "--held-out", "held_out", "--positive", "true", "--key", key,
        "--out", folder, "--allow-pickle", "--units", "temp=degF", "--param", "trees=15",
        "--window-s", 86_400, "--json",
    )  # fmt: skip
    assert done.code == 0, done.err
    return Packed(folder, model, data, key, folder / "flights-1.0.0.whim", json.loads(done.out))
