"""One row from plain values is counted like the same row from its tensors."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from tests.support import models
from whimbrel_agent.telemetry.rows import RowWriter
from whimbrel_core.profile.counting.accumulator import Accumulator
from whimbrel_core.profile.feature import Feature
from whimbrel_core.profile.layout import Layout

if TYPE_CHECKING:
    from numpy.typing import NDArray

SIZES = [("wind", 1), ("hour", 1), ("carrier", 1), ("label", 1), ("probabilities", 2)]


@pytest.fixture(scope="module")
def flights(tmp_path_factory: pytest.TempPathFactory) -> Layout:
    folder = tmp_path_factory.mktemp("flights")
    return models.build_bundle(folder, models.mixed(), name="flights").baseline.layout


def tensors(row: list[Any]) -> dict[str, NDArray[Any]]:
    wind, hour, carrier, label, *probabilities = row
    return {
        "wind": np.array([[wind]], np.float32),
        "hour": np.array([[hour]], np.int64),
        "carrier": np.array([[carrier]], object),
        "label": np.array([label], object),
        "probabilities": np.array([probabilities], np.float32),
    }


@pytest.mark.parametrize(
    "row",
    [
        [7.5, 12, "AA", "late", 0.25, 0.75],
        [float("nan"), 5, "ZZ", "on_time", 1.0, 0.0],
        [float("inf"), -3, "", "unheard of", float("nan"), float("nan")],
        [-1.0, 23, None, None, 0.5, 0.5],
        [0.0, 12, b"AA", b"late", 0.5, 0.5],
    ],
)
def test_a_row_of_numbers_and_words_is_counted_like_its_tensors(
    flights: Layout, row: list[Any]
) -> None:
    by_values, by_tensors, general = (Accumulator(flights) for _ in range(3))
    writer = RowWriter(flights, by_values.width, SIZES)
    assert writer.write(by_values, row, None)
    assert writer.write_tensors(by_tensors, tensors(row), None)
    general.update(tensors(row))
    expected = general.window(0, 1)
    assert by_values.window(0, 1) == expected
    assert by_tensors.window(0, 1) == expected


@pytest.mark.parametrize(
    "row",
    [
        [7.5, 12, 4, "late", 0.25, 0.75],  # a number for a word
        [None, 12, "AA", "late", 0.25, 0.75],
        [1e39, 12, "AA", "late", 0.25, 0.75],
        ["7.5", 12, "AA", "late", 0.25, 0.75],
        [7.5, 12, "AA", "late", 0.25],
        [7.5, 12, ["AA"], "late", 0.25, 0.75],
    ],
)
def test_what_needs_care_is_left_to_the_general_path(flights: Layout, row: list[Any]) -> None:
    accumulator = Accumulator(flights)
    writer = RowWriter(flights, accumulator.width, SIZES)
    assert not writer.write(accumulator, row, 20.0)
    window = accumulator.window(0, 1)
    assert (window.rows, window.ops.requests) == (0, 0)


def several(positive: int | None, classes: int) -> Layout:
    return Layout(
        task="classification",
        features=(
            Feature(name="b", kind="numeric", role="input", tensor="x", column=1, edges=(0.0,)),
        ),
        classes=tuple(f"class {index}" for index in range(classes)),
        positive=positive,
        score_tensor="p",
        score_edges=(0.25, 0.5, 0.75),
    )


@pytest.mark.parametrize(
    ("layout", "claims"),
    [
        (several(None, 3), [0.125, 0.625, 0.25]),
        (several(None, 3), [float("nan"), 0.625, 0.25]),
        (several(0, 2), [0.375, 0.625]),
        (several(1, 2), [0.625]),
    ],
)
def test_a_score_that_is_no_feature_is_counted_like_from_its_tensor(
    layout: Layout, claims: list[float]
) -> None:
    fast, general = Accumulator(layout), Accumulator(layout)
    writer = RowWriter(layout, fast.width, [("x", 2), ("p", len(claims))])
    if not writer.write(fast, [5.0, -1.0, *claims], None):
        assert np.isnan(claims).any(), "only NaN among the classes needs care"
        return
    general.update({"x": np.array([[5.0, -1.0]]), "p": np.array([claims], np.float32)})
    assert fast.window(0, 1) == general.window(0, 1)


def test_a_layout_of_a_tensor_that_the_model_does_not_have_is_not_planned(flights: Layout) -> None:
    assert not RowWriter(flights, 6, SIZES[:-1]).able
    assert not RowWriter(flights, 6, [*SIZES[:-1], ("probabilities", 0)]).able
