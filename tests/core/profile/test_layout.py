"""Layouts refuse what counts could not be kept in, and know who they are."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.core.profile.samples import SMALL
from whimbrel_core.errors import ProfileError
from whimbrel_core.profile.feature import Feature
from whimbrel_core.profile.layout import MAX_FEATURES, Layout


def numeric(**changes: object) -> Feature:
    fields = {"name": "a", "kind": "numeric", "role": "input", "tensor": "x", "edges": (0.0, 1.0)}
    return msgspec.convert({**fields, **changes}, Feature)


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"edges": (1.0, 0.0)}, "ascend"),
        ({"edges": (0.0, 0.0)}, "ascend"),
        ({"edges": (0.0, float("nan"))}, "float32"),
        ({"edges": (0.0, float("inf"))}, "float32"),
        ({"edges": (0.1,)}, "float32"),
        ({"edges": tuple(map(float, range(103)))}, "103 edges"),
        ({"kind": "discrete"}, "no edges"),
        ({"kind": "categorical", "edges": (), "vocabulary": ("a", "a")}, "distinct"),
        ({"kind": "categorical", "edges": (), "vocabulary": tuple("abcdefgh" * 8)}, "distinct"),
        ({"kind": "categorical", "edges": (), "vocabulary": ("a" * 300,)}, "longer"),
        ({"name": ""}, "name"),
        ({"column": -1}, "column"),
        ({"scale": 0.0}, "scale"),
        ({"scale": 1e-300}, "scale"),
        ({"scale": float("nan")}, "scale"),
        ({"centre": float("nan")}, "centre"),
    ],
    ids=str,
)
def test_a_feature_whose_cells_are_not_well_defined_is_refused(
    changes: dict[str, object], complaint: str
) -> None:
    with pytest.raises(ProfileError, match=complaint):
        numeric(**changes)


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"features": ()}, "features"),
        ({"features": (numeric(), numeric())}, "used twice: a"),
        ({"features": tuple(numeric(name=str(i)) for i in range(MAX_FEATURES + 1))}, "257"),
        ({"format": 2}, "format 2"),
        ({"classes": ("only",)}, "classes"),
        ({"classes": ("a", "b", "c")}, "two-class"),
        ({"positive": 2}, "two-class"),
        ({"task": "regression"}, "regression"),
        ({"score_edges": tuple(k / 32 for k in range(20))}, "20 edges, 19 are allowed"),
        ({"score_edges": (0.5, 0.25)}, "the score: edges must ascend"),
        ({"score_edges": (0.5, 0.5)}, "ascend"),
        ({"score_edges": (0.1,)}, "float32"),
        ({"score_edges": (float("nan"),)}, "float32"),
        ({"score_tensor": None}, "score_tensor"),
    ],
    ids=str,
)
def test_a_layout_that_cannot_be_counted_in_is_refused(
    changes: dict[str, object], complaint: str
) -> None:
    with pytest.raises(ProfileError, match=complaint):
        msgspec.structs.replace(SMALL, **changes)


def test_the_identity_of_a_layout_changes_with_every_part_of_it() -> None:
    first = SMALL.features[0]
    others = [
        msgspec.structs.replace(SMALL, features=(changed, *SMALL.features[1:]))
        for changed in (
            msgspec.structs.replace(first, name="t"),
            msgspec.structs.replace(first, edges=(0.0, 10.0, 20.5)),
            msgspec.structs.replace(first, unit="degF"),
            msgspec.structs.replace(first, centre=9.25),
        )
    ]
    others.append(msgspec.structs.replace(SMALL, classes=("late", "on time")))
    others.append(msgspec.structs.replace(SMALL, score_edges=SMALL.score_edges[1:]))
    assert len({SMALL.profile_id, *(other.profile_id for other in others)}) == 7
    copied = msgspec.json.decode(msgspec.json.encode(SMALL), type=Layout)
    assert copied.profile_id == SMALL.profile_id


def test_every_cell_has_a_name() -> None:
    assert SMALL.features[0].cell_names() == ("≤ 0", "(0, 10]", "(10, 20]", "> 20")
    assert SMALL.features[1].cell_names() == ("5", "6", "7", "other")
    assert SMALL.features[2].cell_names() == ("UA", "AA", "other")


@given(st.floats(width=32) | st.sampled_from(SMALL.score_edges))
def test_a_score_bin_is_the_bin_that_numpy_would_choose(score: float) -> None:
    found = SMALL.score_bin(score)
    if np.isnan(score):
        assert found is None
    else:
        assert found == np.searchsorted(SMALL.score_edges, score, "left")


def test_an_edge_of_the_score_belongs_to_the_bin_below_it() -> None:
    layout = msgspec.structs.replace(SMALL, score_edges=(0.25, 0.5))
    assert layout.score_bins == 3
    found = [layout.score_bin(score) for score in (-1.0, 0.25, 0.375, 0.5, 0.501, 7.0)]
    assert found == [0, 0, 1, 1, 2, 2]


def test_without_edges_all_scores_are_in_one_bin() -> None:
    layout = msgspec.structs.replace(SMALL, score_edges=())
    assert layout.score_bins == 1
    assert (layout.score_bin(0.3), layout.score_bin(float("nan"))) == (0, None)
