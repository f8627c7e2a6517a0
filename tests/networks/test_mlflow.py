"""Networks in directories of MLflow, laid out as mlflow 3.17 lays them out."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from tests.packager.corpus.keras_cases import small
from tests.packager.corpus.torch_cases import layers, program
from tests.packager.proving import prove
from whimbrel_core.errors import ConversionError, UsageError
from whimbrel_packager import sources
from whimbrel_packager.sources import Options

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
PYTORCH = "flavors:\n  pytorch:\n    model_data: data\n    code: null\nrun_id: 06ff\n"
KERAS = "flavors:\n  tensorflow:\n    data: data\n    model_type: keras\n    code: null\n"


def directory(folder: Path, stated: str) -> Path:
    (folder / "logged/data").mkdir(parents=True)
    (folder / "logged/MLmodel").write_text(stated)
    return folder / "logged"


def test_an_exported_program_is_found_in_its_data_folder(tmp_path: Path) -> None:
    home = directory(tmp_path, PYTORCH)
    program(layers().eval(), home / "data/model.pt2")
    x = np.random.default_rng(0).normal(size=(100, 8)).astype(np.float32)
    description = prove(home, x, output="logits").done.result.description
    assert description.framework == "pytorch"
    assert description.lineage == {"mlflow.run": "06ff"}


def test_a_keras_model_is_found_in_its_data_folder(tmp_path: Path) -> None:
    home = directory(tmp_path, KERAS)
    model = small()
    model.save(home / "data/model.keras")
    x = np.random.default_rng(0).normal(size=(100, model.input_shape[1])).astype(np.float32)
    assert prove(home, x, output="logits").proof.rows > len(x)


def test_a_pickled_module_needs_permission(tmp_path: Path) -> None:
    home = directory(tmp_path, PYTORCH)
    torch.save(layers(), home / "data/model.pth")
    with pytest.raises(UsageError, match="logged holds its model as a pickle") as caught:
        sources.open_source(home, Options())
    assert caught.value.hint is not None
    assert "serialization_format='pt2'" in caught.value.hint


def test_a_data_folder_without_a_network_is_refused(tmp_path: Path) -> None:
    home = directory(tmp_path, PYTORCH)
    with pytest.raises(ConversionError, match="'data' holds no network that is known here"):
        sources.open_source(home, Options())
