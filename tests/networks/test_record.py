"""A network's bundle is made again from its record, and names what took part."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

import whimbrel_packager
from tests.packager.proving import InProcess
from whimbrel_core.bundle import bundle as bundles
from whimbrel_core.bundle.archive import Archive
from whimbrel_packager import rebuild
from whimbrel_packager.record import provenance
from whimbrel_packager.signing import keyfiles

if TYPE_CHECKING:
    from pathlib import Path

RECIPE = """\
name = "net"
version = "1.0.0"
model = "{model}"
[data]
reference = "data.npz"
label = "late"
[source]
output = "logits"
"""
SMALLER = '[optimise]\nprecision = "int8-dynamic"\nmax_loss = { accuracy = 0.2, auc = 0.2 }\n'


def data(folder: Path) -> Path:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(200, 8)).astype(np.float32)
    np.savez(folder / "data.npz", x=x, late=x[:, 0] + x[:, 1] > 0)
    return folder / "data.npz"


def program(folder: Path) -> Path:
    torch.manual_seed(0)
    network = torch.nn.Sequential(
        torch.nn.Linear(8, 64),
        torch.nn.ReLU(),
        torch.nn.Linear(64, 64),
        torch.nn.ReLU(),
        torch.nn.Linear(64, 2),
    ).eval()
    rows = ({0: torch.export.Dim("rows")},)
    exported = torch.export.export(network, (torch.zeros(2, 8),), dynamic_shapes=rows)
    torch.export.save(exported, folder / "model.pt2")
    return folder / "model.pt2"


@pytest.mark.parametrize("smaller", ["", SMALLER], ids=["float32", "int8"])
def test_a_networks_bundle_is_made_again_from_its_record(tmp_path: Path, smaller: str) -> None:
    reference, model = data(tmp_path), program(tmp_path)
    (tmp_path / "whimbrel.toml").write_text(RECIPE.format(model=model.name) + smaller)
    key, _ = keyfiles.create(tmp_path / "keys", "bundle")
    with InProcess():
        path = whimbrel_packager.pack(
            recipe=tmp_path / "whimbrel.toml", key=key, out=tmp_path / "out"
        ).path
        done = rebuild.rebuild(path, model, reference, key=key)
    assert done.differences == ()
    assert (done.same, done.signature) == (True, "same")
    held = Archive(io.BytesIO(path.read_bytes()))
    record = provenance.read(held.read(bundles.PROVENANCE), what="it")
    assert {"torch", "onnxscript", "onnxruntime"} <= record.environment.packages.keys()
    for name in held.names:
        assert str(tmp_path).encode() not in held.read(name)
