"""Outlier detectors: two classes and a score, which devices count like any other output."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import msgspec
import numpy as np
import pandas as pd
import pytest
from sklearn.ensemble import IsolationForest
from sklearn.linear_model import RidgeClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from tests.packager.proving import InProcess
from whimbrel_core.bundle import bundle as bundles
from whimbrel_core.errors import InputError
from whimbrel_core.profile.baseline import Baseline
from whimbrel_core.signing.keys import PrivateKey
from whimbrel_packager import pack

if TYPE_CHECKING:
    from pathlib import Path

    from whimbrel_packager.build import PackResult
    from whimbrel_packager.untyped import Estimator

KEY = PrivateKey.generate()


def table() -> tuple[pd.DataFrame, np.ndarray]:
    """Two columns, of which every tenth row is far away; and which those are."""
    rng = np.random.default_rng(1)
    x = rng.normal(size=(400, 2))
    far = np.arange(400) % 10 == 0
    x[far] *= 6
    return pd.DataFrame(x.astype(np.float32), columns=["a", "b"]), far


def packed(model: Estimator, folder: Path, y: np.ndarray | None = None) -> PackResult:
    x, _ = table()
    with InProcess():
        return pack(model, x, y, key=KEY, out=folder, name="odd", version="1.0.0")


@pytest.fixture
def detector() -> Estimator:
    x, _ = table()
    return make_pipeline(
        StandardScaler(), IsolationForest(n_estimators=20, contamination=0.1, random_state=0)
    ).fit(x)


def test_a_detector_is_a_model_of_two_classes_whose_positive_one_is_the_outlier(
    detector: Estimator, tmp_path: Path
) -> None:
    done = packed(detector, tmp_path)
    manifest = done.manifest
    assert (manifest.task, manifest.purpose) == ("classification", "outlier detection")
    assert manifest.classes == ("-1", "1")
    assert manifest.positive == 0
    roles = {output.name: (output.role, output.shape) for output in manifest.outputs}
    assert roles == {"label": ("label", (-1,)), "scores": ("value", (-1, 1))}


def test_devices_count_its_classes_and_the_distribution_of_its_score(
    detector: Estimator, tmp_path: Path
) -> None:
    done = packed(detector, tmp_path)
    opened = bundles.open_bundle(io.BytesIO(done.path.read_bytes()), [KEY.public])
    profile = Baseline.decode(opened.read(bundles.BASELINE))
    features = {feature.name: feature for feature in profile.layout.features}
    assert features["label"].kind == "discrete"
    assert msgspec.structs.asdict(features["label"])["values"] == (-1.0, 1.0)
    assert features["scores"].kind == "numeric"
    assert features["scores"].role == "output"


def test_labelled_outliers_give_it_an_accuracy_and_an_area_under_the_roc(
    detector: Estimator, tmp_path: Path
) -> None:
    _, far = table()
    done = packed(detector, tmp_path, np.where(far, -1, 1))
    assert done.manifest.metrics["auc"] > 0.9
    assert done.manifest.metrics["accuracy"] > 0.9
    assert done.manifest.metrics["positive_rate"] == pytest.approx(0.1)


def test_labels_of_true_and_false_are_refused_since_they_would_be_read_the_wrong_way_round(
    detector: Estimator, tmp_path: Path
) -> None:
    _, far = table()
    with pytest.raises(InputError, match=r"neither -1 \(an outlier\) nor 1") as caught:
        packed(detector, tmp_path, far)
    assert "numpy.where" in str(caught.value.hint)
    assert not list(tmp_path.iterdir())


def test_a_classifier_of_scores_has_an_area_under_the_roc_too(tmp_path: Path) -> None:
    x, _ = table()
    y = np.where(x.a > 0, "up", "down")
    done = packed(RidgeClassifier().fit(x, y), tmp_path, y)
    assert done.manifest.metrics["auc"] > 0.9
    assert {output.role for output in done.manifest.outputs} == {"label", "value"}
