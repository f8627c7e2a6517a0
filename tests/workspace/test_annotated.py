"""The benchmark of change points counts as the paper of the annotated series does."""

from __future__ import annotations

import pytest

from benchmarks._annotated import agreement, found_marks


@pytest.mark.parametrize(
    ("marks", "points", "found"),
    [
        ({1, 10, 20, 23}, {3, 8, 20}, {1, 10, 20}),
        ({1, 10, 20, 23}, {1, 3, 8, 20}, {1, 10, 20}),
        ({1, 10, 20, 23}, {1, 3, 5, 8, 20}, {1, 10, 20}),
        (set(), {1, 2, 3}, set()),
        ({1, 2, 3}, set(), set()),
        ({10}, {15}, {10}),
        ({10}, {16}, set()),
    ],
)
def test_a_point_finds_one_mark_within_the_margin(
    marks: set[int], points: set[int], found: set[int]
) -> None:
    assert found_marks(marks, points) == found


@pytest.mark.parametrize(
    ("annotators", "points", "f1"),
    [
        ([[10, 20], [11, 20], [10], [0, 5]], [10, 20], 1.0),
        ([[], [10], [50]], [10], 10 / 11),
        ([[], [10], [50]], [], 0.8),
    ],
)
def test_f1_is_that_of_the_papers_examples(
    annotators: list[list[int]], points: list[int], f1: float
) -> None:
    assert agreement(annotators, points).f1 == pytest.approx(f1)


def test_precision_is_against_all_marks_and_recall_is_averaged_over_annotators() -> None:
    got = agreement([[100, 200], [300]], [101, 250])
    assert got.precision == pytest.approx(2 / 3)  # 0 and 101 of 0, 101, 250
    assert got.recall == pytest.approx((2 / 3 + 1 / 2) / 2)


def test_two_points_at_one_mark_are_one_hit() -> None:
    assert agreement([[100]], [99, 101]).precision == pytest.approx(2 / 3)
