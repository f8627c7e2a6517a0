from __future__ import annotations

import io
import json
import resource
import zipfile
from typing import TYPE_CHECKING

import numpy as np
import onnxruntime
import pytest
from sklearn.ensemble import HistGradientBoostingRegressor
from sklearn.linear_model import LogisticRegression

import whimbrel_packager
from tests.packager.command import whimbrel
from tests.packager.conftest import Packed, late_flights
from tests.packager.proving import InProcess
from tests.packager.test_sources import linear
from whimbrel_core.bundle import bundle as bundles
from whimbrel_core.bundle import parity
from whimbrel_core.errors import InputError, StorageError, UsageError
from whimbrel_core.profile.baseline import Baseline
from whimbrel_core.profile.quality.estimates import expected, expected_of
from whimbrel_packager import build, bundle_file, contents
from whimbrel_packager.pages import report
from whimbrel_packager.signing import keyfiles
from whimbrel_packager.sources import Options

if TYPE_CHECKING:
    from pathlib import Path


def opened(packed: Packed) -> bundles.Bundle:
    return bundles.open_bundle(io.BytesIO(packed.content), [keyfiles.public(packed.key)])


def test_a_packed_model_is_signed_and_states_what_it_is(packed: Packed) -> None:
    manifest = opened(packed).manifest
    assert (manifest.name, manifest.version, manifest.release) == ("flights", "1.0.0", 1)
    assert [(t.name, t.datatype, t.shape) for t in manifest.inputs] == [
        ("temp", "FP32", (-1, 1)),
        ("wind", "FP32", (-1, 1)),
        ("hour", "FP32", (-1, 1)),
        ("carrier", "BYTES", (-1, 1)),
    ]
    assert [(o.name, o.role) for o in manifest.outputs] == [
        ("label", "label"),
        ("probabilities", "probabilities"),
    ]
    assert (manifest.classes, manifest.positive) == (("0", "1"), 1)
    assert manifest.drift.window_s == 86_400
    assert manifest.training == {"trees": "15"}
    assert (
        manifest.source.estimator == "Pipeline(ColumnTransformer, HistGradientBoostingClassifier)"
    )
    assert manifest.requirements.memory_bytes > 0
    assert 0.6 < manifest.metrics["auc"] < 1
    assert manifest.metrics["rows"] == 500
    assert manifest.parity.cases["threshold"] > 200
    assert {"nan", "infinity", "unseen", "empty", "missing", "magnitude"} <= set(
        manifest.parity.cases
    )


def test_the_model_inside_answers_its_own_parity_vectors(packed: Packed) -> None:
    bundle = opened(packed)
    vectors = parity.decode(bundle.read(bundles.PARITY))
    session = onnxruntime.InferenceSession(bundle.read(bundles.MODEL))
    names = [output.name for output in session.get_outputs()]

    def run(inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        return dict(zip(names, session.run(names, inputs), strict=True))

    result = parity.check(vectors, run)
    assert result.failures == ()
    assert 150 <= result.rows <= 200
    assert np.isnan(vectors.inputs["wind"]).any()
    assert "" in vectors.inputs["carrier"]


def test_the_baseline_profiles_inputs_and_scores_and_is_calibrated_on_held_out_rows(
    packed: Packed,
) -> None:
    baseline = Baseline.decode(opened(packed).read(bundles.BASELINE))
    assert baseline.profile_id == opened(packed).manifest.profile_id
    assert [(f.name, f.role) for f in baseline.layout.features] == [
        ("temp", "input"),
        ("wind", "input"),
        ("hour", "input"),
        ("carrier", "input"),
        ("label", "output"),
        ("probabilities[1]", "output"),
    ]
    assert baseline.layout.features[0].unit == "degF"
    assert baseline.window.rows == 1500
    assert baseline.stats[1].null_rate == pytest.approx(0.1, abs=0.03)
    calibration = baseline.calibration
    assert calibration is not None
    assert sum(calibration.true) + sum(calibration.false) == 500
    cells = tuple(map(sum, zip(calibration.true, calibration.false, strict=True)))
    measured = packed.result["report"]["metrics"]["auc"]
    assert expected(cells, calibration).auc == pytest.approx(measured, abs=0.02)


def test_materials_provenance_and_card_name_what_went_in(packed: Packed) -> None:
    bundle = opened(packed)
    bom = json.loads(bundle.read(bundles.SBOM))
    assert (bom["bomFormat"], bom["specVersion"]) == ("CycloneDX", "1.6")
    assert bom["metadata"]["component"]["type"] == "machine-learning-model"
    assert bom["metadata"]["component"]["hashes"][0]["content"] == bundle.digests[bundles.MODEL]
    assert {"scikit-learn", "skl2onnx"} <= {part["name"] for part in bom["components"]}
    statement = json.loads(bundle.read(bundles.PROVENANCE))
    assert statement["predicateType"] == "https://slsa.dev/provenance/v1"
    subjects = {s["name"]: s["digest"]["sha256"] for s in statement["subject"]}
    assert subjects.items() <= bundle.digests.items()
    card = bundle.read(bundles.CARD).decode()
    assert "| temp | numeric | degF |" in card
    assert "| auc |" in card


def test_any_zip_tool_lists_a_bundle(packed: Packed) -> None:
    with zipfile.ZipFile(packed.bundle) as archive:
        assert archive.testzip() is None
        assert sorted(archive.namelist()) == archive.namelist()


def test_with_a_fixed_date_equal_input_gives_equal_bytes(
    packed: Packed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
    made = []
    for turn in ("one", "two"):
        with InProcess():
            made.append(pack(packed, tmp_path / turn).path.read_bytes())
    assert made[0] == made[1]
    manifest, _ = bundles.inspect(io.BytesIO(made[0]))
    assert manifest.created == "2023-11-14T22:13:20Z"


def test_a_fitted_estimator_is_packed_from_python(packed: Packed, tmp_path: Path) -> None:
    table, late = late_flights()
    numbers = table[["temp", "hour"]]
    model = LogisticRegression().fit(numbers, late)
    with InProcess():
        result = whimbrel_packager.pack(
            model, numbers, late, name="simple", version="0.1.0", key=packed.key, out=tmp_path
        )
    assert result.path == tmp_path / "simple-0.1.0.whim"
    assert result.manifest.positive == 1
    assert [t.name for t in result.manifest.inputs] == ["temp", "hour"]
    assert result.report.metrics["auc"] > 0.5


def test_a_model_of_three_words_is_packed_with_its_classes(packed: Packed, tmp_path: Path) -> None:
    table, _ = late_flights()
    numbers = table[["temp", "hour"]]
    classes = np.where(table.hour < 10, "early", np.where(table.hour < 18, "day", "night"))
    model = LogisticRegression(max_iter=500).fit(numbers, classes)
    with InProcess():
        result = whimbrel_packager.pack(
            model, numbers, classes, name="times", version="1.0.0", key=packed.key, out=tmp_path
        )
    assert result.manifest.classes == ("day", "early", "night")
    assert result.manifest.positive is None
    assert [(o.name, o.datatype) for o in result.manifest.outputs] == [
        ("label", "BYTES"),
        ("probabilities", "FP32"),
    ]
    with result.path.open("rb") as file:
        bundle = bundles.open_bundle(file, [keyfiles.public(packed.key)])
        baseline = Baseline.decode(bundle.read(bundles.BASELINE))
    assert baseline.calibration is not None
    assert sum(baseline.calibration.right) / 1500 == pytest.approx(
        result.report.metrics["accuracy"]
    )
    assert [f.name for f in baseline.layout.features][2:] == [
        "label",
        "probabilities[day]",
        "probabilities[early]",
        "probabilities[night]",
    ]


def test_a_regression_is_packed_with_its_error(packed: Packed, tmp_path: Path) -> None:
    table, _ = late_flights()
    numbers = table[["temp", "hour"]]
    delay = (table.hour * 3 + table.temp / 10).to_numpy()
    model = HistGradientBoostingRegressor(max_iter=10, random_state=0).fit(numbers, delay)
    with InProcess():
        result = whimbrel_packager.pack(
            model, numbers, delay, name="delay", version="1.0.0", key=packed.key, out=tmp_path
        )
    assert result.manifest.task == "regression"
    assert [(o.name, o.role) for o in result.manifest.outputs] == [("variable", "value")]
    predicted = model.predict(numbers)
    mae = float(np.abs(predicted - delay).mean())
    assert result.report.metrics["mae"] == pytest.approx(mae, rel=1e-3)
    found = contents.read(io.BytesIO(result.path.read_bytes()), what="test")
    promised = expected_of(found.baseline.window, found.baseline)
    assert promised is not None
    assert promised.mae == pytest.approx(mae, rel=0.02)
    assert "Error by kind of row" in report.build(found)


def test_raw_onnx_is_packed_from_the_command_line(packed: Packed, tmp_path: Path) -> None:
    (tmp_path / "m.onnx").write_bytes(linear(batch="N", width=3).SerializeToString())
    data = np.random.default_rng(0).normal(size=(200, 3)).astype(np.float32)
    labels = np.array(["a", "b", "c"])[data.argmax(axis=1)]
    np.savez(tmp_path / "data.npz", X=data, kind=labels)
    with InProcess():
        done = whimbrel(
            "pack", tmp_path / "m.onnx", "--name", "raw", "--version", "1.0.0", "--reference",
            tmp_path / "data.npz", "--label", "kind", "--classes", "a,b,c", "--key", packed.key,
            "--out", tmp_path, "--json",
        )  # fmt: skip
    assert done.code == 0, done.err
    manifest = json.loads(done.out)["manifest"]
    assert manifest["classes"] == ["a", "b", "c"]
    assert manifest["inputs"] == [{"name": "x", "datatype": "FP32", "shape": [-1, 3]}]
    assert manifest["source"]["framework"] == "onnx"


def test_a_different_bundle_of_the_same_version_is_never_replaced(packed: Packed) -> None:
    before = packed.content
    with InProcess(), pytest.raises(UsageError, match="there already, with other content"):
        pack(packed, packed.folder, description="another")
    assert packed.content == before


def test_whoever_comes_second_with_the_same_version_does_not_win(
    packed: Packed, tmp_path: Path
) -> None:
    target = tmp_path / "flights-1.0.0.whim"
    target.write_bytes(b"made by somebody else in the meantime")
    with pytest.raises(UsageError, match="it was not touched"):
        bundle_file.write(target, packed.content, keyfiles.private(packed.key))
    assert target.read_bytes() == b"made by somebody else in the meantime"
    assert list(tmp_path.iterdir()) == [target]


def test_a_model_of_newer_operators_asks_for_the_runtime_it_was_proven_with(
    packed: Packed, tmp_path: Path
) -> None:
    data = np.random.default_rng(0).normal(size=(50, 3)).astype(np.float32)
    floors = []
    for opset in (18, 21):
        model = linear(batch="N", width=3)
        model.opset_import[0].version = opset
        with InProcess():
            result = whimbrel_packager.pack(
                model, data, name=f"opset{opset}", version="1.0.0", key=packed.key, out=tmp_path
            )
        floors.append(result.manifest.requirements.onnxruntime)
    assert floors == ["1.17", ".".join(onnxruntime.__version__.split(".")[:2])]


def test_a_full_disk_leaves_no_bundle_and_nothing_half_written(
    packed: Packed, tmp_path: Path
) -> None:
    bundle = packed.content
    target = tmp_path / "out" / "flights-1.0.0.whim"
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(bundle) // 2, hard))
    try:
        with pytest.raises(StorageError, match="the disk is full") as caught:
            bundle_file.write(target, bundle, keyfiles.private(packed.key))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert caught.value.code == "storage.full"
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.parametrize(
    ("changed", "code", "says"),
    [
        ({"--label": "delay"}, 3, "no column 'delay'"),
        ({"--version": "1.0"}, 3, "'1.0' is not a valid version"),
        ({"--name": "Flights!"}, 3, "is not a valid model name"),
        ({"--units": "tmp=degF"}, 2, "--units names tmp"),
        ({"--units": "degF"}, 2, "not of the form KEY=VALUE"),
        ({"--positive": "late"}, 2, "'late' is none of the classes: 0, 1"),
        ({"--key": "no.pem"}, 2, "no.pem cannot be read"),
        ({"--reference": "no.npz"}, 2, "there is no file no.npz"),
        ({"--reference": "no.xlsx"}, 2, "reference data is read from"),
        ({"--allow-pickle": None}, 2, "is a pickle, and loading one runs whatever code is in it"),
    ],
    ids=lambda value: (
        " ".join(map(str, next(iter(value.items())))) if isinstance(value, dict) else ""
    ),
)
def test_what_is_wrong_is_named_with_the_next_step_and_nothing_is_written(
    packed: Packed, tmp_path: Path, changed: dict[str, object], code: int, says: str
) -> None:
    options: dict[str, object] = {
        "--name": "flights", "--version": "1.0.0", "--reference": packed.data, "--label": "late",
        "--key": packed.key, "--out": tmp_path / "out", "--allow-pickle": "", **changed,
    }  # fmt: skip
    words = [w for k, v in options.items() if v is not None for w in ((k, v) if v != "" else (k,))]
    with InProcess():
        done = whimbrel("pack", packed.model, *words)
    assert done.code == code
    assert says in done.err
    assert "error: " in done.err
    assert not (tmp_path / "out").exists()


def test_a_label_that_the_model_does_not_know_is_named(packed: Packed, tmp_path: Path) -> None:
    table, late = late_flights()
    with (
        InProcess(),
        pytest.raises(InputError, match="label 2 is none of the model's classes: 0, 1"),
    ):
        whimbrel_packager.pack(
            packed.model, table, np.where(late, 2, 0), name="f", version="1.0.0", key=packed.key,
            out=tmp_path, options=Options(allow_pickle=True),
        )  # fmt: skip
    assert list(tmp_path.iterdir()) == []


def test_broken_reference_data_is_refused_by_name(packed: Packed, tmp_path: Path) -> None:
    broken = tmp_path / "data.npz"
    broken.write_bytes(packed.data.read_bytes()[:2000])
    done = whimbrel("pack", packed.model, "--name", "f", "--version", "1.0.0", "--reference",
                    broken, "--key", packed.key, "--allow-pickle")  # fmt: skip
    assert done.code == 3
    assert f"{broken} is not an npz of plain arrays" in done.err


def test_a_pickled_array_in_the_reference_data_is_not_unpickled(
    packed: Packed, tmp_path: Path
) -> None:
    np.savez(tmp_path / "data.npz", temp=np.array([{"a": 1}], dtype=object))
    done = whimbrel("pack", packed.model, "--name", "f", "--version", "1.0.0", "--reference",
                    tmp_path / "data.npz", "--key", packed.key, "--allow-pickle")  # fmt: skip
    assert done.code == 3
    assert "not an npz of plain arrays" in done.err


def test_the_release_counter_comes_from_the_repository(packed: Packed, tmp_path: Path) -> None:
    keys, online, repo = tmp_path / "keys", tmp_path / "online", tmp_path / "repo"
    assert (
        whimbrel("repo", "init", "--dir", repo, "--keys", keys, "--online-keys", online).code == 0
    )
    first = tmp_path / "a.whim"
    first.write_bytes(packed.again("1.0.0", 4, keys / "bundle.pem"))
    assert whimbrel("publish", first, "--repo", repo, "--keys", keys).code == 0
    with InProcess():
        done = whimbrel(
            "pack", packed.model, "--name", "flights", "--version", "1.1.0", "--reference",
            packed.data, "--key", keys / "bundle.pem", "--out", tmp_path, "--allow-pickle",
            "--repo", repo, "--json",
        )  # fmt: skip
    assert json.loads(done.out)["manifest"]["release"] == 5


def pack(packed: Packed, out: Path, **changed: object) -> build.PackResult:
    arguments = {"name": "flights", "version": "1.0.0", "key": packed.key, "label": "late",
                 "options": Options(allow_pickle=True), **changed}  # fmt: skip
    return build.pack(packed.model, packed.data, out=out, **arguments)  # type: ignore[arg-type]
