"""The same model without HTTP, in an application's own process."""

from __future__ import annotations

import os
import subprocess
import sys
from datetime import datetime, timezone
from typing import TYPE_CHECKING

import numpy as np
import pytest

from tests.support import models
from tests.support.worker import TelemetrySink
from whimbrel_agent import Model
from whimbrel_agent.serving.engine import ModelFailedError
from whimbrel_core.errors import RequestError, TrustError, UsageError
from whimbrel_core.profile.window import decode
from whimbrel_core.signing.keys import PrivateKey

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.models import MadeBundle

AT = datetime(2024, 3, 18, 12, tzinfo=timezone.utc)


@pytest.fixture
def sink(tmp_path: Path) -> Iterator[TelemetrySink]:
    made = TelemetrySink(tmp_path / "data" / "run" / "telemetry.sock")
    yield made
    made.close()


def test_predictions_become_windows_in_the_agents_outbox(
    tmp_path: Path, churn: MadeBundle, sink: TelemetrySink
) -> None:
    rows = churn.recipe.rows["x"][:50]
    with Model(churn.path, keys=[churn.pem], data_dir=tmp_path / "data") as model:
        outputs = model.predict({"x": rows}, at=AT, ids=[f"p{i}" for i in range(50)])
        assert outputs["probabilities"].shape == (50, 2)
        assert model.label({"p0": 1, "p1": 0, "nobody": 1}) == 2
    assert sorted(message.rows for message in sink.windows.values()) == [0, 50]
    assert {message.slot for message in sink.windows.values()} == {"churn"}
    with pytest.raises(UsageError):
        model.predict({"x": rows})


def test_without_an_agent_windows_wait_on_disk_for_the_next_time(
    tmp_path: Path, churn: MadeBundle
) -> None:
    data = tmp_path / "data"
    with Model(churn.path, keys=[churn.pem], data_dir=data) as model:
        model.predict({"x": churn.recipe.rows["x"][:5]}, at=AT)
    assert len(list((data / "profiles").glob("*.closed"))) == 1
    sink = TelemetrySink(data / "run" / "telemetry.sock")
    with Model(churn.path, keys=[churn.pem], data_dir=data):
        assert sink.wait_for(lambda: sink.rows == 5)
    sink.close()


def test_a_killed_applications_rows_are_recovered(
    tmp_path: Path, churn: MadeBundle, sink: TelemetrySink
) -> None:
    story = (
        "import os, sys, numpy as np\n"
        "from whimbrel_agent import Model\n"
        "model = Model(sys.argv[1], keys=[sys.argv[2]], data_dir=sys.argv[3])\n"
        "for _ in range(30): model.predict({'x': np.zeros((1, 20), np.float32)})\n"
        "os.kill(os.getpid(), 9)\n"
    )
    data = tmp_path / "data"
    command = [sys.executable, "-c", story, str(churn.path), churn.pem, str(data)]
    done = subprocess.run(command, capture_output=True, env=dict(os.environ))
    assert done.returncode == -9, done.stderr
    with Model(churn.path, keys=[churn.pem], data_dir=data):
        assert sink.wait_for(lambda: sink.rows == 30)


def test_strings_and_columns_are_taken_as_they_are(flights: MadeBundle) -> None:
    with Model(flights.path, keys=[flights.pem]) as model:
        outputs = model.predict(
            {"wind": [8.5, 1.0], "hour": np.array([17, 5]), "carrier": ["UA", "?"]}
        )
        assert outputs["label"].shape == (2,)
        with pytest.raises(UsageError, match="keeps no profiles"):
            model.label({"a": "late"})


@pytest.mark.parametrize(
    ("inputs", "code"),
    [
        ({}, "request.input"),
        ({"x": np.zeros((1, 20)), "y": 1}, "request.input"),
        ({"x": np.zeros((1, 19))}, "request.shape"),
        ({"x": np.zeros((0, 20))}, "request.shape"),
        ({"x": np.zeros(20)}, "request.shape"),
        ({"x": np.full((1, 20), "a")}, "request.datatype"),
        ({"x": np.zeros((1, 20), complex)}, "request.datatype"),
    ],
    ids=["nothing", "one more", "narrow", "no rows", "flat", "words", "complex"],
)
def test_wrong_inputs_are_named(churn: MadeBundle, inputs: dict[str, object], code: str) -> None:
    with Model(churn.path, keys=[churn.pem]) as model, pytest.raises(RequestError) as error:
        model.predict(inputs)  # type: ignore[arg-type]
    assert error.value.code == code


def test_inputs_of_a_wrong_type_or_shape_are_counted_apart(
    tmp_path: Path, churn: MadeBundle, sink: TelemetrySink
) -> None:
    with Model(churn.path, keys=[churn.pem], data_dir=tmp_path / "data") as model:
        for wrong in ({"x": ["a", "b"]}, {"x": np.zeros((2, 3, 4), np.float32)}, {"y": [1.0]}):
            with pytest.raises(RequestError):
                model.predict(wrong)
    [message] = sink.windows.values()
    ops = decode(message.payload).ops
    assert (ops.rejected, ops.mistyped) == (3, 2)


def test_a_failing_model_raises_and_serves_on(tmp_path: Path) -> None:
    made = models.build_bundle(tmp_path, models.fragile(), name="fragile")
    with Model(made.path, keys=[made.pem]) as model:
        with pytest.raises(ModelFailedError):
            model.predict({"i": np.array([[50]])})
        assert model.predict({"i": np.array([[5]])})["y"].item() == 5.0


def test_a_bundle_by_somebody_else_is_not_loaded(churn: MadeBundle, tmp_path: Path) -> None:
    with pytest.raises(TrustError):
        Model(churn.path, keys=[PrivateKey.generate().public.pem])
    with pytest.raises(UsageError):
        Model(churn.path, keys=[tmp_path / "missing.pub"])
