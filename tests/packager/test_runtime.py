from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import onnxruntime
import pandas as pd
from sklearn.linear_model import LinearRegression

from tests.packager.proving import convert
from whimbrel_packager.conversion import child, runtime

if TYPE_CHECKING:
    from pathlib import Path

ROWS = 25_001


def test_many_rows_are_answered_in_their_order_and_as_if_asked_at_once(tmp_path: Path) -> None:
    x = pd.DataFrame({"a": np.arange(100.0), "b": np.tile([0.0, 1.0], 50)})
    model = convert(LinearRegression().fit(x, x.a * 3 + x.b), x, tmp_path).model
    rows = {
        "a": np.arange(ROWS, dtype=np.float32)[:, None],
        "b": np.zeros((ROWS, 1), np.float32),
    }
    session = onnxruntime.InferenceSession(model)
    outputs = tuple(value.name for value in session.get_outputs())
    stages: list[str] = []
    limits = child.Limits(60, 2 << 30)
    home = tmp_path / "runtime"
    home.mkdir()
    running = runtime.start(model, {"all": rows}, outputs, home, limits, measure=False)
    answers = runtime.collect(running, home, "a line", stages.append).outputs["all"]
    for name, at_once in zip(outputs, session.run(list(outputs), rows), strict=True):
        np.testing.assert_array_equal(answers[name], at_once)
    assert "running the model: 20,000 of 25,001 rows" in stages
