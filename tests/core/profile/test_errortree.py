"""Every row ends in one leaf of an error tree, and a flush counts it there."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.core.profile.samples import REGRESSION
from whimbrel_core.errors import ProfileError
from whimbrel_core.profile.counting.accumulator import Accumulator
from whimbrel_core.profile.counting.leaves import Leaves
from whimbrel_core.profile.counting.memberships import Memberships
from whimbrel_core.profile.errortree import MAX_DEPTH, ErrorTree, Split, conditions
from whimbrel_core.profile.layout import Layout
from whimbrel_core.profile.quality.growing import grow, thresholds
from whimbrel_core.profile.window import decode, encode, merge, require_fit

if TYPE_CHECKING:
    from collections.abc import Sequence

    from whimbrel_core.profile.counting.kernel import Kernel

WIDTH = len(REGRESSION.features)
SPECIAL = [float("nan"), float("inf"), float("-inf"), 0.0, -0.0, 1.0, 2.0, 5.0, 1e-45, 3.4e38]
numbers = st.one_of(st.sampled_from(SPECIAL), st.floats(width=32))
finite = st.one_of(
    st.sampled_from([x for x in SPECIAL if np.isfinite(np.float32(x))]),
    st.floats(width=32, allow_nan=False, allow_infinity=False),
).map(lambda x: float(np.float32(x)))


@st.composite
def trees(draw: st.DrawFn) -> ErrorTree:
    """Draw a tree over the features of `REGRESSION`, of any shape that is allowed."""
    spare = draw(st.integers(0, 20))

    def part(depth: int) -> list[Split | None]:
        nonlocal spare
        if not spare or depth == MAX_DEPTH or (depth and not draw(st.booleans())):
            return [None]
        spare -= 1
        split = Split(draw(st.integers(0, WIDTH - 1)), draw(finite))
        return [split, *part(depth + 1), *part(depth + 1)]

    return ErrorTree(tuple(part(0)))


def leaf_of(tree: ErrorTree, row: Sequence[float]) -> int:
    """Return the leaf by going down from the root, as its definition has it."""
    nodes = list(tree.nodes)

    def down(at: int, leaf: int) -> tuple[int, int | None]:
        """Return the end of the part at ``at``, and the leaf where the row is in it."""
        node = nodes[at]
        if node is None:
            return at + 1, leaf
        middle, left = down(at + 1, leaf)
        leaves_left = (middle - at) // 2
        end, right = down(middle, leaf + leaves_left)
        return end, right if row[node.feature] > node.threshold else left

    found = down(0, 0)[1]
    assert found is not None
    return found


def counted(layout: Layout, rows: np.ndarray, kernel: Kernel) -> tuple[int, ...] | None:
    accumulator = Accumulator(layout, kernel=kernel)
    accumulator.update_rows(rows)
    return accumulator.window(0, 1).score_cells


@given(trees(), st.lists(st.tuples(*[numbers] * WIDTH), max_size=80), st.integers(0, 80))
def test_leaves_are_counted_as_row_by_row_whatever_the_values_and_however_they_are_merged(
    tree: ErrorTree, rows: list[tuple[float, ...]], cut: int
) -> None:
    layout = msgspec.structs.replace(REGRESSION, error_tree=tree, slices=())
    table = np.array(rows, np.float32).reshape(-1, WIDTH)
    own = [leaf_of(tree, row) for row in table.tolist()]
    assert Leaves(tree).of(table.T).tolist() == own
    expected = tuple(own.count(leaf) for leaf in range(tree.leaves))
    assert sum(expected) == len(rows)
    windows = []
    for part in (table[:cut], table[cut:]):
        accumulator = Accumulator(layout)
        accumulator.update_rows(part)
        windows.append(accumulator.window(0, 1))
    both = merge(*windows)
    require_fit(both, layout)
    assert both.score_cells == expected
    assert decode(encode(both)).score_cells == expected


@pytest.mark.parametrize("kernel", ["sorted", "plain"])
def test_both_kernels_and_every_flush_count_leaves_and_those_of_slices(kernel: Kernel) -> None:
    rng = np.random.default_rng(3)
    tree = REGRESSION.error_tree
    assert tree is not None
    n = 9001  # two rings and a rest that fills no word
    table = rng.normal(10, 8, (n, WIDTH)).astype(np.float32)
    table[:, 1] = rng.integers(0, 4, n)
    table[rng.random(table.shape) < 0.05] = np.nan
    accumulator = Accumulator(REGRESSION, kernel=kernel)
    for at in range(0, n, 1000):
        accumulator.update_rows(table[at : at + 1000])
    window = accumulator.window(0, 1)
    leaves = np.array([leaf_of(tree, row) for row in table.tolist()])
    assert window.score_cells == tuple(np.bincount(leaves, minlength=tree.leaves).tolist())
    words = np.array([*REGRESSION.features[1].vocabulary, "?"], object)
    places = np.where(np.isnan(table[:, 1]), 0, table[:, 1]).astype(int)
    tensors = {"temp": table[:, 0], "carrier": words[np.minimum(places, len(words) - 1)],
               "delay": table[:, 2]}  # fmt: skip
    tensors["carrier"][np.isnan(table[:, 1])] = None
    bits = np.array(Memberships(REGRESSION).of(tensors, n))
    for index, one in enumerate(window.slices):
        inside = leaves[bits >> index & 1 == 1]
        assert len(inside) == one.rows > 0
        assert one.scores == tuple(np.bincount(inside, minlength=tree.leaves).tolist())


def test_words_that_are_not_known_are_above_all_others_and_missing_ones_are_below() -> None:
    tree = ErrorTree((Split(1, 0.0), Split(1, -1.0), None, None, Split(1, 1.0), None, None))
    layout = msgspec.structs.replace(REGRESSION, error_tree=tree, slices=())
    assert layout.features[1].vocabulary == ("UA", "AA")
    accumulator = Accumulator(layout)
    carrier = np.array(["UA", "AA", "AA", None, "ZZ", "YY", "XX"], object)
    accumulator.update({"carrier": carrier})
    assert accumulator.window(0, 1).score_cells == (1, 1, 2, 3)
    assert conditions(tree, layout.features) == (
        ("carrier = missing",),
        ("carrier = UA",),
        ("carrier = AA",),
        ("carrier = other",),
    )


def test_conditions_of_a_leaf_say_what_its_rows_have_in_common() -> None:
    tree = ErrorTree(
        (Split(0, 9.5), None, Split(2, 1.0), Split(0, 20.0), None, None, Split(1, 0.0), None, None)
    )
    assert conditions(tree, REGRESSION.features) == (
        ("temp ≤ 9.5 or missing",),
        ("9.5 < temp ≤ 20", "delay ≤ 1 or missing"),
        ("20 < temp", "delay ≤ 1 or missing"),
        ("9.5 < temp", "carrier = UA or missing", "1 < delay"),
        ("9.5 < temp", "carrier = AA or other", "1 < delay"),
    )


@pytest.mark.parametrize(
    ("nodes", "message"),
    [
        ((), "ends before"),
        ((Split(0, 0.0), None), "ends before"),
        ((None, None), "goes on"),
        ((Split(0, 0.0), None, None, None), "goes on"),
        ((Split(0, 0.0), None) * 11 + (None,), "10 questions in a row"),
        ((Split(0, 0.0), None) * 64 + (None,), "64 leaves"),
        ((Split(9, 0.0), None, None), "feature 9"),
        ((Split(-1, 0.0), None, None), "feature -1"),
        ((Split(0, 0.1), None, None), "float32"),
        ((Split(0, float("nan")), None, None), "float32"),
        ((Split(0, float("inf")), None, None), "float32"),
    ],
)
def test_what_is_no_tree_of_the_layout_is_refused(
    nodes: tuple[Split | None, ...], message: str
) -> None:
    def changed(tree: object) -> bytes:
        fields = msgspec.to_builtins(REGRESSION)
        return msgspec.msgpack.encode({**fields, "error_tree": {"nodes": tree}})

    whole = msgspec.to_builtins(REGRESSION.error_tree)["nodes"]
    assert msgspec.msgpack.decode(changed(whole), type=Layout) == REGRESSION
    with pytest.raises(ProfileError, match=message):
        msgspec.msgpack.decode(changed(nodes), type=Layout)


def test_a_classification_has_no_error_tree() -> None:
    with pytest.raises(ProfileError, match="belongs to a regression"):
        msgspec.structs.replace(REGRESSION, task="classification", classes=("a", "b"))


def test_a_tree_is_part_of_what_may_be_merged() -> None:
    bare = msgspec.structs.replace(REGRESSION, error_tree=None)
    other = msgspec.structs.replace(REGRESSION, error_tree=ErrorTree((None,)))
    assert len({bare.profile_id, other.profile_id, REGRESSION.profile_id}) == 3
    assert (bare.score_cells, other.score_cells) == (0, 1)


def test_a_tree_grows_to_its_limits_and_no_further() -> None:
    rng = np.random.default_rng(1)
    columns = list(rng.normal(10, 8, (WIDTH, 30_000)).astype(np.float32))
    columns[1] = rng.integers(0, 3, 30_000).astype(np.float32)
    error = np.exp(columns[0] / 8) * (1 + columns[1]) * rng.normal(size=30_000)
    fine = np.unique(rng.normal(10, 8, 90).astype(np.float32))
    numeric = REGRESSION.features[0]
    features = [
        msgspec.structs.replace(numeric, edges=tuple(fine.tolist()), coarse=()),
        REGRESSION.features[1],
        msgspec.structs.replace(REGRESSION.features[2], edges=tuple(fine.tolist()), coarse=()),
    ]
    tree = grow(features, columns, error)
    assert 40 <= tree.leaves <= 64
    rows = np.bincount(Leaves(tree).of(np.stack(columns)), minlength=tree.leaves)
    assert rows.min() >= 100
    for split in tree.nodes:
        if split is not None:
            assert split.threshold in thresholds(features[split.feature])


def test_missing_values_are_told_apart_where_they_matter() -> None:
    rng = np.random.default_rng(1)
    columns = list(rng.normal(10, 8, (WIDTH, 4000)).astype(np.float32))
    columns[1] = rng.integers(0, 3, 4000).astype(np.float32)
    missing = rng.random(4000) < 0.2
    columns[1][missing] = np.nan
    tree = grow(REGRESSION.features, columns, rng.normal(size=4000) * (1 + 9 * missing))
    assert tree.nodes[0] == Split(1, -1.0)
