"""scikit-learn's trees and forests as one tree ensemble, written from their arrays.

skl2onnx walks node by node, which takes minutes for a forest of millions of nodes, and leaves out
which branch a missing value takes. Its own converters stay for what is rare: paths or leaves as
outputs, classes that are neither integers nor words.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from onnx import AttributeProto, NodeProto, TensorProto

from whimbrel_core.errors import ConversionError
from whimbrel_packager.sources.sklearn_nodes import nodes
from whimbrel_packager.sources.sklearn_trees import floor32

if TYPE_CHECKING:
    from collections.abc import Callable

    from whimbrel_packager.sources.sklearn_nodes import Container, Operator, Scope
    from whimbrel_packager.untyped import Estimator, Proto

    Array = np.ndarray[Any, Any]

_BINARY = 2
KINDS = (
    "DecisionTreeClassifier", "DecisionTreeRegressor", "ExtraTreeClassifier", "ExtraTreeRegressor",
    "RandomForestClassifier", "RandomForestRegressor", "ExtraTreesClassifier",
    "ExtraTreesRegressor",
)  # fmt: skip


def converter(plain: Callable[..., None]) -> Callable[..., None]:
    """Return the converter of trees and forests; ``plain`` is skl2onnx's own."""

    def convert(scope: Scope, operator: Operator, container: Container) -> None:
        model = operator.raw_operator
        classes = _labels(model)
        asked = container.get_options(model, {"decision_path": False, "decision_leaf": False})
        if (
            any(asked.values())
            or (classes is None and hasattr(model, "classes_"))
            or (classes is not None and getattr(model, "n_outputs_", 1) != 1)
        ):
            plain(scope, operator, container)
            return
        graph = nodes(scope, operator, container)
        x = graph.joined(operator)
        outputs = [value.full_name for value in operator.outputs]
        double = graph.kind == TensorProto.DOUBLE
        if double:  # trees read float32 in scikit-learn too, whatever comes before them
            x = graph.node("Cast", x, to_type=TensorProto.FLOAT)
            numbers, outputs[-1] = outputs[-1], scope.get_unique_variable_name("own")
        attributes = _ensemble([tree.tree_ for tree in _members(model)], classes)
        _add(scope, container, x, outputs, attributes)
        if double:
            graph.node("Cast", outputs[-1], to=numbers, to_type=TensorProto.DOUBLE)

    return convert


def _members(model: Estimator) -> list[Estimator]:
    return [model] if hasattr(model, "tree_") else list(model.estimators_)


def _labels(model: Estimator) -> Array | None:
    """Return class labels, int64 or words; None when there are none, or others."""
    classes = getattr(model, "classes_", None)
    if not isinstance(classes, np.ndarray):
        return None
    if classes.dtype.kind in "iu":
        return classes.astype(np.int64)
    words = classes.dtype.kind in "OU" and all(isinstance(word, str) for word in classes)
    return classes if words else None


def _ensemble(trees: list[Any], classes: Array | None) -> dict[str, Any]:
    """Return the operator's attributes: parallel arrays over nodes and over leaves' values."""
    counts = [tree.node_count for tree in trees]
    number = np.repeat(np.arange(len(trees)), counts)
    inside = np.concatenate([np.arange(count) for count in counts])
    left = np.concatenate([tree.children_left for tree in trees])
    inner = left >= 0
    right = np.concatenate([tree.children_right for tree in trees])
    threshold = floor32(np.concatenate([tree.threshold for tree in trees]))
    flags = np.concatenate([tree.missing_go_to_left for tree in trees]).astype(np.int64)
    feature = np.concatenate([tree.feature for tree in trees])
    leaves = np.flatnonzero(~inner)
    values = np.concatenate([tree.value.reshape(tree.node_count, -1) for tree in trees])[leaves]
    if classes is not None:
        values = values / values.sum(axis=1, keepdims=True)
    values = values / len(trees)
    if classes is not None and len(classes) == _BINARY:
        # onnxruntime takes one weight a leaf for two classes; of two it gives odd labels.
        values = values[:, 1:]
    width = values.shape[1]
    kind = "target" if classes is None else "class"
    made: dict[str, Any] = {
        "nodes_treeids": number,
        "nodes_nodeids": inside,
        "nodes_featureids": np.where(inner, feature, 0),
        "nodes_modes": np.where(inner, b"BRANCH_LEQ", b"LEAF"),
        "nodes_values": np.where(inner, threshold, 0).astype(np.float32),
        "nodes_truenodeids": np.where(inner, left, 0),
        "nodes_falsenodeids": np.where(inner, right, 0),
        "nodes_missing_value_tracks_true": np.where(inner, flags, 0),
        f"{kind}_treeids": np.repeat(number[leaves], width),
        f"{kind}_nodeids": np.repeat(inside[leaves], width),
        f"{kind}_ids": np.tile(np.arange(width), len(leaves)),
        f"{kind}_weights": values.reshape(-1).astype(np.float32),
        "post_transform": b"NONE",
    }
    if classes is None:
        return {**made, "n_targets": width, "aggregate_function": b"SUM"}
    if classes.dtype.kind == "i":
        return {**made, "classlabels_int64s": classes}
    return {**made, "classlabels_strings": np.array([word.encode() for word in classes])}


def _add(
    scope: Scope, container: Container, x: str, outputs: list[str], attributes: dict[str, Any]
) -> None:
    """Add the node without its arrays, which skl2onnx would copy over and over; see `fill`."""
    kind = "TreeEnsembleRegressor" if "n_targets" in attributes else "TreeEnsembleClassifier"
    name = scope.get_unique_operator_name(kind)
    node = NodeProto(op_type=kind, domain="ai.onnx.ml", name=name, input=[x], output=outputs)
    container.nodes.append(node)
    container.node_domain_version_pair_sets.add(("ai.onnx.ml", 3))
    _WAITING[name] = attributes


_WAITING: dict[str, dict[str, Any]] = {}


def begin() -> None:
    """Forget what an earlier conversion left, one that failed."""
    _WAITING.clear()


def fill(proto: Proto) -> None:
    """Put the arrays of trees into the nodes of a finished model.

    Not with `onnx.helper`, which looks at each of millions of numbers.
    """
    for node in proto.graph.node:
        for key, value in sorted(_WAITING.pop(node.name, {}).items()):
            attribute = node.attribute.add(name=key)
            if isinstance(value, bytes):
                attribute.type, attribute.s = AttributeProto.STRING, value
            elif isinstance(value, int):
                attribute.type, attribute.i = AttributeProto.INT, value
            elif value.dtype.kind == "S":
                attribute.type = AttributeProto.STRINGS
                attribute.strings.extend(value.tolist())
            elif value.dtype.kind == "f":
                attribute.type = AttributeProto.FLOATS
                attribute.floats.extend(value.tolist())
            else:
                attribute.type = AttributeProto.INTS
                attribute.ints.extend(value.tolist())
    if _WAITING:
        raise ConversionError(
            f"skl2onnx lost the trees {', '.join(_WAITING)}",
            hint="tell the authors of Whimbrel, with the version of skl2onnx",
        )
