"""Boosters and model directories, beside what the corpus judges."""

from __future__ import annotations

import json
import shutil
import sys
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import catboost
import joblib
import lightgbm
import numpy as np
import pandas as pd
import pytest
import xgboost

from tests.packager.command import whimbrel
from tests.packager.corpus import booster_data as data
from tests.packager.corpus.mlflow_cases import HOME as MLFLOW
from tests.packager.corpus.mlflow_cases import weather
from tests.packager.proving import convert, prove
from whimbrel_core.errors import ConversionError, InputError, UsageError
from whimbrel_packager import frame, sources
from whimbrel_packager.conversion import canonical
from whimbrel_packager.signing import keyfiles
from whimbrel_packager.sources import Options, contents, given
from whimbrel_packager.sources.booster import BoosterSource

if TYPE_CHECKING:
    from collections.abc import Callable

FIXTURES = Path(__file__).parent / "fixtures/boosters"
X, TWO = data.matrix(), data.two()
SMALL: dict[str, Any] = {"n_estimators": 3, "max_depth": 2, "n_jobs": 1}


def classifier() -> xgboost.XGBClassifier:
    return xgboost.XGBClassifier(**SMALL).fit(X, TWO)


def of_words(framework: str) -> Any:  # noqa: ANN401 - a model of either
    x, y = data.mixed(), data.words_told()
    if framework == "xgboost":
        return xgboost.XGBClassifier(enable_categorical=True, **SMALL).fit(x, y)
    return lightgbm.LGBMClassifier(verbose=-1, **SMALL).fit(x, y)


# -------------------------------------------------------------------------------- files, objects


@pytest.mark.parametrize(
    ("start", "framework"),
    [
        (b'{"learner":{"attributes":{}', "xgboost"),
        (b'{\n "version": [3,2,0], "learner": {', "xgboost"),
        (b"{L\0\0\0\0\0\0\0\7learner{L", "xgboost"),
        (b"tree\nversion=v4\nnum_class=1", "lightgbm"),
        (b"CBM1\x10\0\0\0", "catboost"),
        (b'{\n"features_info":\n {', "catboost"),
    ],
)
def test_a_shared_suffix_is_told_by_the_content(
    start: bytes, framework: str, tmp_path: Path
) -> None:
    for suffix in sources.SHARED:
        path = tmp_path / f"model{suffix}"
        path.write_bytes(start)
        assert sources.framework_of(path) == framework


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "is no model of XGBoost, LightGBM or CatBoost"),
        (b"hello", "is no model of XGBoost, LightGBM or CatBoost"),
        (b"bs64\tYWJj", "the old binary format of XGBoost"),
        (bytes(130) + b"\x0f" + bytes(7) + b"reg:squarederror", "the old binary format of XGBoost"),
        (b'{"version": "1.0", "name": "x"}', "is JSON, but no model"),
        (b'{"tree_info": [], "num_tree_per_iteration": 1}', "a dump of LightGBM's"),
    ],
)
def test_what_is_no_model_is_refused_by_name(content: bytes, says: str, tmp_path: Path) -> None:
    path = tmp_path / "model.json"
    path.write_bytes(content)
    with pytest.raises(UsageError, match=says) as caught:
        sources.framework_of(path)
    assert caught.value.code == "usage.format"
    assert caught.value.hint


def test_a_folder_that_is_no_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="has neither an MLmodel of MLflow nor"):
        sources.framework_of(tmp_path)


@pytest.mark.parametrize("name", ["late.json", "late.txt", "late.model"])
def test_a_file_that_is_not_there_is_named(name: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=f"there is no model file .*{name}"):
        contents.framework(tmp_path / name)


@pytest.mark.parametrize(
    ("suffix", "content"),
    [
        (".ubj", b"{L\0\0\0\0\0\0\0\7learner"),
        (".json", b'{"learner": {"attributes": {'),
        (".txt", b"tree\nversion=v4\nnum_class=1\n"),
        (".cbm", b"CBM1 and then nothing of the kind"),
    ],
)
def test_a_damaged_file_is_bad_input(suffix: str, content: bytes, tmp_path: Path) -> None:
    path = tmp_path / f"model{suffix}"
    path.write_bytes(content)
    with pytest.raises(InputError, match="cannot be loaded by") as caught:
        sources.open_source(path, Options())
    assert caught.value.code == "input.model"


def test_a_bare_booster_is_handed_on_in_its_own_format(tmp_path: Path) -> None:
    rows = frame.of(X)
    light = lightgbm.LGBMClassifier(verbose=-1, **SMALL).fit(X, TWO).booster_
    for model, name in ((classifier().get_booster(), "given.ubj"), (light, "given.txt")):
        path, options = given.model_file(model, tmp_path, Options(), rows)
        assert path.name == name
        assert not options.allow_pickle
        assert isinstance(sources.open_source(path, options), BoosterSource)


def test_a_pickled_booster_needs_permission_like_any_pickle(tmp_path: Path) -> None:
    joblib.dump(classifier(), tmp_path / "m.joblib")
    with pytest.raises(UsageError, match="is a pickle"):
        sources.open_source(tmp_path / "m.joblib", Options())
    opened = sources.open_source(tmp_path / "m.joblib", Options(allow_pickle=True))
    assert opened.estimator == "XGBClassifier (binary:logistic)"


def test_a_subclass_of_a_wrapper_is_still_a_booster() -> None:
    class Late(xgboost.XGBClassifier):
        """Somebody's own."""

    assert sources.booster_of(Late()) == "xgboost"
    assert not sources.booster_of(np.zeros(1))


@pytest.mark.parametrize(
    ("package", "suffix"), [("xgboost", ".ubj"), ("lightgbm", ".txt"), ("catboost", ".cbm")]
)
def test_a_framework_that_is_missing_names_its_extra(
    package: str, suffix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / f"model{suffix}"
    path.write_bytes(b"tree\nversion=v4\n")
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(UsageError, match=f"reading model{suffix} needs {package}") as caught:
        sources.open_source(path, Options())
    assert caught.value.hint == f"pip install 'whimbrel-packager[{package}]'"


def test_a_file_of_xgboost_2_is_read_with_its_one_base_score() -> None:
    rows = np.random.default_rng(0).normal(size=(60, 3)).astype(np.float32)
    assert prove(FIXTURES / "xgboost-2.1.4.ubj", rows).proof.rows > len(rows)


@pytest.mark.parametrize("model", [
    xgboost.XGBClassifier(), lightgbm.LGBMRegressor(), catboost.CatBoostClassifier(),
], ids=["xgboost", "lightgbm", "catboost"])  # fmt: skip
def test_a_model_that_is_not_fitted_is_refused(model: Any) -> None:  # noqa: ANN401
    with pytest.raises(ConversionError, match="is not fitted"):
        sources.of_object(model, Options())


# --------------------------------------------------------------------------------- what is packed


def test_the_same_model_gives_the_same_bytes(tmp_path: Path) -> None:
    made = []
    for name in ("a.ubj", "b.json"):
        classifier().save_model(tmp_path / name)
        source = sources.open_source(tmp_path / name, Options())
        proto, _ = source.convert(frame.of(X))
        made.append(canonical.canonicalise(proto))
    assert made[0] == made[1]


def test_the_corpus_stands_on_every_threshold() -> None:
    source = sources.of_object(classifier(), Options())
    listed = source.thresholds()
    done = prove(classifier(), X).done
    assert done.result.thresholds == len(listed) > 3
    steps = done.corpus.frame.take(done.corpus.case == "threshold")
    for feature, threshold in listed:
        column = steps.columns[f"x{feature}"]
        for value in (threshold, np.nextafter(np.float32(threshold), np.float32(-np.inf))):
            assert np.isin(np.float32(value), column)


def test_classes_can_be_named() -> None:
    done = prove(classifier(), X, classes=("early", "late")).done
    assert done.result.description.classes == ("early", "late")
    assert {n: k for n, k, _ in done.result.outputs}["label"] == "BYTES"
    assert set(done.expected["label"]) == {"early", "late"}
    with pytest.raises(UsageError, match="names 3 classes, the model has 2"):
        sources.of_object(classifier(), Options(classes=("a", "b", "c")))


def test_boolean_classes_are_said_to_be_that() -> None:
    model = lightgbm.LGBMClassifier(verbose=-1, **SMALL).fit(X, TWO.astype(bool))
    description = prove(model, X).done.result.description
    assert description.boolean
    assert description.classes == ("0", "1")


def test_a_category_that_training_did_not_have_is_refused_by_xgboost_and_missing_to_lightgbm() -> (
    None
):
    assert prove(of_words("xgboost"), data.mixed()).proof.refused["unseen"] > 0
    proof = prove(of_words("lightgbm"), data.mixed()).proof
    assert "unseen" not in proof.refused
    assert proof.cases["unseen"] > 0


@pytest.mark.parametrize("framework", ["xgboost", "lightgbm"])
def test_words_are_inputs_and_a_device_is_told_what_becomes_of_unknown_ones(
    framework: str,
) -> None:
    result = prove(of_words(framework), data.mixed()).done.result
    kinds = {name: kind for name, kind, _ in result.inputs}
    assert (kinds["a"], kinds["count"], kinds["word"]) == ("FP32", "INT64", "BYTES")
    assert any("counts as missing" in note for note in result.description.notes)


def words_for_numbers(table: Any) -> Any:  # noqa: ANN401
    return table.assign(a=["w"] * data.ROWS)


def numbers_for_words(table: Any) -> Any:  # noqa: ANN401
    return table.assign(word=1.0)


def without(table: Any) -> Any:  # noqa: ANN401
    return table.drop(columns="word")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (words_for_numbers, "column 'a' holds words"),
        (numbers_for_words, "column 'word' holds numbers, .* on the categories 'x', 'yy', 'z'"),
        (without, "no column 'word'"),
    ],
)
def test_reference_data_that_does_not_fit_is_refused_by_column(
    change: Callable[[Any], Any], says: str, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=says) as caught:
        convert(of_words("lightgbm"), change(data.mixed()), tmp_path)
    assert caught.value.code == "input.column"


def test_the_number_of_columns_without_names_is_held(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="fitted on 5 columns without names"):
        convert(classifier(), X[:, :4], tmp_path)


def test_a_column_of_several_numbers_is_refused(tmp_path: Path) -> None:
    rows = {**{f"x{i}": X[:, i] for i in range(4)}, "x4": X[:, :2]}
    with pytest.raises(InputError, match="'x4' holds several numbers a row"):
        convert(classifier(), rows, tmp_path)


# ----------------------------------------------------------------------------------------- MLflow


def test_a_model_directory_is_packed_with_its_run(tmp_path: Path) -> None:
    rows = weather()
    rows.assign(late=(rows.temp + rows.wind > 27).astype(int)).to_csv(
        tmp_path / "data.csv", index=False
    )
    keyfiles.create(tmp_path, "bundle")
    done = whimbrel(
        "pack", MLFLOW / "xgboost", "--name", "late", "--version", "1.0.0",
        "--reference", tmp_path / "data.csv", "--label", "late",
        "--key", tmp_path / "bundle.pem", "--out", tmp_path, "--json",
    )  # fmt: skip
    assert done.code == 0, done.err
    with zipfile.ZipFile(tmp_path / "late-1.0.0.whim") as bundle:
        manifest = json.loads(bundle.read("manifest.json"))
        provenance = bundle.read("provenance.json").decode()
    assert manifest["lineage"]["runs"] == {"mlflow": "103dd183b52f4a91bb0d763444e727e1"}
    assert manifest["source"]["framework"] == "xgboost"
    assert [entry["name"] for entry in manifest["inputs"]] == ["temp", "wind"]
    assert '"mlflow.version"' in provenance
    assert "3.17.2" in provenance


def test_the_signature_orders_the_columns_of_a_model_without_names(tmp_path: Path) -> None:
    home = tmp_path / "model"
    shutil.copytree(MLFLOW / "sklearn", home)
    stated = (home / "MLmodel").read_text().replace("model.skops", "model.pkl")
    (home / "MLmodel").write_text(stated)
    rows = weather()
    model = xgboost.XGBRegressor(**SMALL).fit(rows[["temp", "wind"]].to_numpy(), rows.temp)
    joblib.dump(model, home / "model.pkl")
    assert rows.columns.tolist() == ["wind", "temp", "other"]
    assert prove(home, rows).frame.names == ("temp", "wind")


def test_a_signature_that_the_model_does_not_fit_is_refused(tmp_path: Path) -> None:
    home = tmp_path / "model"
    shutil.copytree(MLFLOW / "xgboost", home)
    stated = (home / "MLmodel").read_text()
    (home / "MLmodel").write_text(stated.replace('"name": "wind"', '"name": "gust"'))
    with pytest.raises(
        InputError, match="does not fit its own MLflow signature, of 'temp', 'gust'"
    ):
        convert(home, weather().assign(gust=0.0), tmp_path)


@pytest.mark.parametrize("text", ["", "- a\n- b", "flavors: {}", "flavors: 3", "a: &a [*a]", "\0"])
def test_an_mlmodel_that_says_nothing_is_bad_input(text: str, tmp_path: Path) -> None:
    (tmp_path / "MLmodel").write_text(text)
    with pytest.raises(InputError) as caught:
        sources.open_source(tmp_path, Options())
    assert caught.value.code == "input.model"
    assert caught.value.hint


def test_an_mlmodel_of_many_aliases_costs_nothing(tmp_path: Path) -> None:
    levels = ["a0: &a0 [x, x]", *(f"a{i}: &a{i} [*a{i - 1}, *a{i - 1}]" for i in range(1, 40))]
    stated = (MLFLOW / "xgboost/MLmodel").read_text()
    shutil.copytree(MLFLOW / "xgboost", tmp_path / "model")
    text = "\n".join([*levels, stated.replace("run_id: ", "run_id: *a39 #")])
    (tmp_path / "model/MLmodel").write_text(text)
    run = prove(tmp_path / "model", weather())
    assert "mlflow.run" not in run.done.result.description.lineage


def test_a_column_of_a_type_that_no_input_has_is_refused(tmp_path: Path) -> None:
    home = tmp_path / "model"
    shutil.copytree(MLFLOW / "xgboost", home)
    stated = (home / "MLmodel").read_text()
    changed = stated.replace(
        '"type": "double", "name": "temp"', '"type": "datetime", "name": "temp"'
    )
    assert changed != stated
    (home / "MLmodel").write_text(changed)
    with pytest.raises(ConversionError, match="column 'temp' has the type 'datetime'"):
        convert(home, pd.DataFrame(weather()), tmp_path)
