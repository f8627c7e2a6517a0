"""Forests: the trees of any boosting framework in one form, and as one ONNX operator.

A branch here is exact: it says for every number, and for a missing one, which way it goes. The
number line is cut into pieces that go left and right in turn, so that a threshold is one cut, a
set of categories is two cuts for each run of its codes, and "zero counts as missing" is two cuts
around zero. The plain converters know a threshold only, rounded to the nearest float32, which is
where they are silently wrong.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import numpy as np

from whimbrel_packager.sources import thresholds

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from whimbrel_packager.sources.thresholds import Thresholds
    from whimbrel_packager.untyped import Proto

    Float: TypeAlias = type[np.floating[Any]]


OPERATOR = "TreeEnsembleRegressor"  # of ai.onnx.ml 3


class Cut(NamedTuple):
    """Where the number line is cut: in front of a value (``x < value``) or behind it (``<=``)."""

    value: float
    before: bool = False


class Branch(NamedTuple):
    """A node with two children.

    Attributes:
        feature: index of the column that it looks at.
        cuts: ascending; the pieces between them go left and right in turn.
        below: whether the lowest piece goes left.
        missing: whether NaN goes left.
        left: index of the left child in its tree.
        right: likewise.
    """

    feature: int
    cuts: tuple[Cut, ...]
    below: bool
    missing: bool
    left: int
    right: int


class Leaf(NamedTuple):
    """A node without children: what it adds, by target."""

    values: tuple[tuple[int, float], ...]


Tree: TypeAlias = "list[Branch | Leaf]"
"""Nodes; the first is the root."""


class Forest(NamedTuple):
    """Trees whose leaves are added up.

    Attributes:
        trees: of any order.
        base: (targets,) what is added to every row.
        features: number of columns.
    """

    trees: tuple[Tree, ...]
    base: tuple[float, ...]
    features: int

    def thresholds(self) -> Thresholds:
        """Return every cut."""
        return thresholds.listed(
            (node.feature, cut.value)
            for tree in self.trees
            for node in tree
            if isinstance(node, Branch)
            for cut in node.cuts
        )


class Pieces(NamedTuple):
    """Cuts with the side of the lowest piece: two fields of a `Branch`."""

    cuts: tuple[Cut, ...]
    below: bool


def pieces(cuts: Sequence[Cut], left: Sequence[bool]) -> Pieces:
    """Return ascending cuts without those that part pieces of one side.

    Args:
        cuts: (k,) ascending.
        left: (k + 1,) for each piece, from the lowest, whether it goes left.
    """
    kept = [cut for i, cut in enumerate(cuts) if left[i] != left[i + 1]]
    return Pieces(tuple(kept), left[0])


def members(codes: Iterable[int], *, left: bool, lowest: float = 0.0) -> Pieces:
    """Return the pieces of a set of category codes: its members go ``left``, all else does not.

    A number counts as the code below it: 1.5 is 1.

    Args:
        codes: not negative.
        left: whether the members go left, or all else.
        lowest: numbers from here on, not included when negative, count as code 0.
    """
    cuts: list[Cut] = []
    for first, last in _runs(sorted(set(codes))):
        start = Cut(lowest) if first == 0 and lowest < 0 else Cut(float(first), before=True)
        cuts += [start, Cut(float(last + 1), before=True)]
    return Pieces(tuple(cuts), not left)


def _runs(codes: Sequence[int]) -> Iterator[tuple[int, int]]:
    start = 0
    for i, code in enumerate(codes):
        if i + 1 == len(codes) or codes[i + 1] != code + 1:
            yield codes[start], code
            start = i + 1


def node(forest: Forest, source: str, result: str, *, double: bool = False) -> Proto:
    """Return the TreeEnsembleRegressor of a forest: (n, F) → (n, targets) float32.

    Args:
        forest: the trees.
        source: name of the tensor of columns, float32, or float64 if ``double``.
        result: name of the tensor of sums.
        double: as in `attributes`.
    """
    from onnx import helper

    return helper.make_node(
        OPERATOR, [source], [result], domain="ai.onnx.ml", **attributes(forest, double=double)
    )


def attributes(forest: Forest, *, double: bool = False) -> dict[str, Any]:
    """Return the attributes of a forest's `OPERATOR`.

    Args:
        forest: its thresholds are rounded so that every number goes the way it went.
        double: whether it sees float64, and not float32.
    """
    from onnx import numpy_helper

    kind: Float = np.float64 if double else np.float32
    rows = _Rows(forest, kind)
    made: dict[str, Any] = {
        "n_targets": len(forest.base),
        "nodes_treeids": rows.tree,
        "nodes_nodeids": rows.node,
        "nodes_featureids": rows.feature,
        "nodes_modes": rows.mode,
        "nodes_truenodeids": rows.when_true,
        "nodes_falsenodeids": rows.when_false,
        "nodes_missing_value_tracks_true": rows.missing,
        "target_treeids": rows.target_tree,
        "target_nodeids": rows.target_node,
        "target_ids": rows.target,
    }
    numbers = {
        "nodes_values": rows.value,
        "target_weights": rows.weight,
        "base_values": rows.base,
    }
    for name, values in numbers.items():
        if double:
            array = np.array(values, dtype=np.float64)
            made[f"{name}_as_tensor"] = numpy_helper.from_array(array, name)
        else:
            made[name] = [float(v) for v in np.array(values).astype(np.float32)]
    return made


class _Rows:
    """The operator's attributes: parallel lists over nodes and over leaves' values."""

    def __init__(self, forest: Forest, kind: Float) -> None:
        self.tree: list[int] = []
        self.node: list[int] = []
        self.feature: list[int] = []
        self.mode: list[str] = []
        self.value: list[float] = []
        self.when_true: list[int] = []
        self.when_false: list[int] = []
        self.missing: list[int] = []
        self.target_tree: list[int] = []
        self.target_node: list[int] = []
        self.target: list[int] = []
        self.weight: list[float] = []
        self._kind = kind
        # One mode for the whole operator: onnxruntime has a faster loop for that.
        self._before = all(
            bool(node.cuts) and all(cut.before for cut in node.cuts)
            for tree in forest.trees for node in tree if isinstance(node, Branch)
        )  # fmt: skip
        base = list(forest.base)
        grown = []
        for tree in forest.trees:
            root = tree[0]
            if isinstance(root, Leaf):
                for target, value in root.values:
                    base[target] += value
            else:
                grown.append(tree)
        # The operator knows no forest without a branch.
        grown = grown or [_nothing()]
        self.base = [0.0] * len(base)
        if len(base) == 1:
            self.base = base
        else:
            # onnxruntime leaves a target's base out of rows in which no leaf speaks of the target.
            grown[0] = [
                _raised(node, base) if isinstance(node, Leaf) else node for node in grown[0]
            ]
        for index, tree in enumerate(grown):
            self._add(index, tree)

    def _add(self, index: int, tree: Tree) -> None:
        starts, at = [], 0
        for entry in tree:
            starts.append(at)
            at += len(entry.cuts) or 1 if isinstance(entry, Branch) else 1
        for start, entry in zip(starts, tree, strict=True):
            if isinstance(entry, Leaf):
                self._node(index, start)
                for target, value in entry.values:
                    self.target_tree.append(index)
                    self.target_node.append(start)
                    self.target.append(target)
                    self.weight.append(value)
            else:
                self._branch(index, start, entry, starts)

    def _branch(self, index: int, start: int, branch: Branch, starts: Sequence[int]) -> None:
        children = {True: starts[branch.left], False: starts[branch.right]}
        mode = "BRANCH_LT" if self._before else "BRANCH_LEQ"
        side, placed = branch.below, False
        # Without a cut every number goes one way; a missing one may not.
        cuts = branch.cuts or (Cut(math.inf),)
        last = len(cuts) - 1
        for i, cut in enumerate(cuts):
            tracks = side == branch.missing and not placed
            placed = placed or tracks
            following = children[not side] if i == last else start + i + 1
            value = self._rounded(cut)
            self._node(
                index, start + i, feature=branch.feature, mode=mode, value=value,
                when_true=children[side], when_false=following, missing=tracks,
            )  # fmt: skip
            side = not side

    def _rounded(self, cut: Cut) -> float:
        """Return the threshold that parts the numbers of this type as the cut does."""
        with np.errstate(over="ignore"):
            near = float(self._kind(cut.value))
        if self._before:  # x < value: the first number that is not below it
            return near if near >= cut.value else self._next(near, math.inf)
        if near > cut.value or (cut.before and near == cut.value):
            return self._next(near, -math.inf)
        return near

    def _next(self, number: float, towards: float) -> float:
        with np.errstate(over="ignore"):
            return float(np.nextafter(self._kind(number), self._kind(towards)))

    def _node(
        self, tree: int, node: int, *, feature: int = 0, mode: str = "LEAF", value: float = 0.0,
        when_true: int = 0, when_false: int = 0, missing: bool = False,
    ) -> None:  # fmt: skip
        self.tree.append(tree)
        self.node.append(node)
        self.feature.append(feature)
        self.mode.append(mode)
        self.value.append(value)
        self.when_true.append(when_true)
        self.when_false.append(when_false)
        self.missing.append(int(missing))


def _raised(leaf: Leaf, base: Sequence[float]) -> Leaf:
    """Return a leaf that speaks of every target, with the base added to each."""
    values = dict(leaf.values)
    return Leaf(tuple((i, values.get(i, 0.0) + value) for i, value in enumerate(base)))


def _nothing() -> Tree:
    return [Branch(0, (Cut(0.0),), True, True, 1, 2), Leaf(((0, 0.0),)), Leaf(((0, 0.0),))]  # noqa: FBT003
