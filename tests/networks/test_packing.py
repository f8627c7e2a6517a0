"""Networks through the real command, up to a device that serves them."""

from __future__ import annotations

import hashlib
import io
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from torch import nn

import whimbrel_packager
from tests.packager.command import whimbrel
from tests.packager.corpus.keras_cases import small
from tests.packager.corpus.torch_cases import PIXELS, Bytes, layers, program
from whimbrel_agent import Model
from whimbrel_agent.update import probe
from whimbrel_agent.update.messages import ProbeRequest, PublisherKey
from whimbrel_core.bundle import bundle as bundles
from whimbrel_core.profile.baseline import Baseline
from whimbrel_packager import frame, recipe
from whimbrel_packager.signing import keyfiles
from whimbrel_packager.smaller.optimise import Optimise
from whimbrel_packager.sources import Options
from whimbrel_packager.sources.torch import TorchNetwork

Array = np.ndarray[Any, Any]
# Of Keras, whose arrays follow the older of numpy's conventions.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


class Material(NamedTuple):
    folder: Path
    key: Path
    public: Path
    x: Array


@pytest.fixture(scope="module")
def material(tmp_path_factory: pytest.TempPathFactory) -> Material:
    folder = tmp_path_factory.mktemp("networks")
    keyfiles.create(folder / "keys", "bundle")
    x = np.random.default_rng(0).normal(size=(200, 8)).astype(np.float32)
    return Material(folder, folder / "keys/bundle.pem", folder / "keys/bundle.pub", x)


def test_an_exported_program_is_packed_by_the_command_and_proven_and_served_by_a_device(
    material: Material, tmp_path: Path
) -> None:
    module = layers().eval()
    program(module, tmp_path / "model.pt2")
    with torch.no_grad():
        shares = module(torch.from_numpy(material.x)).softmax(1).numpy()
    classes = np.array(["low", "mid", "high"])
    np.savez(tmp_path / "data.npz", x=material.x, level=classes[shares.argmax(1)])
    done = whimbrel(
        "pack", tmp_path / "model.pt2", "--name", "levels", "--version", "1.0.0",
        "--reference", tmp_path / "data.npz", "--label", "level", "--output-is", "logits",
        "--classes", "low,mid,high", "--key", material.key, "--out", tmp_path, "--json",
    )  # fmt: skip
    assert done.code == 0, done.err
    manifest = json.loads(done.out)["manifest"]
    assert manifest["source"]["framework"] == "pytorch"
    assert manifest["source"]["estimator"] == "Sequential"
    assert manifest["metrics"]["accuracy"] == 1
    assert [one["name"] for one in manifest["inputs"]] == ["features"]
    bundle = tmp_path / "levels-1.0.0.whim"
    request = ProbeRequest(
        path=str(bundle),
        digest=hashlib.sha256(bundle.read_bytes()).hexdigest(),
        keys=(PublisherKey(pem=material.public.read_text(), models=("*",)),),
    )
    assert probe.probe(request).parity_rows >= 100
    with Model(bundle, keys=[material.public]) as model:
        for rows in (1, 5, 33):  # none of them the batch it was exported with
            answer = model.predict({"features": material.x[:rows]})
            np.testing.assert_allclose(answer["probabilities"], shares[:rows], atol=1e-6)
            assert answer["label"].tolist() == classes[shares[:rows].argmax(1)].tolist()


def test_a_model_without_a_named_output_is_refused_with_the_flag_to_give(
    material: Material, tmp_path: Path
) -> None:
    program(layers().eval(), tmp_path / "model.pt2")
    np.savez(tmp_path / "data.npz", x=material.x)
    done = whimbrel(
        "pack", tmp_path / "model.pt2", "--name", "levels", "--version", "1.0.0",
        "--reference", tmp_path / "data.npz", "--key", material.key, "--out", tmp_path,
    )  # fmt: skip
    assert done.code == 5
    assert "--output-is" in done.err
    assert not list(tmp_path.glob("*.whim"))


def test_images_are_packed_with_their_outputs_profiled_alone(
    material: Material, tmp_path: Path
) -> None:
    rng = np.random.default_rng(1)
    wide = nn.Sequential(nn.Flatten(), nn.Linear(2 * 12 * 12, 3))
    done = whimbrel_packager.pack(
        wide,
        {"image": rng.normal(size=(60, 2, 12, 12)).astype(np.float32)},
        name="images",
        version="1.0.0",
        key=material.key,
        out=tmp_path,
        options=Options(output="logits"),
    )
    assert [tensor.shape for tensor in done.manifest.inputs] == [(-1, 2, 12, 12)]
    assert any("the inputs are not profiled" in note for note in done.report.notes)
    with done.path.open("rb") as file:
        held = bundles.open_bundle(file, [keyfiles.public(material.key)])
        layout = Baseline.decode(held.read(bundles.BASELINE)).layout
    assert {feature.role for feature in layout.features} == {"output"}
    with Model(done.path, keys=[material.public]) as model:
        answer = model.predict({"image": rng.normal(size=(2, 2, 12, 12)).astype(np.float32)})
    assert answer["probabilities"].shape == (2, 3)


def test_a_convolution_in_int8_is_smaller_and_as_good(material: Material, tmp_path: Path) -> None:
    images = np.random.default_rng(1).normal(size=(200, 1, 12, 12)).astype(np.float32)
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(1, 16, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(400, 64),
        nn.ReLU(), nn.Linear(64, 3),
    )  # fmt: skip
    done = whimbrel_packager.pack(
        net,
        {"image": images},
        key=material.key,
        out=tmp_path,
        recipe=recipe.Recipe(
            name="images",
            version="1.0.0",
            source=Options(output="logits"),
            optimise=Optimise(precision="int8-static", max_loss={"disagreement": 0.05}),
        ),
    )
    made = done.manifest.optimisation
    assert made is not None
    assert done.manifest.model.size_bytes < 0.4 * made.size_bytes
    assert made.loss["disagreement"] <= 0.05
    with Model(done.path, keys=[material.public]) as model:
        gap = images[:2].copy()
        gap[1, 0, 3, 3] = np.nan
        shares = model.predict({"image": gap})["probabilities"]
    assert np.isnan(shares[1]).all()
    with torch.no_grad():
        exact = net.eval()(torch.from_numpy(images[:1])).softmax(1).numpy()
    np.testing.assert_allclose(shares[:1], exact, atol=0.05)


CONVERTED = """
import hashlib, sys
from pathlib import Path
import numpy as np
from tests.packager.proving import convert
folder = Path(sys.argv[2])
folder.mkdir()
x = np.random.default_rng(0).normal(size=(60, 8)).astype(np.float32)
done = convert(Path(sys.argv[1]), x, folder, output="logits")
print("sha256", hashlib.sha256(done.model).hexdigest())
"""


@pytest.mark.parametrize("name", ["model.pt2", "model.keras"])
def test_a_network_gives_the_same_bytes_in_every_process(name: str, tmp_path: Path) -> None:
    if name == "model.keras":
        small().save(tmp_path / name)
    else:
        program(layers().eval(), tmp_path / name)
    seen = []
    for seed in ("1", "2"):
        command = [sys.executable, "-W", "ignore", "-c", CONVERTED]
        done = subprocess.run(
            [*command, str(tmp_path / name), str(tmp_path / f"work-{seed}")],
            env=os.environ | {"PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        seen.append(next(line for line in done.stdout.splitlines() if line.startswith("sha256")))
    assert seen[0] == seen[1]


def test_no_path_of_the_build_machine_is_in_a_packed_network(
    material: Material, tmp_path: Path
) -> None:
    done = whimbrel_packager.pack(
        layers(),
        material.x,
        name="levels",
        version="1.0.0",
        key=material.key,
        out=tmp_path,
        options=Options(output="logits"),
    )
    with done.path.open("rb") as file:
        model = bundles.open_bundle(io.BytesIO(file.read()), [keyfiles.public(material.key)]).read(
            "model.onnx"
        )
    for trace in (os.fsencode(Path.cwd()), b"torch_cases", b".py", b"site-packages"):
        assert trace not in model
    assert not list(tmp_path.glob("*.data"))


class Wrapping(nn.Module):
    """Code that was trained with floats: bytes below 128 would wrap."""

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        return (pixels - 128).flatten(1).float().mean(1, keepdim=True)


def test_a_module_takes_bytes_where_it_answers_to_them_as_to_floats() -> None:
    images = frame.of({"pixels": PIXELS})
    for module, kind in [(Bytes(), "UINT8"), (Wrapping(), "FP32"), (nn.Conv2d(8, 4, 3), "FP32")]:
        (one,) = TorchNetwork(module.train()).inputs(images)
        assert one.kind == kind
        assert module.training
    (one,) = TorchNetwork(Bytes()).inputs(frame.of({"pixels": PIXELS / np.float32(255)}))
    assert one.kind == "FP32"
