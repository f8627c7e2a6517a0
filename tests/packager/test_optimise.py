"""Networks made smaller: what is lost is measured, allowed or refused, and proven on a device."""

from __future__ import annotations

import io
import warnings
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import onnx
import pytest
from sklearn.ensemble import RandomForestClassifier
from sklearn.neural_network import MLPClassifier

import whimbrel_packager
from benchmarks import finetuned
from tests.packager.proving import InProcess
from whimbrel_agent.serving import engine
from whimbrel_core.bundle import bundle as bundles
from whimbrel_core.bundle import parity
from whimbrel_core.errors import GateError, UsageError
from whimbrel_packager.recipe import Recipe
from whimbrel_packager.repository import delta
from whimbrel_packager.signing import keyfiles
from whimbrel_packager.smaller import smaller
from whimbrel_packager.smaller.optimise import Optimise

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from whimbrel_packager.build import PackResult

    Array = np.ndarray[Any, Any]

BYTES = 40_000


class Material(NamedTuple):
    key: Path
    model: MLPClassifier
    x: Array
    y: Array


@pytest.fixture(scope="module")
def material(tmp_path_factory: pytest.TempPathFactory) -> Material:
    folder = tmp_path_factory.mktemp("keys")
    keyfiles.create(folder, "bundle")
    rng = np.random.default_rng(0)
    x = rng.normal(size=(600, 16)).astype(np.float32)
    y = (x[:, 0] * x[:, 1] + x[:, 2] > 0).astype(int)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it is not trained to the end
        model = MLPClassifier((64, 64), max_iter=40, random_state=0).fit(x, y)
    return Material(folder / "bundle.pem", model, x, y)


def packed(material: Material, out: Path, optimise: Optimise, **changes: Any) -> PackResult:  # noqa: ANN401
    given = {"model": material.model, "reference": material.x, "y": material.y, **changes}
    recipe = Recipe(name="net", version="1.0.0", optimise=optimise)
    with InProcess():
        return whimbrel_packager.pack(**given, key=material.key, out=out, recipe=recipe)


@pytest.fixture(scope="module")
def smaller_one(
    material: Material, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[Any], PackResult]:
    """Return what packs the network in a precision, once: each proof takes a second."""

    @cache
    def made(precision: Any) -> PackResult:  # noqa: ANN401
        return packed(material, tmp_path_factory.mktemp(precision), Optimise(precision=precision))

    return made


def opened(material: Material, done: PackResult) -> bundles.Bundle:
    content = io.BytesIO(done.path.read_bytes())
    return bundles.open_bundle(content, [keyfiles.public(material.key)])


@pytest.mark.parametrize("precision", ["float16", "int8-dynamic", "int8-static"])
def test_a_smaller_network_says_what_it_lost_and_a_device_proves_it(
    precision: Any,  # noqa: ANN401
    material: Material,
    smaller_one: Callable[[Any], PackResult],
) -> None:
    done = smaller_one(precision)
    made = done.manifest.optimisation
    assert made is not None
    assert (made.precision, made.rows) == (precision, 600)
    assert made.allowed == {"accuracy": 0.01, "auc": 0.005}
    assert set(made.loss) == {"accuracy", "auc", "disagreement", "distance"}
    assert 0 < made.loss["distance"] < 0.05
    assert done.manifest.model.size_bytes < 0.7 * made.size_bytes
    assert made.latency_us > 0
    assert any(note.startswith(f"{precision}: ") for note in done.report.notes)
    # The proof is of the float32 model; the vectors are the smaller one's own.
    assert done.manifest.parity.atol == 1e-5
    vectors = parity.decode(opened(material, done).read(bundles.PARITY))
    assert vectors.atol == made.atol > 1e-5
    loaded = engine.load(done.path, [keyfiles.public(material.key).pem])
    held = parity.check(
        vectors, lambda fed: dict(zip(loaded.output_names, loaded.run(fed), strict=True))
    )
    assert not held.failures


@pytest.mark.parametrize("precision", ["float16", "int8-dynamic", "int8-static"])
def test_a_missing_number_stays_missing_and_spoils_no_other_row(
    precision: Any,  # noqa: ANN401
    material: Material,
    smaller_one: Callable[[Any], PackResult],
) -> None:
    done = smaller_one(precision)
    loaded = engine.load(done.path, [keyfiles.public(material.key).pem])
    rows = material.x[:3].copy()
    rows[1, 5] = np.nan
    _, shares = loaded.run({"features": rows})
    assert np.isnan(shares[1]).all()
    np.testing.assert_allclose(
        shares[[0, 2]], material.model.predict_proba(rows[[0, 2]]), atol=0.05
    )


def test_probabilities_of_an_int8_network_still_sum_to_one(
    material: Material, smaller_one: Callable[[Any], PackResult]
) -> None:
    done = smaller_one("int8-static")
    loaded = engine.load(done.path, [keyfiles.public(material.key).pem])
    _, shares = loaded.run({"features": material.x})
    np.testing.assert_allclose(shares.sum(axis=1), 1, atol=1e-6)
    assert len(np.unique(shares)) > 256


def test_int8_weights_have_seven_bits(
    material: Material, smaller_one: Callable[[Any], PackResult]
) -> None:
    done = smaller_one("int8-static")
    proto = onnx.load_from_string(opened(material, done).read("model.onnx"))
    weights = [
        onnx.numpy_helper.to_array(tensor)
        for tensor in proto.graph.initializer
        if tensor.data_type == onnx.TensorProto.INT8 and len(tensor.dims) > 1
    ]
    assert len(weights) == 3
    assert all(np.abs(values.astype(int)).max() <= 64 for values in weights)


def test_a_loss_beyond_what_is_allowed_is_refused_with_both_numbers(
    material: Material, tmp_path: Path
) -> None:
    with pytest.raises(GateError, match=r"distance by 0\.0\d+, allowed 0\.0001") as caught:
        packed(material, tmp_path, Optimise(precision="int8-static", max_loss={"distance": 0.0001}))
    assert caught.value.code == "gate.loss"
    assert "reference rows" in caught.value.message
    assert "max_loss" in (caught.value.hint or "")
    assert not list(tmp_path.iterdir())


def test_without_labels_a_smaller_network_is_judged_by_how_it_answers_otherwise(
    material: Material, tmp_path: Path
) -> None:
    done = packed(material, tmp_path, Optimise(precision="int8-static"), y=None)
    made = done.manifest.optimisation
    assert made is not None
    assert made.allowed == {"disagreement": 0.02, "distance": 0.05}


@pytest.mark.parametrize(
    ("optimise", "says"),
    [
        (Optimise(precision="int8-static", max_loss={"mae": 0.1}), "names mae, which cannot"),
        (Optimise(precision="int8-static", predecessor="none.whim"), "cannot be read"),
    ],
)
def test_what_cannot_be_asked_for_is_named(
    optimise: Optimise, says: str, material: Material, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match=says):
        packed(material, tmp_path, optimise)


def test_a_tree_ensemble_is_no_network(material: Material, tmp_path: Path) -> None:
    forest = RandomForestClassifier(3, max_depth=3, random_state=0).fit(material.x, material.y)
    with pytest.raises(
        UsageError, match="is for neural networks, and RandomForestClassifier is a tree ensemble"
    ):
        packed(material, tmp_path, Optimise(precision="int8-static"), model=forest)


@pytest.mark.parametrize("level", ["basic", "extended"])
def test_an_optimised_graph_is_proven_against_the_source_again(
    level: Any,  # noqa: ANN401
    material: Material,
    tmp_path: Path,
) -> None:
    done = packed(material, tmp_path, Optimise(graph=level))
    assert done.manifest.optimisation is not None
    assert done.manifest.optimisation.graph == level
    vectors = parity.decode(opened(material, done).read(bundles.PARITY))
    assert vectors.atol == done.manifest.parity.atol == 1e-5
    domains = set(done.manifest.model.opsets)
    assert domains <= {"", "ai.onnx.ml", "com.microsoft"}
    # Fused operators are of this machine's runtime, and older devices are told so.
    floor = done.manifest.requirements.onnxruntime
    assert (floor == "1.17") == ("com.microsoft" not in domains)


def test_equal_inputs_give_equal_int8_bytes(
    material: Material, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
    digests = set()
    for turn in ("a", "b"):
        (tmp_path / turn).mkdir()
        done = packed(material, tmp_path / turn, Optimise(precision="int8-static"))
        digests.add(done.digest)
        assert done.manifest.optimisation is not None
        assert done.manifest.optimisation.latency_us == 0
    assert len(digests) == 1


def test_a_fine_tuned_network_takes_over_the_scales_of_its_predecessor_and_gives_a_small_delta(
    material: Material, tmp_path: Path
) -> None:
    with InProcess():
        old, new = finetuned.releases(tmp_path, material.key, width=256, steps=3)
    scales = []
    for path in (old, new):
        bundle = bundles.open_bundle(
            io.BytesIO(path.read_bytes()), [keyfiles.public(material.key)], what=path.name
        )
        scales.append(smaller.scales_of(onnx.load_from_string(bundle.read("model.onnx"))))
    assert len(scales[0]) > 5
    assert scales[0] == scales[1]
    made = delta.encode(old.read_bytes(), new.read_bytes())
    assert made is not None
    assert len(made) <= 0.06 * new.stat().st_size
