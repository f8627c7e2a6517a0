"""What is described of which tensor: what is obvious, what is declared, and what is refused."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import pytest

from whimbrel_core.errors import ConfigError, UsageError
from whimbrel_core.profile.descriptors import Image
from whimbrel_core.profile.descriptors.declared import MAX_CENTROID_BYTES
from whimbrel_core.profile.layout import MAX_FEATURES
from whimbrel_packager.descriptors import Describe, Source, centroids, describe

if TYPE_CHECKING:
    from whimbrel_core.profile.feature import Role

    Array = np.ndarray[Any, Any]


def source(values: Array, *, role: Role = "input", named: bool = False) -> Source:
    return Source("t", role, values.shape[1:], values.dtype, named, lambda: values)


def kinds(values: Array, *, role: Role = "input", named: bool = False) -> list[str]:
    made = describe([source(values, role=role, named=named)], ())
    return [one.kind for one in made.descriptors]


def test_what_is_obvious_is_described_and_tables_are_not() -> None:
    rng = np.random.default_rng(0)
    words = np.array([f"word {i}" for i in range(200)], object)
    assert kinds(rng.random((5, 3, 8, 8))) == ["image"]
    assert kinds(rng.random((5, 8, 8, 1))) == ["image"]
    assert kinds(rng.random((5, 1, 8, 1))) == []  # on which side are the channels?
    assert kinds(rng.random((5, 5, 8, 8))) == []
    assert kinds(rng.random((5, 3, 8, 8)), role="output") == []
    assert kinds(rng.random((5, 65))) == ["embedding"]
    assert kinds(rng.random((5, 65)), role="output") == ["embedding"]
    assert kinds(rng.random((5, 65)), named=True) == []
    assert kinds(rng.random((5, 64))) == []
    assert kinds(rng.integers(0, 9, (5, 65))) == []  # tokens, say
    assert kinds(np.full((5, 65), np.nan)) == []
    assert kinds(rng.random(5)) == []
    assert kinds(words) == ["text"]
    assert kinds(words[:60]) == []
    assert kinds(np.repeat(words, 3)) == []
    plain = Describe("t", "columns")
    assert describe([source(words)], [plain]).descriptors == ()


@pytest.mark.parametrize(
    ("numbers", "expected"),
    [
        (np.array([0.0, 0.9]), (0, 1)),
        (np.array([0.0, 200.0]), (0, 255)),
        (np.array([0, 1]), (0, 255)),
        (np.array([-0.5, 1.0]), (-1, 1)),
        (np.array([-2.5, 2.25]), (-2.5, 2.25)),
        (np.array([np.nan, 0.5]), (0, 1)),
        (np.array([np.nan, np.nan]), (0, 1)),
    ],
)
def test_the_range_of_pictures_is_the_usual_one_that_holds_them(
    numbers: Array, expected: tuple[float, float]
) -> None:
    values = np.resize(numbers, (4, 3, 6, 6))
    (made,) = describe([source(values)], ()).descriptors
    assert isinstance(made, Image)
    assert made.range == expected


def test_centroids_are_few_ordered_and_of_finite_rows() -> None:
    rows = np.repeat(np.array([[0.0, 0], [8, 8], [np.inf, 0]]), [30, 10, 5], axis=0)
    rows[:40] += np.random.default_rng(0).normal(0, 0.1, (40, 2))
    found = centroids(rows, 2, 0)
    np.testing.assert_allclose(found, [[0, 0], [8, 8]], atol=0.1)
    assert centroids(np.ones((9, 3)), 8, 0).tolist() == [[1, 1, 1]]
    assert centroids(np.full((9, 3), np.nan), 8, 0).shape == (0, 3)
    wide = centroids(np.random.default_rng(0).random((20, 20_000), np.float32), 8, 0)
    assert wide.nbytes <= MAX_CENTROID_BYTES
    assert len(wide) == 3


@pytest.mark.parametrize(
    ("values", "declared", "complaint"),
    [
        (np.zeros((4, 9)), Describe("u", "text"), "names 'u', which is no input or output"),
        (np.zeros((4, 9)), Describe("t", "image"), "are no images"),
        (np.zeros((4, 9)), Describe("t", "image", shape=(1, 2, 3)), r"shape \(1, 2, 3\)"),
        (np.zeros((4, 9)), Describe("t", "image", shape=(9, 1, 1), layout="NCHW"), "9 channels"),
        (np.zeros((4, 3, 4, 3)), Describe("t", "image"), "not clear"),
        (np.zeros((4, 9)), Describe("t", "text"), "described as text and holds"),
        (np.full((4, 9), np.nan), Describe("t", "embedding"), "is finite"),
        (np.array(["a"], object), Describe("t", "embedding"), "holds words"),
    ],
)
def test_what_a_tensor_cannot_be_is_refused(
    values: Array, declared: Describe, complaint: str
) -> None:
    with pytest.raises(UsageError, match=complaint):
        describe([source(values)], [declared])


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"kind": "text", "layout": "NCHW"}, "layout says nothing about kind 'text'"),
        ({"kind": "image", "centroids": 3}, "centroids says nothing"),
        ({"kind": "embedding", "centroids": 17}, "1 to 16"),
        ({"kind": "image", "shape": (3, 4)}, "three numbers"),
    ],
)
def test_a_declaration_that_contradicts_itself_is_refused(
    settings: dict[str, Any], complaint: str
) -> None:
    with pytest.raises(ConfigError, match=complaint):
        Describe("t", **settings)


def test_what_does_not_fit_beside_a_picture_is_named() -> None:
    values = np.random.default_rng(0).random((20, 3, 8, 8))
    made = describe([source(values)], (), {"t.brightness"})
    assert [column.name for column in made.columns][:2] == ["t#image.brightness", "t.contrast"]
    assert len(made.columns) < MAX_FEATURES
    assert (
        msgspec.json.decode(msgspec.json.encode(made.descriptors[0]), type=Image)
        == made.descriptors[0]
    )
