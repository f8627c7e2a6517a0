from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from tests.packager.gates.samples import Array, words
from whimbrel_packager.frame import Frame
from whimbrel_packager.gates.columns import Column, judge

if TYPE_CHECKING:
    from whimbrel_packager.gates.outcome import Outcome


def outcomes(values: Array, column: Column) -> dict[str, Outcome]:
    found = judge({"x": column}, Frame({"x": values}), "allow", ("x",))
    return {outcome.name.removeprefix("columns.x"): outcome for outcome in found}


NUMBERS = np.array([0.0, 1.0, 2.5, np.nan, np.inf], np.float32)


@pytest.mark.parametrize(
    ("values", "column", "check", "measured"),
    [
        (NUMBERS, Column(type="number"), ".type", 0.0),
        (NUMBERS, Column(type="integer"), ".type", 0.5),
        (NUMBERS, Column(type="text"), ".type", 1.0),
        (np.array([0, 1, 1]), Column(type="boolean"), ".type", 0.0),
        (np.array([0, 1, 2]), Column(type="boolean"), ".type", 1 / 3),
        (words(np.array(["a", ""])), Column(type="text"), ".type", 0.0),
        (words(np.array(["a", ""])), Column(type="number"), ".type", 1.0),
        (NUMBERS, Column(min=0, max=2.5), ".range", 0.25),
        (NUMBERS, Column(min=0.5), ".range", 0.5),
        (np.array([0.1], np.float32), Column(min=0.1, max=0.1), ".range", 0.0),
        (words(np.array(["a", "b", "c", ""])), Column(categories=("a", "b")), ".categories", 1 / 3),
        (np.array([1.0, 2.0, 3.0]), Column(categories=("1", "2")), ".categories", 1 / 3),
        (NUMBERS, Column(max_null=0.1), ".null", 0.2),
        (words(np.array(["a", ""])), Column(max_null=0.5), ".null", 0.5),
        (np.array([1, 1, 2, 3]), Column(unique=True), ".unique", 0.25),
        (words(np.array(["a", "b", "b"])), Column(unique=True), ".unique", 1 / 3),
        (np.array([1, 2, 2, 1]), Column(increasing=True), ".increasing", 1 / 3),
        (words(np.array(["2024-01-01", "2024-01-03", "2024-01-02"])), Column(increasing=True),
         ".increasing", 0.5),
    ],
)  # fmt: skip
def test_a_declared_property_is_measured_as_the_share_that_breaks_it(
    values: Array, column: Column, check: str, measured: float
) -> None:
    outcome = outcomes(values, column)[check]
    assert outcome.measured == pytest.approx(measured)
    assert outcome.held == (measured <= (column.max_null or column.max_outside))


def test_a_share_that_may_lie_outside_is_allowed_for() -> None:
    column = Column(min=0, max=2.5, max_outside=0.25)
    assert outcomes(NUMBERS, column)[".range"].held
    assert not outcomes(np.array([-1.0, -1.0, 0.0]), column)[".range"].held


def test_a_range_of_words_a_column_that_is_not_there_and_one_undeclared_are_refused() -> None:
    assert not outcomes(words(np.array(["a"])), Column(min=0))[".range"].held
    frame = Frame({"x": np.array([1.0]), "z": np.array([1.0])})
    found = {o.name: o for o in judge({"y": Column()}, frame, "refuse", ("x", "z"))}
    assert not found["columns.y"].held
    assert found["columns.undeclared"].message == "the model reads x, z, which nothing declares"
    assert list(judge({}, frame, "allow", ("x",))) == []
    (fine,) = judge({"x": Column(), "z": Column()}, frame, "refuse", ("x",))
    assert fine.held


def test_a_column_without_any_value_breaks_nothing_but_its_limit_of_missing_ones() -> None:
    column = Column(type="integer", min=0, categories=("1",), max_null=0.5, unique=True)
    found = outcomes(np.array([np.nan, np.nan]), column)
    assert [name for name, outcome in found.items() if not outcome.held] == [".null"]


def test_an_array_a_row_has_a_type_a_range_and_missing_values() -> None:
    images = np.zeros((4, 2, 2), np.float32)
    images[0, 0, 0], images[1, 1, 1] = np.nan, 300
    found = outcomes(images, Column(type="number", min=0, max=255, max_null=0))
    assert found[".null"].measured == 0.25
    assert found[".range"].measured == pytest.approx(1 / 12)
    assert found[".range"].message.endswith("found 0 to 300")
    assert not outcomes(images, Column(unique=True))[""].held
