"""Tree ensembles inside an ONNX model: their nodes, and which input column a node looks at.

A threshold is where a converted tree goes wrong, so the parity corpus has to stand on it. For
that a node's feature index is followed back to a column of the model's inputs, as long as every
operator in between hands the column on unchanged.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from onnx import numpy_helper

if TYPE_CHECKING:
    from collections.abc import Mapping

    from whimbrel_packager.untyped import Proto

    Array = np.ndarray[Any, Any]

OPERATORS = ("TreeEnsembleClassifier", "TreeEnsembleRegressor", "TreeEnsemble")
_TREES_AT_ONCE = 100
_MAX_DEPTH = 1_000  # a cycle is not a tree
Origin = tuple[str, int]
"""Input name, and column in it."""


@dataclass(frozen=True)
class Ensemble:
    """The nodes of one operator, as parallel arrays of length (nodes,).

    ``tree`` is empty for the newest operator form, whose thresholds are read and paths are not.
    """

    tensor: str
    feature: Array
    threshold: Array
    branch: Array
    tree: Array
    node: Array
    when_true: Array
    when_false: Array
    nan_true: Array

    def reached(self, x: Array) -> Array:
        """Return for each node a row of ``x``, (n, F) float32, that comes past it, or -1."""
        found = np.full(len(self.feature), -1, dtype=np.int64)
        if not len(self.tree) or not len(x):
            return found
        when_true, when_false = self._positions(self.when_true), self._positions(self.when_false)
        _, roots = np.unique(self.tree, return_index=True)
        for some in np.array_split(roots, -(-len(roots) // _TREES_AT_ONCE)):
            at = np.repeat(some, len(x))
            row = np.tile(np.arange(len(x)), len(some))
            for _ in range(_MAX_DEPTH):
                found[at] = row
                inner = self.branch[at]
                at, row = at[inner], row[inner]
                if not len(at):
                    break
                values = x[row, self.feature[at]]
                below = np.where(np.isnan(values), self.nan_true[at], values <= self.threshold[at])
                at = np.where(below.astype(bool), when_true[at], when_false[at])
        return found

    def _positions(self, children: Array) -> Array:
        """Return where in these arrays the child of each node is."""
        wide = int(self.node.max()) + 1
        keys = self.tree * wide + self.node
        order = np.argsort(keys, kind="stable")
        wanted = self.tree * wide + children
        found = np.searchsorted(keys[order], wanted)
        return np.asarray(order[np.minimum(found, len(order) - 1)])


def ensembles(model: Proto) -> list[Ensemble]:
    """Return the tree ensembles of a model's main graph."""
    return [
        read_ensemble(node) if node.op_type != "TreeEnsemble" else _splits(node)
        for node in model.graph.node
        if node.op_type in OPERATORS
    ]


def origins(model: Proto) -> dict[str, list[Origin | None] | None]:
    """Return for each tensor, by column, the input column that it is a copy of.

    None in a list: a column that was computed. None for a list: of unknown width.
    """
    constants = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
    known: dict[str, list[Origin | None] | None] = {}
    for value in model.graph.input:
        dims = value.type.tensor_type.shape.dim
        width = dims[1].dim_value if len(dims) > 1 else 1
        known[value.name] = [(value.name, i) for i in range(width)] if width else None
    for node in model.graph.node:
        outcome = _through(node, known, constants)
        for name in node.output:
            known[name] = outcome
    return known


def _through(
    node: Proto,
    known: Mapping[str, list[Origin | None] | None],
    constants: Mapping[str, Array],
) -> list[Origin | None] | None:
    parts = [known.get(name) for name in node.input]
    first = parts[0] if parts else None
    if node.op_type == "Concat":
        joined: list[Origin | None] = []
        for part in parts:
            if part is None:
                return None
            joined.extend(part)
        return joined
    if node.op_type in {"Identity", "Cast", "Reshape", "Imputer", "Flatten"}:
        # A cast or an imputer leaves every value alone that it does not replace.
        return first
    if node.op_type in {"ArrayFeatureExtractor", "Gather"} and len(node.input) > 1:
        chosen = constants.get(node.input[1])
        if first is None or chosen is None:
            return None
        return [first[int(i)] if -len(first) <= i < len(first) else None for i in chosen.ravel()]
    if node.op_type in {"Scaler", "LabelEncoder", "Normalizer", "Binarizer"}:
        return None if first is None else [None] * len(first)
    if node.op_type == "OneHotEncoder":
        sizes = [len(a.strings) or len(a.ints) for a in node.attribute if "cats_" in a.name]
        return [None] * sizes[0] if sizes and first is not None and len(first) == 1 else None
    return None


def read_ensemble(node: Proto) -> Ensemble:
    """Return the nodes of a TreeEnsembleClassifier or TreeEnsembleRegressor."""
    held = {a.name: a for a in node.attribute}

    # Of millions of nodes `fromiter` reads the lists of protobuf twice as fast as `array`.
    def integers(name: str) -> Array:
        return np.fromiter(held[name].ints if name in held else (), np.int64)

    values = (
        numpy_helper.to_array(held["nodes_values_as_tensor"].t)
        if "nodes_values_as_tensor" in held
        else np.fromiter(held["nodes_values"].floats, np.float32)
    )
    branch = np.fromiter((mode != b"LEAF" for mode in held["nodes_modes"].strings), np.bool_)
    tracks = integers("nodes_missing_value_tracks_true")
    return Ensemble(
        tensor=node.input[0],
        feature=integers("nodes_featureids"),
        threshold=values,
        branch=branch,
        tree=integers("nodes_treeids"),
        node=integers("nodes_nodeids"),
        when_true=integers("nodes_truenodeids"),
        when_false=integers("nodes_falsenodeids"),
        nan_true=tracks if len(tracks) else np.zeros(len(branch), dtype=np.int64),
    )


def _splits(node: Proto) -> Ensemble:
    held = {a.name: a for a in node.attribute}
    splits = numpy_helper.to_array(held["nodes_splits"].t)
    none = np.array([], dtype=np.int64)
    return Ensemble(
        tensor=node.input[0],
        feature=np.array(held["nodes_featureids"].ints, dtype=np.int64),
        threshold=splits,
        branch=np.ones(len(splits), dtype=bool),
        tree=none,
        node=none,
        when_true=none,
        when_false=none,
        nan_true=none,
    )
