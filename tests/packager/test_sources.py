from __future__ import annotations

import sys
import warnings
from typing import TYPE_CHECKING

import joblib
import numpy as np
import onnx
import pandas as pd
import pytest
from onnx import TensorProto, helper, numpy_helper
from sklearn.calibration import CalibratedClassifierCV
from sklearn.cluster import KMeans
from sklearn.compose import make_column_transformer
from sklearn.dummy import DummyClassifier
from sklearn.ensemble import (
    AdaBoostClassifier,
    BaggingClassifier,
    ExtraTreesClassifier,
    GradientBoostingClassifier,
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    RandomForestClassifier,
    RandomForestRegressor,
)
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LinearRegression, LogisticRegression, Ridge
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, OrdinalEncoder, StandardScaler
from sklearn.svm import LinearSVC
from sklearn.tree import DecisionTreeClassifier

from tests.packager.proving import convert, prove
from whimbrel_core.errors import ConversionError, InputError, UsageError
from whimbrel_packager import frame, sources
from whimbrel_packager.sources import Options

if TYPE_CHECKING:
    from pathlib import Path

    from whimbrel_packager.untyped import Estimator, Proto

ROWS = 600
LETTERS = list("abcd")


def table(*, missing: bool = False) -> pd.DataFrame:
    rng = np.random.default_rng(3)
    made = pd.DataFrame(rng.normal(size=(ROWS, 4)), columns=LETTERS)
    if missing:
        made = made.mask(rng.random(made.shape) < 0.2)
    made["count"] = rng.integers(0, 50, ROWS)
    made["flag"] = rng.random(ROWS) < 0.3
    made["word"] = rng.choice(["x", "yy", "z"], ROWS)
    return made


def target() -> np.ndarray:
    full = table()
    noise = np.random.default_rng(4).normal(size=ROWS) / 3
    risk = full.a + full.b * full.c + (full.word == "x") * full["count"] / 20 + noise
    return np.asarray(risk > 0.4)


def value() -> np.ndarray:
    return np.asarray(table().a * 100 + table()["count"])


def fitted(model: Estimator, x: Estimator, y: Estimator) -> Estimator:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return model.fit(x, y)


def columns(*numbers: Estimator) -> Estimator:
    encoder = OneHotEncoder(handle_unknown="ignore")
    return make_column_transformer(*numbers, (encoder, ["word"]))


NUMBERS, MISSING = table()[LETTERS], table(missing=True)[LETTERS]
MODELS = {
    "histogram boosting": (HistGradientBoostingClassifier(max_iter=10), NUMBERS, target()),
    "histogram boosting, NaN": (HistGradientBoostingClassifier(max_iter=10), MISSING, target()),
    "histogram boosting, matrix": (
        HistGradientBoostingClassifier(max_iter=10),
        MISSING.to_numpy(),
        target(),
    ),
    "histogram regression": (
        HistGradientBoostingRegressor(max_iter=10),
        table().drop(columns="word"),
        value(),
    ),
    "forest": (RandomForestClassifier(10, max_depth=5, random_state=0), NUMBERS, target()),
    "forest, NaN": (RandomForestClassifier(10, max_depth=5, random_state=0), MISSING, target()),
    "extra trees, NaN": (ExtraTreesClassifier(10, max_depth=5, random_state=0), MISSING, target()),
    "forest regression": (RandomForestRegressor(10, max_depth=5), NUMBERS.to_numpy(), value()),
    "boosting, three classes": (
        GradientBoostingClassifier(n_estimators=4),
        NUMBERS,
        np.where(NUMBERS.a > 1, "high", np.where(NUMBERS.a < -1, "low", "mid")),
    ),
    "tree": (DecisionTreeClassifier(max_depth=5), table().drop(columns="word"), target()),
    "scaled logistic": (make_pipeline(StandardScaler(), LogisticRegression()), NUMBERS, target()),
    "columns and words": (
        make_pipeline(
            columns((StandardScaler(), LETTERS), ("passthrough", ["count", "flag"])),
            LogisticRegression(max_iter=500),
        ),
        table(),
        target(),
    ),
    "imputed columns": (
        make_pipeline(
            columns((make_pipeline(SimpleImputer(), StandardScaler()), LETTERS)),
            LogisticRegression(max_iter=500),
        ),
        table(missing=True),
        target(),
    ),
    "ordinals and boosting": (
        make_pipeline(
            make_column_transformer(
                ("passthrough", [*LETTERS, "count"]),
                (
                    OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1),
                    ["word"],
                ),
            ),
            HistGradientBoostingClassifier(max_iter=10),
        ),
        table(missing=True),
        target(),
    ),
    "network": (
        make_pipeline(StandardScaler(), MLPClassifier((6,), max_iter=20)),
        NUMBERS,
        target(),
    ),
    "ridge": (make_pipeline(StandardScaler(), Ridge()), NUMBERS, value()),
    "line": (LinearRegression(), table().drop(columns="word"), value()),
    "support vectors": (LinearSVC(), NUMBERS, target()),
    "calibrated": (
        CalibratedClassifierCV(GradientBoostingClassifier(n_estimators=4), cv=2),
        NUMBERS,
        target(),
    ),
    "calibrated linear": (
        CalibratedClassifierCV(LogisticRegression(), cv=2),
        NUMBERS,
        target(),
    ),
    "bagging": (BaggingClassifier(DecisionTreeClassifier(max_depth=4), 4), NUMBERS, target()),
    "AdaBoost": (AdaBoostClassifier(n_estimators=4), NUMBERS, target()),
}


@pytest.mark.parametrize("name", MODELS)
def test_a_model_is_converted_and_proven(name: str) -> None:
    model, x, y = MODELS[name]
    run = prove(fitted(model, x, y), x)
    assert run.proof.cases["real"] == ROWS
    description = run.done.result.description
    inputs = [name for name, _, _ in run.done.result.inputs]
    if isinstance(x, pd.DataFrame):
        assert inputs == list(description.columns)
        assert description.matrix is None
    else:
        assert inputs == [description.matrix] == ["features"]
    assert 0 < run.done.result.opsets.get("", 1) <= 18


def test_columns_named_like_tensors_inside_the_model_do_not_clash() -> None:
    x = NUMBERS.set_axis(["label", "probabilities", "features", "input"], axis=1)
    run = prove(fitted(LogisticRegression(), x, target()), x)
    assert [name for name, _, _ in run.done.result.inputs] == list(x.columns)
    assert list(run.done.result.description.roles.values()) == ["label", "probabilities"]


def test_integer_and_word_columns_keep_their_type() -> None:
    model, x, y = MODELS["columns and words"]
    kinds = {n: k for n, k, _ in prove(fitted(model, x, y), x).done.result.inputs}
    assert (kinds["a"], kinds["count"], kinds["flag"], kinds["word"]) == (
        "FP32",
        "INT64",
        "INT64",
        "BYTES",
    )


def test_rows_that_the_source_refuses_are_left_out_and_counted() -> None:
    run = prove(fitted(LogisticRegression(), NUMBERS, target()), NUMBERS)
    assert run.proof.refused == {"infinity": 16, "nan": 20}
    assert "nan" not in run.proof.cases


@pytest.mark.parametrize(
    ("model", "says"),
    [
        (
            KMeans(2, n_init=1),
            "KMeans is neither a classifier, a regressor nor an outlier detector",
        ),
        (
            DummyClassifier(),
            "DummyClassifier cannot be converted: no converter for DummyClassifier",
        ),
    ],
    ids=["clusters", "dummy"],
)
def test_what_cannot_be_converted_is_refused_by_name(
    model: Estimator, says: str, tmp_path: Path
) -> None:
    with pytest.raises(ConversionError, match=says) as caught:
        convert(fitted(model, NUMBERS, target()), NUMBERS, tmp_path)
    assert caught.value.hint


def test_a_model_that_is_not_fitted_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConversionError, match="LogisticRegression is not fitted"):
        convert(LogisticRegression(), NUMBERS, tmp_path)


def test_a_pickle_needs_permission(tmp_path: Path) -> None:
    joblib.dump(LogisticRegression(), tmp_path / "m.joblib")
    with pytest.raises(UsageError, match="is a pickle") as caught:
        sources.open_source(tmp_path / "m.joblib", Options())
    assert caught.value.code == "usage.pickle"


def test_skops_files_are_read_when_every_type_in_them_is_trusted(tmp_path: Path) -> None:
    skops = pytest.importorskip("skops.io")
    path = tmp_path / "model.skops"
    skops.dump(MODELS["forest"][0].fit(NUMBERS, target()), path)
    with pytest.raises(UsageError, match=r"not trusted: sklearn\.tree\._tree\.Tree") as caught:
        sources.open_source(path, Options())
    assert caught.value.hint == "if you know them, give --trusted sklearn.tree._tree.Tree"
    assert prove(path, NUMBERS, allow_pickle=False, trusted=("sklearn.tree._tree.Tree",)).proof.rows
    skops.dump(MODELS["calibrated linear"][0].fit(NUMBERS, target()), path)
    assert prove(path, NUMBERS, allow_pickle=False).proof.rows


def test_a_damaged_pickle_is_bad_input(tmp_path: Path) -> None:
    (tmp_path / "m.pkl").write_bytes(b"no pickle at all")
    with pytest.raises(InputError, match="cannot be loaded"):
        sources.open_source(tmp_path / "m.pkl", Options(allow_pickle=True))


def test_another_suffix_is_no_model(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"a model file ends in \.onnx, \.skops"):
        sources.framework_of(tmp_path / "model.h5")


def linear(
    *, batch: str | int | None = None, width: int = 4, kind: int = TensorProto.FLOAT
) -> Proto:
    """Raw ONNX: y = softmax(x · w)."""
    weights = np.random.default_rng(5).normal(size=(width, 3)).astype(np.float32)
    graph = helper.make_graph(
        [
            helper.make_node("MatMul", ["x", "w"], ["z"]),
            helper.make_node("Softmax", ["z"], ["p"], axis=1),
        ],
        "graph of a build machine",
        [helper.make_tensor_value_info("x", kind, [batch, width])],
        [helper.make_tensor_value_info("p", TensorProto.FLOAT, [batch, 3])],
        [numpy_helper.from_array(weights, "w")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    model.producer_name = "somebody"
    return model


def test_raw_onnx_is_proven_against_itself_without_optimisations() -> None:
    run = prove(linear(batch="N"), NUMBERS.to_numpy(), classes=("a", "b", "c"))
    description = run.done.result.description
    assert description.roles == {"p": "probabilities"}
    assert description.classes == ("a", "b", "c")
    assert description.matrix == "x"
    assert run.proof.rows > ROWS


def test_raw_onnx_with_one_input_per_column_reads_columns_by_name() -> None:
    inputs = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [None, 1]) for n in ("b", "a")]
    graph = helper.make_graph(
        [helper.make_node("Add", ["b", "a"], ["sum"])],
        "g",
        inputs,
        [helper.make_tensor_value_info("sum", TensorProto.FLOAT, [None, 1])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    run = prove(model, table())
    assert run.frame.names == ("b", "a")
    assert run.done.result.description.task == "regression"
    assert run.done.result.description.roles == {"sum": "value"}


def test_raw_onnx_of_types_that_no_request_has_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(ConversionError, match="has the type FLOAT16"):
        convert(linear(batch="N", kind=TensorProto.FLOAT16), NUMBERS.to_numpy(), tmp_path)


def test_a_file_that_is_no_onnx_is_bad_input(tmp_path: Path) -> None:
    (tmp_path / "m.onnx").write_bytes(b"\x00garbage")
    with pytest.raises(InputError, match="is not an ONNX model"):
        sources.open_source(tmp_path / "m.onnx", Options())


def test_the_wrong_number_of_columns_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="input 'x' has 4 columns, the reference data has 3"):
        convert(linear(batch="N"), NUMBERS.to_numpy()[:, :3], tmp_path)


def test_external_data_beside_the_model_is_taken_in(tmp_path: Path) -> None:
    model = linear(batch="N")
    onnx.save(model, tmp_path / "m.onnx", save_as_external_data=True, size_threshold=0,
              location="weights.bin")  # fmt: skip
    source = sources.open_source(tmp_path / "m.onnx", Options())
    assert (tmp_path / "weights.bin").is_file()
    proto, _ = source.convert(frame.of(NUMBERS.to_numpy()))
    (tmp_path / "weights.bin").unlink()
    onnx.checker.check_model(proto)
    assert numpy_helper.to_array(proto.graph.initializer[0]).shape == (4, 3)


@pytest.mark.parametrize("location", ["../secret", "/etc/hostname", "gone.bin"])
def test_external_data_elsewhere_is_refused(location: str, tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(b"x" * 48)
    folder = tmp_path / "model"
    folder.mkdir()
    model = linear(batch="N")
    onnx.save(model, folder / "m.onnx", save_as_external_data=True, size_threshold=0,
              location="weights.bin")  # fmt: skip
    proto = onnx.load(folder / "m.onnx", load_external_data=False)
    for entry in proto.graph.initializer[0].external_data:
        if entry.key == "location":
            entry.value = location
    (folder / "m.onnx").write_bytes(proto.SerializeToString())
    with pytest.raises(ConversionError, match=r"tensor 'w' is stored in"):
        sources.open_source(folder / "m.onnx", Options())


@pytest.mark.parametrize(
    ("name", "missing", "extra"),
    [("m.pt2", "torch", "[torch]"), ("m.pt", "torch", "[torch]"), ("m.keras", "keras", "[keras]")],
)
def test_a_missing_framework_is_named_with_its_extra(
    name: str, missing: str, extra: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, missing, None)
    (tmp_path / name).write_bytes(b"")
    with pytest.raises(UsageError, match=f"needs {missing}, which is not installed") as caught:
        sources.open_source(tmp_path / name, Options())
    assert extra in (caught.value.hint or "")
    assert caught.value.code == "usage.extra"
