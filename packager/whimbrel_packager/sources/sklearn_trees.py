"""Trees of scikit-learn: their thresholds, their path lengths, and where missing values go.

skl2onnx leaves out which branch a missing value takes (sklearn-onnx #1253). Where its own converters
write trees, of boosting and of whatever holds trees in another way, it is put back afterwards.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from whimbrel_packager.conversion import trees
from whimbrel_packager.sources import thresholds

if TYPE_CHECKING:
    from collections.abc import Iterator

    from whimbrel_packager.sources.thresholds import Thresholds
    from whimbrel_packager.untyped import Estimator, Proto

    Array = np.ndarray[Any, Any]

_KINDS = frozenset({"TreeEnsembleClassifier", "TreeEnsembleRegressor"})
_TRACKS = "nodes_missing_value_tracks_true"


def thresholds_of(model: Estimator) -> Thresholds:
    """Return the thresholds of all trees of an estimator, of a pipeline's last one."""
    last = model.steps[-1][1] if hasattr(model, "steps") else model
    found = []
    for nodes in _histogram_nodes(last):
        inner = nodes[nodes["is_leaf"] == 0]
        found.append(thresholds.columns(inner["feature_idx"], inner["num_threshold"]))
    for tree in trees_of(last):
        inner = tree.children_left >= 0
        found.append(thresholds.columns(tree.feature[inner], tree.threshold[inner]))
    return thresholds.joined(found)


def keep_missing_branches(proto: Proto, model: Estimator) -> bool:
    """Tell the converted trees which branch a missing value takes, in place, after converting.

    Returns whether any goes to the left, which is what skl2onnx leaves out.

    skl2onnx leaves it out for forests and single trees, so that a missing value always went to
    the right. A converted tree is recognised by its features and thresholds.
    """
    told = [tree for tree in trees_of(model) if hasattr(tree, "missing_go_to_left")]
    if not any((tree.missing_go_to_left[tree.children_left >= 0] != 0).any() for tree in told):
        return False
    lost = [node for node in proto.graph.node if node.op_type in _KINDS and not _knows(node)]
    if lost:
        known: dict[bytes, list[Array]] = {}
        for tree in told:
            inner = tree.children_left >= 0
            key = _key(tree.feature[inner], floor32(tree.threshold[inner]))
            flags = np.where(inner, tree.missing_go_to_left, 0)
            known.setdefault(key, []).append(flags.astype(np.int64))
        for node in lost:
            _set_missing(node, known)
    return True


def path_lengths(forest: Estimator) -> dict[str, Any]:
    """Return an isolation forest as attributes of one TreeEnsembleRegressor.

    Its leaves hold the path lengths that the forest itself adds up.
    """
    columns: dict[str, list[Any]] = {
        name: []
        for name in (
            "nodes_treeids", "nodes_nodeids", "nodes_featureids", "nodes_modes", "nodes_values",
            "nodes_truenodeids", "nodes_falsenodeids", "nodes_missing_value_tracks_true",
            "target_treeids", "target_nodeids", "target_ids", "target_weights",
        )
    }  # fmt: skip
    for number, member in enumerate(forest.estimators_):
        tree, features = member.tree_, np.asarray(forest.estimators_features_[number])
        inner = tree.children_left >= 0
        leaves = np.flatnonzero(~inner)
        weights = (
            forest._decision_path_lengths[number] + forest._average_path_length_per_tree[number] - 1  # noqa: SLF001 - what its own score is made of
        )
        named = {
            "nodes_treeids": np.full(len(inner), number),
            "nodes_nodeids": np.arange(len(inner)),
            "nodes_featureids": np.where(inner, features[np.where(inner, tree.feature, 0)], 0),
            "nodes_values": np.where(inner, floor32(tree.threshold), 0).astype(np.float64),
            "nodes_truenodeids": np.where(inner, tree.children_left, 0),
            "nodes_falsenodeids": np.where(inner, tree.children_right, 0),
            "nodes_missing_value_tracks_true": np.where(inner, tree.missing_go_to_left, 0),
            "target_treeids": np.full(len(leaves), number),
            "target_nodeids": leaves,
            "target_ids": np.zeros(len(leaves), dtype=np.int64),
            "target_weights": weights[leaves],
        }
        for name, values in named.items():
            columns[name].extend(values.tolist())
        columns["nodes_modes"].extend(np.where(inner, "BRANCH_LEQ", "LEAF").tolist())
    return {**columns, "n_targets": 1, "post_transform": "NONE", "aggregate_function": "SUM"}


def longest_path(forest: Estimator) -> float:
    """Return what the sum of path lengths is divided by: trees × mean depth of the sample."""
    from sklearn.ensemble import _iforest

    average = _iforest._average_path_length([forest._max_samples])[0]  # noqa: SLF001 - of no other name
    return float(len(forest.estimators_) * average) or 1.0


def floor32(values: Array) -> Array:
    """Return the largest float32 numbers that are not above ``values``, (n,) float32."""
    with np.errstate(over="ignore"):
        near = values.astype(np.float32)
    return np.where(near > values, np.nextafter(near, np.float32(-np.inf)), near)


def _knows(node: Proto) -> bool:
    """Return whether a converted tree's branches are there: its converter knows of them."""
    return any(any(attribute.ints) for attribute in node.attribute if attribute.name == _TRACKS)


def _set_missing(node: Proto, known: dict[bytes, list[Array]]) -> None:
    from onnx import helper

    ensemble = trees.read_ensemble(node)
    tracks = ensemble.nan_true.copy()
    for tree in np.unique(ensemble.tree):
        members = np.flatnonzero(ensemble.tree == tree)
        members = members[np.argsort(ensemble.node[members], kind="stable")]
        inner = members[ensemble.branch[members]]
        waiting = known.get(_key(ensemble.feature[inner], ensemble.threshold[inner]))
        if waiting and len(waiting[0]) == len(members):
            # Equal trees are met in the order in which they were converted.
            tracks[members] = waiting.pop(0) if len(waiting) > 1 else waiting[0]
    kept = [attribute for attribute in node.attribute if attribute.name != _TRACKS]
    del node.attribute[:]
    node.attribute.extend([*kept, helper.make_attribute(_TRACKS, tracks.tolist())])


def _key(features: Array, values: Array) -> bytes:
    return features.astype(np.int64).tobytes() + values.astype(np.float32).tobytes()


def _histogram_nodes(model: Estimator) -> Iterator[Array]:
    for estimator in walk(model):
        for stage in getattr(estimator, "_predictors", ()):
            for predictor in stage:
                if "num_threshold" in (predictor.nodes.dtype.names or ()):
                    yield predictor.nodes


def trees_of(model: Estimator) -> Iterator[Any]:
    """Yield the trees (``tree_``) of an estimator and those inside it."""
    for estimator in walk(model):
        tree = getattr(estimator, "tree_", None)
        if tree is not None and hasattr(tree, "children_left"):
            yield tree


def walk(model: Estimator) -> Iterator[Any]:
    """Yield a fitted estimator and those inside it, in the order of fitting."""
    yield model
    for _, step in getattr(model, "steps", ()):
        yield from walk(step)
    for name in ("transformers_", "transformer_list"):
        for _, step, *_ in getattr(model, name, ()):
            if hasattr(step, "__dict__"):
                yield from walk(step)
    for name in ("estimators_", "calibrated_classifiers_"):
        for member in np.asarray(getattr(model, name, ()), dtype=object).ravel():
            if hasattr(member, "__dict__"):
                yield from walk(member)
    for name in ("estimator_", "estimator", "best_estimator_", "regressor_", "final_estimator_"):
        member = getattr(model, name, None)
        if member is not None and hasattr(member, "__dict__") and member is not model:
            yield from walk(member)
