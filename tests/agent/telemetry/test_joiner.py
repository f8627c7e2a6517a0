"""What a label, and a prediction, means."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from tests.support import models
from whimbrel_agent.telemetry.joiner import PredictionReader
from whimbrel_agent.telemetry.labels import Prediction
from whimbrel_core.profile.feature import Feature
from whimbrel_core.profile.layout import Layout

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.models import MadeBundle


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> MadeBundle:
    return models.build_bundle(tmp_path_factory.mktemp("made"), models.logistic(4))


def reader(made: MadeBundle, classes: tuple[str, ...]) -> PredictionReader:
    feature = Feature(name="x", kind="numeric", role="input", tensor="x", edges=(0.0,))
    layout = Layout(
        task="classification", features=(feature,), classes=classes, score_tensor="probabilities"
    )
    return PredictionReader(made.manifest, layout)


@pytest.mark.parametrize(
    ("classes", "label", "index"),
    [
        (("0", "1"), 1, 1),
        (("0", "1"), 1.0, 1),
        (("0", "1"), "1", 1),
        (("0", "1"), True, 1),
        (("0", "1"), 2, None),
        (("1", "2"), 1, 0),
        (("1", "2"), 0, None),
        (("False", "True"), True, 1),
        (("False", "True"), 1, 1),
        (("false", "true"), False, 0),
        (("on_time", "late"), "late", 1),
        (("on_time", "late"), 1, 1),
        (("on_time", "late"), 2, None),
        (("on_time", "late"), "LATE", None),
        (("0.5", "1.5"), 1.5, 1),
        (("a", "b"), float("nan"), None),
        (("a", "b"), float("inf"), None),
    ],
    ids=str,
)
def test_a_label_names_a_class(
    made: MadeBundle, classes: tuple[str, ...], label: str | float, index: int | None
) -> None:
    assert reader(made, classes).class_of(label) == index


def test_a_prediction_is_read_from_the_label_and_the_scores(made: MadeBundle) -> None:
    tensors = {
        "label": np.array([0, 1]),
        "probabilities": np.array([[0.9, 0.1], [0.02, 0.98]], np.float32),
    }
    own = PredictionReader(made.manifest, made.baseline.layout)
    low, high = np.searchsorted(own.layout.score_edges, tensors["probabilities"][:, 1]).tolist()
    assert 0 <= low < high
    assert own.read(tensors, 2, 7) == [Prediction(7, 0.0, low, 0), Prediction(7, 0.0, high, 1)]


def test_a_regression_keeps_the_value(tmp_path: Path) -> None:
    line = models.build_bundle(tmp_path, models.regression(), name="line")
    own = PredictionReader(line.manifest, line.baseline.layout)
    assert own.read({"y": np.array([[1.5]])}, 1, 7) == [Prediction(7, 1.5, None, None)]
