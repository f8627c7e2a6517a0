"""A branch goes in onnxruntime where it says it goes, for every number."""

from __future__ import annotations

import itertools

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

from whimbrel_packager.sources import forest as forests
from whimbrel_packager.sources.forest import Branch, Cut, Forest, Leaf, members, pieces

LEFT, RIGHT = 1.0, 2.0
ODD = [0.0, 1e-35, -1e-35, 1e-45, 1e300, -1e300, 16777217.0, 0.1, np.inf, -np.inf]
numbers = st.one_of(
    st.sampled_from(ODD[:-2]),
    st.floats(allow_nan=False, allow_infinity=False),
    st.integers(-5, 5).map(float),
    st.floats(width=32, allow_nan=False, allow_infinity=False),
)


@st.composite
def branches(draw: st.DrawFn) -> Branch:
    chosen = draw(st.lists(st.builds(Cut, numbers, st.booleans()), max_size=5))
    cuts = sorted(set(chosen), key=lambda cut: (cut.value, not cut.before))
    return Branch(0, tuple(cuts), draw(st.booleans()), draw(st.booleans()), 1, 2)


def goes_left(branch: Branch, x: float) -> bool:
    """What a branch means."""
    if np.isnan(x):
        return branch.missing
    passed = sum(x >= cut.value if cut.before else x > cut.value for cut in branch.cuts)
    return branch.below ^ bool(passed % 2)


def run(forest: Forest, x: np.ndarray, *, double: bool = False) -> np.ndarray:
    kind = TensorProto.DOUBLE if double else TensorProto.FLOAT
    graph = helper.make_graph(
        [forests.node(forest, "x", "y", double=double)],
        "g",
        [helper.make_tensor_value_info("x", kind, [None, forest.features])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [None, len(forest.base)])],
    )
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid("ai.onnx.ml", 3)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=8)
    onnx.checker.check_model(model)
    session = onnxruntime.InferenceSession(model.SerializeToString())
    return np.asarray(session.run(None, {"x": x})[0])


def around(branch: Branch, kind: type) -> np.ndarray:
    """Numbers of a type at, below and above every cut, and odd ones."""
    values = np.array([cut.value for cut in branch.cuts] + ODD, dtype=np.float64)
    with np.errstate(over="ignore"):
        near: np.ndarray = values.astype(kind)
        beside = [np.nextafter(near, kind(end)) for end in (np.inf, -np.inf)]
    return np.concatenate([near, *beside, np.array([np.nan], kind)])[:, None]


@pytest.mark.parametrize("double", [False, True], ids=["float32", "float64"])
@settings(deadline=None, max_examples=60)
@given(branch=branches())
def test_every_number_goes_where_its_branch_says(branch: Branch, *, double: bool) -> None:
    x = around(branch, np.float64 if double else np.float32)
    forest = Forest(([branch, Leaf(((0, LEFT),)), Leaf(((0, RIGHT),))],), (0.0,), 1)
    expected = [LEFT if goes_left(branch, float(v)) else RIGHT for v in x[:, 0]]
    assert run(forest, x, double=double)[:, 0].tolist() == expected


@given(st.sets(st.integers(0, 12)), st.booleans(), st.floats(-3, 15, width=32))
def test_a_set_of_codes_is_told_from_all_other_numbers(
    codes: set[int], left: bool, x: float
) -> None:
    branch = Branch(0, *members(codes, left=left), missing=False, left=1, right=2)
    inside = int(np.floor(x)) in codes
    assert goes_left(branch, x) == (left if inside else not left)


@given(st.sets(st.integers(0, 5)), st.floats(-3, 7, width=32))
def test_numbers_above_minus_one_can_count_as_code_zero(codes: set[int], x: float) -> None:
    branch = Branch(0, *members(codes, left=True, lowest=-1.0), missing=False, left=1, right=2)
    assert goes_left(branch, x) == (x > -1 and int(x) in codes)


@given(st.lists(st.booleans(), min_size=2, max_size=6), st.floats(-1, 7))
def test_cuts_between_pieces_of_one_side_are_left_out(sides: list[bool], x: float) -> None:
    cuts = [Cut(float(i)) for i in range(len(sides) - 1)]
    made = pieces(cuts, sides)
    assert all(a != b for a, b in itertools.pairwise(made.cuts))
    expected = sides[sum(x > cut.value for cut in cuts)]
    assert goes_left(Branch(0, *made, missing=False, left=1, right=2), x) == expected


def test_trees_of_several_targets_add_up_on_their_bases() -> None:
    branch = Branch(1, (Cut(0.5),), below=True, missing=True, left=1, right=2)
    first: forests.Tree = [branch, Leaf(((0, 1.0), (1, 2.0))), Leaf(((1, 4.0),))]
    alone: forests.Tree = [Leaf(((0, 0.25),))]
    x = np.array([[9, 0], [9, 1], [9, np.nan]], np.float32)
    made = run(Forest((first, alone), (10.0, 20.0), 2), x)
    assert made.tolist() == [[11.25, 22.0], [10.25, 24.0], [11.25, 22.0]]


def test_a_forest_without_branches_is_its_base() -> None:
    made = run(Forest(([Leaf(((0, 3.0),))],), (1.0,), 2), np.zeros((2, 2), np.float32))
    assert made.tolist() == [[4.0], [4.0]]
