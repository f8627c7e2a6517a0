"""Whatever a model was made with: it is packed twice with equal bytes, and has its record."""

from __future__ import annotations

from typing import TYPE_CHECKING

import joblib
import numpy as np
import onnx
import pytest
import skops.io
from sklearn.ensemble import ExtraTreesClassifier, IsolationForest
from sklearn.linear_model import LogisticRegression

import whimbrel_packager
from tests.packager.conftest import late_flights
from tests.packager.proving import InProcess
from tests.packager.record.test_schemas import files, hold_to_their_schemas
from tests.packager.test_sources import linear
from whimbrel_core.bundle import bundle as bundles
from whimbrel_core.errors import InputError
from whimbrel_packager import rebuild
from whimbrel_packager.record import provenance
from whimbrel_packager.signing import keyfiles
from whimbrel_packager.sources import Options

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import pandas as pd

    from tests.packager.conftest import Packed

RUN = "0123456789abcdef0123456789abcdef"
TREE = "sklearn.tree._tree.Tree"


def reference(folder: Path) -> tuple[pd.DataFrame, np.ndarray, Path]:
    table, late = late_flights(300)
    numbers = table[["temp", "wind", "hour"]].fillna(0)
    path = folder / "data.npz"
    np.savez(path, **{name: numbers[name].to_numpy() for name in numbers})
    return numbers, late, path


def forest(folder: Path, x: pd.DataFrame, y: np.ndarray) -> Path:
    model = ExtraTreesClassifier(5, max_depth=4, random_state=2).fit(x, y)
    skops.io.dump(model, folder / "model.skops")
    return folder / "model.skops"


def detector(folder: Path, x: pd.DataFrame, y: np.ndarray) -> Path:
    joblib.dump(IsolationForest(n_estimators=5, random_state=2).fit(x), folder / "model.joblib")
    return folder / "model.joblib"


def weights_beside(folder: Path, x: pd.DataFrame, y: np.ndarray) -> Path:
    onnx.save(
        linear(batch="N", width=3), folder / "model.onnx", save_as_external_data=True,
        location="model.weights", size_threshold=0,
    )  # fmt: skip
    return folder / "model.onnx"


def xgboost(folder: Path, x: pd.DataFrame, y: np.ndarray) -> Path:
    library = pytest.importorskip("xgboost")
    model = library.XGBClassifier(n_estimators=5, max_depth=3, random_state=2, n_jobs=1)
    model.fit(x, y).save_model(folder / "model.ubj")
    return folder / "model.ubj"


def lightgbm(folder: Path, x: pd.DataFrame, y: np.ndarray) -> Path:
    library = pytest.importorskip("lightgbm")
    data = library.Dataset(x, y.astype(int))
    settings = {"objective": "binary", "verbose": -1, "seed": 2, "num_threads": 1}
    library.train(settings, data, 5).save_model(folder / "model.txt")
    return folder / "model.txt"


def catboost(folder: Path, x: pd.DataFrame, y: np.ndarray) -> Path:
    library = pytest.importorskip("catboost")
    model = library.CatBoostClassifier(
        iterations=5, depth=3, random_seed=2, thread_count=1, verbose=False, train_dir=str(folder),
        allow_writing_files=False,
    )  # fmt: skip
    model.fit(x, y.astype(int)).save_model(str(folder / "model.cbm"))
    return folder / "model.cbm"


def mlflow(folder: Path, x: pd.DataFrame, y: np.ndarray) -> Path:
    home = folder / "flights"
    home.mkdir()
    model = LogisticRegression(random_state=4).fit(x, y)
    skops.io.dump(model, home / "model.skops")
    (home / "MLmodel").write_text(
        "flavors:\n  sklearn:\n    pickled_model: model.skops\n"
        "    serialization_format: skops\n    sklearn_version: 1.9.1\n"
        f"mlflow_version: 3.17.2\nmodel_id: m-{RUN}\nrun_id: {RUN}\n"
    )
    return home


@pytest.mark.parametrize(
    "make", [forest, detector, weights_beside, xgboost, lightgbm, catboost, mlflow]
)
def test_a_model_is_made_again_from_its_record(
    packed: Packed, tmp_path: Path, make: Callable[[Path, pd.DataFrame, np.ndarray], Path]
) -> None:
    numbers, late, data = reference(tmp_path)
    model = make(tmp_path, numbers, late)
    key = keyfiles.private(packed.key)
    allowed = rebuild.Permissions(allow_pickle=True, trusted=(TREE,))
    with InProcess():
        path = whimbrel_packager.pack(
            model, data, name="again", version="1.0.0", key=key, out=tmp_path / "out",
            options=Options(allow_pickle=True, trusted=(TREE,)),
        ).path  # fmt: skip
        done = rebuild.rebuild(path, model, data, key=key, permissions=allowed)
    assert done.differences == ()
    assert (done.same, done.signature) == (True, "same")
    hold_to_their_schemas(path.read_bytes())
    assert str(tmp_path).encode() not in path.read_bytes()


def test_what_mlflow_says_of_a_model_is_in_its_lineage(packed: Packed, tmp_path: Path) -> None:
    numbers, late, data = reference(tmp_path)
    with InProcess():
        done = whimbrel_packager.pack(
            mlflow(tmp_path, numbers, late), data, name="again", version="1.0.0",
            key=keyfiles.private(packed.key), out=tmp_path,
        )  # fmt: skip
    assert done.manifest.lineage.runs == {"mlflow": RUN}
    assert done.manifest.lineage.seeds == {"random_state": 4}
    held = files(done.path.read_bytes())
    lineage = provenance.read(held[bundles.PROVENANCE], what="it").occasion.lineage
    assert lineage.dependencies[0].annotations == {
        "mlflow.model": f"m-{RUN}",
        "mlflow.version": "3.17.2",
    }


def test_weights_beside_a_model_are_held_against_the_record(packed: Packed, tmp_path: Path) -> None:
    numbers, late, data = reference(tmp_path)
    model = weights_beside(tmp_path, numbers, late)
    with InProcess():
        path = whimbrel_packager.pack(
            model, data, name="again", version="1.0.0", key=keyfiles.private(packed.key),
            out=tmp_path,
        ).path  # fmt: skip
    weights = bytearray((tmp_path / "model.weights").read_bytes())
    weights[0] ^= 1
    (tmp_path / "model.weights").write_bytes(bytes(weights))
    with pytest.raises(InputError, match=r"file of weights model\.weights is not what"):
        rebuild.rebuild(path, model, data)
