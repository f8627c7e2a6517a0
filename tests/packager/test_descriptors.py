"""Models of pictures, embeddings and texts: packed, served, and watched for drift."""

from __future__ import annotations

import functools
import io
import json
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import onnx
import pandas as pd
import pytest
from onnx import TensorProto, helper
from sklearn.compose import ColumnTransformer
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

import whimbrel_packager
from tests.packager.command import whimbrel
from tests.packager.proving import InProcess
from tests.support.worker import FakeControl
from whimbrel_agent.channel import SlotSpec
from whimbrel_agent.serving import engine
from whimbrel_core.bundle import bundle as bundles
from whimbrel_core.errors import ProfileError
from whimbrel_core.profile.baseline import Baseline
from whimbrel_core.profile.building.reference import build
from whimbrel_core.profile.counting.accumulator import Accumulator
from whimbrel_core.profile.descriptors import Embedding, Image, Text, describer
from whimbrel_core.profile.drift.judge import Judge
from whimbrel_core.profile.drift.shift import shifts
from whimbrel_core.profile.window import merge
from whimbrel_packager import contents
from whimbrel_packager.descriptors import Describe, Source, describe
from whimbrel_packager.frame import Frame
from whimbrel_packager.gates.skew import drifts_of
from whimbrel_packager.pages import report
from whimbrel_packager.signing import keyfiles
from whimbrel_packager.sources import Options

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from whimbrel_agent.serving.engine import Engine
    from whimbrel_core.profile.feature import Role

    Array = np.ndarray[Any, Any]

SIDE, DIMENSIONS = 12, 96
PROBABILITIES = Options(output="probabilities", classes=("day", "night", "dusk"))


def network(*, image: bool) -> onnx.ModelProto:
    """Return a classifier of three classes: of (n, 3, 12, 12) pictures, or of (n, 96) vectors."""
    rng = np.random.default_rng(1)
    shape = [3, SIDE, SIDE] if image else [DIMENSIONS]
    width = 4 if image else DIMENSIONS
    weights = {"w": rng.normal(size=(width, 3)), "b": np.zeros(3)}
    nodes = [
        helper.make_node("Gemm", ["flat" if image else "x", "w", "b"], ["z"]),
        helper.make_node("Softmax", ["z"], ["p"], axis=1),
    ]
    if image:
        weights["k"] = rng.normal(size=(4, 3, 3, 3)) / 5
        nodes = [
            helper.make_node("Conv", ["x", "k"], ["c"], pads=[1, 1, 1, 1]),
            helper.make_node("Relu", ["c"], ["r"]),
            helper.make_node("GlobalAveragePool", ["r"], ["g"]),
            helper.make_node("Flatten", ["g"], ["flat"]),
            *nodes,
        ]
    graph = helper.make_graph(
        nodes,
        "network",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", *shape])],
        [helper.make_tensor_value_info("p", TensorProto.FLOAT, ["n", 3])],
        [
            helper.make_tensor(name, TensorProto.FLOAT, array.shape, array.astype("f4").ravel())
            for name, array in weights.items()
        ],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def pictures(seed: int, n: int, *, light: float = 1.0) -> Array:
    """Return (n, 3, 12, 12) float32 pictures from 0 to 1: a scene, lit more or less, and noise."""
    rng = np.random.default_rng(seed)
    scene = rng.uniform(0.2, 0.7, (n, 3, 1, 1)) * rng.uniform(0.6, 1.0, (n, 1, SIDE, SIDE))
    return np.clip(scene * light + rng.normal(0, 0.03, scene.shape), 0, 1).astype(np.float32)


def vectors(seed: int, n: int, *, apart: float = 0.0) -> Array:
    """Return (n, 96) float32 around four topics; ``apart`` moves them off all of these."""
    rng = np.random.default_rng(seed)
    topics = np.random.default_rng(0).normal(size=(4, DIMENSIONS))
    away = np.random.default_rng(5).normal(size=DIMENSIONS)
    rows = topics[rng.choice(4, n, p=[0.4, 0.3, 0.2, 0.1])] + apart * away
    return (rows + rng.normal(0, 0.4, rows.shape)).astype(np.float32)


class Material(NamedTuple):
    key: Path
    public: Path


@pytest.fixture(scope="module")
def material(tmp_path_factory: pytest.TempPathFactory) -> Material:
    folder = tmp_path_factory.mktemp("keys")
    keyfiles.create(folder, "bundle")
    return Material(folder / "bundle.pem", folder / "bundle.pub")


class Packed(NamedTuple):
    done: whimbrel_packager.PackResult
    engine: Engine

    @property
    def baseline(self) -> Baseline:
        return self.engine.baseline

    def drifted(self, inputs: Mapping[str, Array]) -> dict[str, str]:
        """Answer these rows as a device does; return what is not "ok" in their window."""
        accumulator = Accumulator(self.baseline)
        rows = len(next(iter(inputs.values())))
        for at in range(0, rows, 50):
            feeds = {name: values[at : at + 50] for name, values in inputs.items()}
            outputs = self.engine.run(feeds)
            made = dict(zip(self.engine.output_names, outputs, strict=True))
            accumulator.update({**feeds, **made})
        judged = Judge(self.baseline).judge(accumulator.window(0, 1))
        return {drift.feature: drift.state for drift in judged if drift.state != "ok"}


def packed(
    material: Material, folder: Path, model: object, data: object, **settings: Any  # noqa: ANN401
) -> Packed:  # fmt: skip
    with InProcess():
        done = whimbrel_packager.pack(
            model, data, name="scenes", version="1.0.0", key=material.key, out=folder, **settings
        )
    return Packed(done, engine.load(done.path, [material.public.read_text()]))


@pytest.fixture(scope="module")
def scenes(material: Material, tmp_path_factory: pytest.TempPathFactory) -> Packed:
    folder = tmp_path_factory.mktemp("scenes")
    onnx.save(network(image=True), folder / "scenes.onnx")
    return packed(
        material, folder, folder / "scenes.onnx", {"x": pictures(0, 2000)}, options=PROBABILITIES
    )


@pytest.fixture(scope="module")
def topics(material: Material, tmp_path_factory: pytest.TempPathFactory) -> Packed:
    folder = tmp_path_factory.mktemp("topics")
    return packed(material, folder, network(image=False), vectors(0, 2000), options=PROBABILITIES)


def test_a_picture_is_described_without_being_asked_and_pack_says_so(
    scenes: Packed,
) -> None:
    done, baseline = scenes.done, scenes.baseline
    assert baseline.layout.descriptors == (
        Image(tensor="x", shape=(3, SIDE, SIDE), layout="NCHW", range=(0, 1)),
    )
    inputs = [feature.name for feature in baseline.layout.features if feature.role == "input"]
    assert inputs == [f"x.{column}" for column in baseline.layout.descriptors[0].columns]
    assert (
        "'x' is profiled as an image (NCHW, 0 is black, 1 is white); declare it in "
        "[[profile.describe]] if that is wrong"
    ) in done.report.notes


def test_dusk_is_found_in_pictures_by_their_brightness_and_another_day_is_not(
    scenes: Packed,
) -> None:
    assert scenes.drifted({"x": pictures(8, 1000)}) == {}
    found = scenes.drifted({"x": pictures(9, 1000, light=0.7)})
    assert found["x.brightness"] == found["x.contrast"] == "severe"
    assert "x.dark" not in found


def test_a_new_topic_is_found_by_its_distance_and_another_day_is_not(
    topics: Packed,
) -> None:
    done, baseline = topics.done, topics.baseline
    (declared,) = baseline.layout.descriptors
    assert isinstance(declared, Embedding)
    assert (declared.tensor, declared.size, declared.count) == ("x", DIMENSIONS, 8)
    assert any("'x' is profiled as an embedding of 96" in n for n in done.report.notes)
    kinds = {feature.name: feature.kind for feature in baseline.layout.features}
    assert kinds["x.nearest"] == "discrete"
    assert topics.drifted({"x": vectors(8, 1000)}) == {}
    assert topics.drifted({"x": vectors(9, 1000, apart=0.2)})["x.distance"] == ("severe")


def test_a_device_describes_what_it_serves_and_sends_counts_alone(
    scenes: Packed, material: Material, tmp_path: Path
) -> None:
    """A real worker, requests of one row and of many over HTTP."""
    done, baseline = scenes.done, scenes.baseline
    dusk = pictures(9, 300, light=0.7)
    control = FakeControl(tmp_path)
    try:
        spec = SlotSpec(
            slot="scenes",
            digest=done.digest,
            path=str(done.path),
            keys=(material.public.read_text(),),
            device="device-1",
        )
        worker = control.start_worker(spec)
        for first, last in [*((at, at + 1) for at in range(100)), (100, 200), (200, 300)]:
            rows = dusk[first:last]
            item = {"name": "x", "shape": rows.shape, "datatype": "FP32"}
            status, _ = control.infer(
                "scenes", {"inputs": [{**item, "data": rows.ravel().tolist()}]}
            )
            assert status == 200
        worker.drain()
        assert control.sink is not None
        assert control.sink.wait_for(lambda: control.sink is not None and control.sink.rows == 300)
        window = functools.reduce(merge, control.sink.decoded("scenes"))
    finally:
        control.close()
    found = {drift.feature: drift.state for drift in Judge(baseline).judge(window)}
    assert found["x.brightness"] == "severe"
    features = baseline.layout.features
    directly = Accumulator(baseline)
    directly.update({"x": dusk})
    for feature, here, there in zip(
        features, directly.window(0, 1).features, window.features, strict=True
    ):
        assert feature.role == "output" or here.cells == there.cells


def test_the_same_reference_gives_the_same_centroids_and_so_the_same_profile(
    topics: Packed, material: Material, tmp_path: Path
) -> None:
    said = [Describe("x", "embedding")]
    again = packed(
        material,
        tmp_path,
        network(image=False),
        vectors(0, 2000),
        options=PROBABILITIES,
        describe=said,
    )
    assert "'x' is profiled as an embedding of 96 numbers (8 centroids)" in again.done.report.notes
    assert again.baseline.profile_id == topics.baseline.profile_id
    assert again.baseline.encode() == topics.baseline.encode()


def test_a_recipe_says_what_a_tensor_is_and_the_command_follows_it(
    material: Material, tmp_path: Path
) -> None:
    onnx.save(network(image=True), tmp_path / "scenes.onnx")
    np.savez(tmp_path / "data.npz", x=pictures(0, 300) * 2 - 1)
    (tmp_path / "whimbrel.toml").write_text(
        'name = "scenes"\nversion = "1.0.0"\nmodel = "scenes.onnx"\n'
        '[data]\nreference = "data.npz"\n'
        '[source]\noutput = "probabilities"\nclasses = ["a", "b", "c"]\n'
        '[[profile.describe]]\ntensor = "x"\nkind = "image"\nlayout = "NCHW"\n'
        'range = [-1, 1]\ncolours = "BGR"\n'
        '[[profile.describe]]\ntensor = "probabilities"\nkind = "embedding"\ncentroids = 2\n'
        '[[profile.slices]]\nname = "gloom"\nfeature = "x.brightness"\nhigh = 0.3\n'
    )
    arguments = ("--recipe", tmp_path / "whimbrel.toml", "--key", material.key, "--out", tmp_path)
    done = whimbrel("pack", *arguments)
    assert done.code == 0, done.err
    assert "'x' is profiled as an image (NCHW, -1 is black, 1 is white)\n" in done.out
    assert "'probabilities' is profiled as an embedding of 3 numbers (2 centroids)\n" in done.out
    shown = whimbrel("inspect", tmp_path / "scenes-1.0.0.whim", "--json")
    assert shown.code == 0, shown.err
    bundle = bundles.open_bundle(
        io.BytesIO((tmp_path / "scenes-1.0.0.whim").read_bytes()),
        [keyfiles.public(material.public)],
    )
    baseline = Baseline.decode(bundle.read("baseline.bin"))
    layout = baseline.layout
    (gloom,) = baseline.window.slices
    brightness = describer(layout.descriptors[0])(pictures(0, 300) * 2 - 1)[:, 0]
    assert gloom.rows == (brightness <= np.float32(0.3)).sum() > 0
    assert layout.descriptors[0] == Image(
        tensor="x", shape=(3, SIDE, SIDE), layout="NCHW", range=(-1, 1), colours="BGR"
    )
    assert [f.name for f in layout.features if f.role == "output"] == [
        "label",
        *(f"probabilities.{c}" for c in ("norm", "distance", "nearest", "distance[0]", "distance[1]")),
    ]  # fmt: skip
    assert json.loads(bundle.read("provenance.json"))


def test_a_sample_of_what_is_served_is_described_before_it_is_compared(
    scenes: Packed, topics: Packed
) -> None:
    def severe(baseline: Baseline, serving: Frame) -> set[str]:
        return {d.feature for d in drifts_of(baseline, serving) if d.state == "severe"}

    def table(rows: Array) -> Frame:
        return Frame({f"x{i}": column for i, column in enumerate(rows.T)})

    dusk = Frame({"x": pictures(9, 500, light=0.7)})
    assert "x.brightness" in severe(scenes.baseline, dusk)
    assert severe(scenes.baseline, Frame({"x": pictures(8, 500)})) == set()
    assert "x.distance" in severe(topics.baseline, table(vectors(9, 500, apart=0.2)))
    assert severe(topics.baseline, table(vectors(8, 500))) == set()
    with pytest.raises(ProfileError, match="rows of shape"):
        drifts_of(scenes.baseline, Frame({"x": np.zeros((500, 3, 8, 8))}))


def test_distances_to_other_centroids_are_not_compared_between_two_versions() -> None:
    def baseline(rows: Array) -> Baseline:
        made = describe([source(rows)], ())
        return build(made.columns, task="regression", descriptors=made.descriptors)

    old, new = baseline(vectors(0, 500)), baseline(vectors(3, 500) * 2)
    found = {one.feature: one.state for one in shifts(old, new)}
    assert found == {"t.norm": "severe"}
    again = {one.feature for one in shifts(old, old)}
    assert {"t.norm", "t.distance", "t.nearest", "t.distance[7]"} <= again


def test_a_report_shows_descriptions_beside_the_tensor_that_they_are_of(scenes: Packed) -> None:
    content = io.BytesIO(scenes.done.path.read_bytes())
    page = report.build(contents.read(content, what="scenes", keys=[]))
    assert "x.brightness" in page
    assert "x#image[0]" in page
    assert "not profiled" not in page


def sentences(seed: int, n: int, *, loud: bool = False) -> Array:
    rng = np.random.default_rng(seed)
    words = ["the", "ship", "was", "late", "because", "of", "fog", "over", "bay", "12", "today"]
    said = [" ".join(rng.choice(words, rng.integers(4, 12))) for _ in range(n)]
    return np.array([one.upper() + "!!!!" if loud else one for one in said], object)


def test_texts_are_described_where_most_differ_and_their_words_stay_out_of_the_bundle(
    material: Material, tmp_path: Path
) -> None:
    said = sentences(0, 800)
    truth = np.array(["fog" in one for one in said])
    table = pd.DataFrame({"said": said})
    words = ColumnTransformer([("words", TfidfVectorizer(), "said")])
    model = make_pipeline(words, LogisticRegression()).fit(table, truth)
    made = packed(material, tmp_path, model, table)
    done, baseline = made.done, made.baseline
    (declared,) = baseline.layout.descriptors
    assert declared == Text(tensor=done.manifest.inputs[0].name)
    assert any("is profiled as text" in note for note in done.report.notes)
    assert not any(feature.vocabulary for feature in baseline.layout.features[:-1])
    name = declared.tensor
    shape = (-1, *done.manifest.inputs[0].shape[1:])
    assert made.drifted({name: sentences(1, 500).reshape(shape)}) == {}
    found = made.drifted({name: sentences(2, 500, loud=True).reshape(shape)})
    assert {f"{name}.upper_case", f"{name}.punctuation", f"{name}.repeated"} <= found.keys()
    pd.DataFrame({"said": sentences(2, 500, loud=True)}).to_csv(tmp_path / "loud.csv")
    shown = whimbrel("profile", "compare", done.path, tmp_path / "loud.csv", "--json")
    compared = {one["feature"]: one["state"] for one in json.loads(shown.out)["features"]}
    assert compared["said.upper_case"] == compared["said.repeated"] == "severe"


def test_a_table_without_names_is_described_as_the_profile_that_it_is_compared_with(
    topics: Packed, tmp_path: Path
) -> None:
    for name, apart in (("same", 0.0), ("apart", 0.2)):
        rows = vectors(9, 600, apart=apart)
        table = pd.DataFrame(rows, columns=[f"x{i}" for i in range(DIMENSIONS)])
        table.to_csv(tmp_path / f"{name}.csv", index=False)
    states = {}
    for name in ("same", "apart"):
        shown = whimbrel("profile", "compare", topics.done.path, tmp_path / f"{name}.csv", "--json")
        features = json.loads(shown.out)["features"]
        states[name] = {f["feature"]: f["state"] for f in features if f["role"] == "input"}
    assert states["apart"]["x.distance"] == "severe"
    assert set(states["same"].values()) == {"ok"}


def source(values: Array, *, role: Role = "input", named: bool = False) -> Source:
    return Source("t", role, values.shape[1:], values.dtype, named, lambda: values)


def kinds(values: Array, *, role: Role = "input", named: bool = False) -> list[str]:
    made = describe([source(values, role=role, named=named)], ())
    return [one.kind for one in made.descriptors]
